"""A run folder: recipe, tokenizer, weights and their hashes in one place; no pickle anywhere.

Whatever becomes visible in it is whole: written beside, flushed to the disk, then renamed.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from calque.config import CalqueError, read_toml
from calque.models.build import build
from calque.models.transformer import Transformer
from calque.recipe import Recipe, make_recipe
from calque.text.tokenizers.pair import Tokenizers

RECIPE, TOKENIZER, MODEL, MANIFEST = (
    "recipe.toml",
    "tokenizer",
    "model.safetensors",
    "manifest.json",
)
PREPARATION, SCORE = "preparation.json", "score.json"
HASHED = (RECIPE, PREPARATION, f"{TOKENIZER}/*", "*.safetensors", "training.json", SCORE)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that appears as `path` when the block ends well, and else not at all.

    Raises CalqueError when the disk is full.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in [f for f in part.rglob("*") if f.is_file()]:
            _flush(file)
        _flush(part)
        part.rename(path)
        _flush(path.parent)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        _explain_full_disk(error, path)
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is either there with all its content, or as it was before."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        _explain_full_disk(error, path)
        raise


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as safetensors."""
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.write_bytes(safetensors.torch.save(owned))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Named tensors from a safetensors file. Raises CalqueError when it is missing or cut off."""
    if not path.is_file():
        raise CalqueError(f"{path}: missing")
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise CalqueError(f"{path}: not a whole safetensors file ({error})") from None


def write_manifest(folder: Path) -> None:
    """Record the SHA-256 of each file of a run folder, or of a checkpoint, that must not change."""
    files = [file for pattern in HASHED for file in sorted(folder.glob(pattern))]
    hashes = {str(file.relative_to(folder)): _sha256(file) for file in files}
    write_whole(folder / MANIFEST, json.dumps({"sha256": hashes}, indent=2).encode())


def check_manifest(folder: Path) -> dict[str, str]:
    """The recorded hashes, once they have been found true of the files.

    Raises CalqueError naming the file that is missing or altered.
    """
    try:
        hashes = json.loads((folder / MANIFEST).read_bytes())["sha256"]
    except FileNotFoundError:
        raise CalqueError(f"{folder}: not a run folder ({MANIFEST} is missing)") from None
    except (ValueError, KeyError):
        raise CalqueError(f"{folder / MANIFEST}: damaged; not the JSON that was written") from None
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
        self.finished = MODEL in hashes
        self.recipe: Recipe = make_recipe(read_toml(path / RECIPE), str(path / RECIPE))
        self.preparation: dict[str, Any] = json.loads((path / PREPARATION).read_bytes())
        self.tokenizers = Tokenizers.load(self.recipe.tokenizer, path / TOKENIZER)

    @classmethod
    def create(
        cls, path: Path, recipe: Recipe, tokenizers: Tokenizers, preparation: Mapping[str, Any]
    ) -> "RunFolder":
        """Begin a run folder; `preparation` tells what became of the data.

        Raises CalqueError when something is there already.
        """
        refuse_occupied(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(path) as part:
            (part / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
            (part / TOKENIZER).mkdir()
            tokenizers.save(part / TOKENIZER)
            (part / PREPARATION).write_text(json.dumps(preparation, indent=2), encoding="utf-8")
            write_manifest(part)
        return cls(path)

    def new_model(self, attention: str = "plain") -> Transformer:
        """The model of the recipe with weights drawn at random."""
        source, target = self.tokenizers.source.vocab_size, self.tokenizers.target.vocab_size
        vocabulary = self.recipe.tokenizer.vocabulary
        return build(self.recipe.model, source, target, vocabulary=vocabulary, attention=attention)

    def load_model(self, attention: str = "plain") -> Transformer:
        """The model with its best weights; while training is under way, the best so far."""
        model = self.new_model(attention)
        load_weights(model, self.weights())
        return model

    def weights(self) -> Path:
        """The file of the best weights. Raises CalqueError when nothing has been saved yet."""
        if self.finished:
            return self.path / MODEL
        saved = self.best() or self.checkpoints()
        if not saved:
            raise CalqueError(f"{self.path}: no weights yet; training has not saved a checkpoint")
        check_manifest(saved[-1])
        return saved[-1] / MODEL

    def checkpoints(self) -> list[Path]:
        """Folders of the last checkpoints, oldest first."""
        return sorted(self.path.glob("checkpoints/step-*"))

    def best(self) -> list[Path]:
        """Folders of the best checkpoints, worst first."""
        saved = self.path.glob("best/step-*")
        return sorted(saved, key=lambda f: json.loads((f / SCORE).read_bytes())["score"])

    def publish(self, weights: Mapping[str, Tensor]) -> None:
        """Put the weights that the run is to be used with at the top of its folder."""
        owned = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_whole(self.path / MODEL, safetensors.torch.save(owned))
        write_manifest(self.path)
        self.finished = True


def refuse_occupied(path: Path) -> None:
    """Raise CalqueError when `path` is a file, or a folder with anything in it."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        held = "a run" if (path / RECIPE).is_file() else "something else"
        raise CalqueError(f"{path}: already holds {held}; choose another folder, or --resume it")


def load_weights(model: Transformer, path: Path) -> None:
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
    """The mean of several checkpoints' weights, each parameter by itself, in float64."""
    total = {name: tensor.double() for name, tensor in load_tensors(files[0]).items()}
    for file in files[1:]:
        for name, tensor in load_tensors(file).items():
            total[name] += tensor
    dtypes = {name: tensor.dtype for name, tensor in load_tensors(files[0]).items()}
    return {name: (tensor / len(files)).to(dtypes[name]) for name, tensor in total.items()}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain_full_disk(error: BaseException, path: Path) -> None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise CalqueError(
            f"{path}: the disk is full; what was saved before is still whole"
        ) from None
