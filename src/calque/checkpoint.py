"""A run folder: recipe, tokenizer, weights and their hashes in one place; no pickle anywhere."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from calque.config import CalqueError, read_toml
from calque.models.build import Model, build
from calque.recipe import Recipe, make_recipe
from calque.text.tokenizers.pair import Tokenizers
from calque.writing import whole_file, whole_folder

RECIPE, TOKENIZER, MODEL, MANIFEST = (
    "recipe.toml",
    "tokenizer",
    "model.safetensors",
    "manifest.json",
)
PREPARATION, SCORE, METRICS = "preparation.json", "score.json", "metrics.jsonl"
INITIAL = "initial.safetensors"
"""Weights that a training starts from, until it has ended; not in a run that started from none."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors. Raises OSError when the disk is full."""
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        safetensors.torch.save_file(owned, path)
    except SafetensorError as error:
        if number := re.search(r"os error (\d+)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None
        raise


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors from a safetensors file. Raises CalqueError when it is missing or cut off."""
    if not path.is_file():
        raise CalqueError(f"{path}: missing")
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise CalqueError(f"{path}: not a whole safetensors file ({error})") from None


def write_manifest(folder: Path) -> None:
    """Record the SHA-256 of every file that a folder holds."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    _write_hashes(folder, {str(file.relative_to(folder)): _sha256(file) for file in files})


def recorded_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, in hex, as the manifest has it.

    Raises CalqueError when there is no manifest, or none that was written here.
    """
    try:
        return dict(json.loads((folder / MANIFEST).read_bytes())["sha256"].items())
    except (FileNotFoundError, NotADirectoryError):
        raise CalqueError(f"{folder}: not a run folder ({MANIFEST} is missing)") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CalqueError(f"{folder / MANIFEST}: damaged; not the JSON that was written") from None


def check_manifest(folder: Path) -> dict[str, str]:
    """The recorded hashes, once they have been found true of the files.

    Raises CalqueError as `recorded_hashes` does, or naming the file that is missing or altered.
    """
    hashes = recorded_hashes(folder)
    for name, recorded in hashes.items():
        file = folder / name
        if not file.is_file():
            raise CalqueError(f"{file}: missing, though {MANIFEST} lists it")
        if _sha256(file) != recorded:
            raise CalqueError(f"{file}: altered or damaged; its SHA-256 is not that in {MANIFEST}")
    return hashes


class RunFolder:
    """One training's folder, whose files are as they were written."""

    def __init__(self, path: Path) -> None:
        """Open a run folder. Raises CalqueError when a file is missing, cut off or altered."""
        self.path = path
        hashes = check_manifest(path)
        for name in (RECIPE, PREPARATION):
            if name not in hashes:
                raise CalqueError(f"{path / MANIFEST}: damaged; it does not list {name}")
        self.finished = MODEL in hashes
        self.initial = path / INITIAL if INITIAL in hashes else None
        self.recipe: Recipe = make_recipe(read_toml(path / RECIPE), str(path / RECIPE))
        self.preparation: dict[str, Any] = json.loads((path / PREPARATION).read_bytes())
        self.tokenizers = Tokenizers.load(self.recipe.tokenizer, path / TOKENIZER)

    @classmethod
    def create(
        cls,
        path: Path,
        recipe: Recipe,
        tokenizers: Tokenizers,
        preparation: Mapping[str, Any],
        weights: Mapping[str, Tensor] | None = None,
        initial: Mapping[str, Tensor] | None = None,
    ) -> "RunFolder":
        """Begin a run folder; `preparation` tells what became of the data.

        With `weights`, it is the folder of a finished run; `initial` ones are those that training
        starts from. Raises CalqueError when something is there already, or when it cannot be
        written.
        """
        refuse_occupied(path)
        with whole_folder(path.resolve()) as part:
            (part / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
            (part / TOKENIZER).mkdir()
            tokenizers.save(part / TOKENIZER)
            (part / PREPARATION).write_text(json.dumps(preparation, indent=2), encoding="utf-8")
            for name, tensors in ((MODEL, weights), (INITIAL, initial)):
                if tensors is not None:
                    save_tensors(part / name, tensors)
            write_manifest(part)
        return cls(path)

    def new_model(self, attention: str = "plain") -> Model:
        """The model of the recipe with weights drawn at random."""
        return new_model(self.recipe, self.tokenizers, attention)

    def load_model(self, attention: str = "plain") -> Model:
        """The model with its best weights; while training is under way, the best so far."""
        model = self.new_model(attention)
        while True:
            listed = self._saved()
            try:
                load_weights(model, self.weights())
                return model
            except CalqueError:
                # A training may have replaced what was listed before it was read.
                if listed == self._saved():
                    raise

    def weights(self) -> Path:
        """The file of the best weights. Raises CalqueError when nothing has been saved yet."""
        if self.finished:
            return self.path / MODEL
        saved = self.best() or self.checkpoints()
        if not saved:
            raise CalqueError(f"{self.path}: no weights yet; training has not saved a checkpoint")
        check_manifest(saved[-1])
        return saved[-1] / MODEL

    def _saved(self) -> set[Path]:
        return set(self.path.glob("*/step-*"))

    def checkpoints(self) -> list[Path]:
        """Folders of the last checkpoints, oldest first."""
        return sorted(self.path.glob("checkpoints/step-*"))

    def best(self) -> list[Path]:
        """Folders of the best checkpoints, worst first; of equals the earlier is the better.

        Raises CalqueError when a score cannot be read.
        """
        newest_first = sorted(self.path.glob("best/step-*"), reverse=True)
        return sorted(newest_first, key=_score)

    def publish(self, weights: Mapping[str, Tensor]) -> None:
        """Put the weights to use at the top of the folder; the initial ones are forgotten.

        Raises CalqueError when a file of the folder is no longer as it was written.
        """
        hashes = check_manifest(self.path)
        with whole_file(self.path / MODEL) as part:
            save_tensors(part, weights)
        hashes.pop(INITIAL, None)
        _write_hashes(self.path, {**hashes, MODEL: _sha256(self.path / MODEL)})
        self.finished = True
        self.forget_initial()

    def forget_initial(self) -> None:
        """Remove the weights that a finished training started from."""
        (self.path / INITIAL).unlink(missing_ok=True)


def new_model(recipe: Recipe, tokenizers: Tokenizers, attention: str = "plain") -> Model:
    """The model of a recipe with weights drawn at random."""
    special, vocabulary = tokenizers.special, recipe.tokenizer.vocabulary
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    ids = {"pad_id": special.pad, "bos_id": special.bos, "eos_id": special.eos}
    return build(recipe.model, *sizes, vocabulary=vocabulary, attention=attention, **ids)


def refuse_occupied(path: Path) -> None:
    """Raise CalqueError unless a folder can be made at `path`; it may be there, if it is empty."""
    if path.resolve() == Path.cwd():
        raise CalqueError(f"{path}: is the current folder; name one that can be made")
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        held = "a run" if (path / RECIPE).is_file() else "something else"
        raise CalqueError(f"{path}: already holds {held}; choose another folder")
    above = next(folder for folder in path.resolve().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise CalqueError(f"{path}: cannot be made: {above} is no folder to write into")


def load_weights(model: Model, path: Path) -> None:
    """Fill a model. Raises CalqueError when the weights are another model's."""
    weights = load_tensors(path)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CalqueError(
                f"{path}: not the weights of this model and tokenizer: {name} is "
                f"{found.get(name, 'absent')}, expected {expected.get(name, 'absent')}"
            )
    model.load_state_dict(weights)


def average(files: list[Path]) -> dict[str, Tensor]:
    """The mean of several checkpoints' weights, each parameter by itself, in float64.

    Raises CalqueError when a checkpoint is not as it was written.
    """
    total: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    for file in files:
        check_manifest(file.parent)
        weights = load_tensors(file)
        total = {name: total.get(name, 0) + tensor.double() for name, tensor in weights.items()}
    return {name: (total[name] / len(files)).to(tensor.dtype) for name, tensor in weights.items()}


def _score(checkpoint: Path) -> float:
    file = checkpoint / SCORE
    try:
        return float(json.loads(file.read_bytes())["score"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CalqueError(f"{file}: damaged; not the JSON that was written") from None


def _write_hashes(folder: Path, hashes: Mapping[str, str]) -> None:
    with whole_file(folder / MANIFEST) as part:
        part.write_text(json.dumps({"sha256": hashes}, indent=2), encoding="utf-8")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
