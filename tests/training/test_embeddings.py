"""Training from vectors: it starts from their rows, frozen ones stay, and a resume is exact."""

from dataclasses import asdict

import pytest
import torch

from calque.checkpoint import RunFolder, load_tensors
from calque.config import CalqueError
from calque.embeddings.vectors import Vectors, hash_of_pieces, sides
from calque.recipe import make_recipe
from calque.training import loop
from calque.training.loop import train
from calque.training.preparation import learn_tokenizers

SOURCE, TARGET = "embedding.source_table.weight", "embedding.target_table.weight"
SEPARATE = {"kind": "words", "vocab_size": 150, "vocabulary": "separate"}
ADAMW = {"optimizer": "adamw", "weight_decay": 0.1, "average": 2, "keep_last": 2}


@pytest.fixture
def vectors(tiny, console, tmp_path):
    """Writes vectors for the sides of a recipe with this tokenizer; their files."""

    def write(tokenizer):
        files = []
        learnt = sides(learn_tokenizers(tiny(tokenizer=tokenizer), console))
        for side, of_side in learnt.items():
            generator = torch.Generator().manual_seed(len(side))
            matrix = 3 * torch.randn(of_side.vocab_size, 16, generator=generator)
            counts = torch.arange(of_side.vocab_size) % 3
            matrix *= (counts > 0)[:, None]
            files.append(str(tmp_path / f"{side}.safetensors"))
            Vectors(matrix, counts, side, "cbow", hash_of_pieces(of_side)).save(
                tmp_path / files[-1]
            )
        return files

    return write


@pytest.fixture
def first_weights(monkeypatch):
    """The weights that each training began with."""
    seen = []
    real = loop.restore_checkpoint

    def restore(run, stepper):
        state = real(run, stepper)
        seen.append({k: v.clone() for k, v in stepper.model.state_dict().items()})
        return state

    monkeypatch.setattr(loop, "restore_checkpoint", restore)
    return seen


@pytest.mark.parametrize("family", ["transformer", "recurrent", "convolutional"])
def test_frozen_tables_stay_and_the_others_move(
    family, tiny, vectors, first_weights, console, tmp_path
):
    source, _ = vectors(SEPARATE)
    training = {"embeddings": source, "freeze_embeddings": True, "max_steps": 8} | ADAMW
    recipe = tiny(tokenizer=SEPARATE, training=training)
    if family != "transformer":
        sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16}
        recipe = make_recipe(asdict(recipe) | {"model": {"family": family} | sizes}, "recipe")
    assert train(recipe, tmp_path / "run", console)
    run = RunFolder(tmp_path / "run")
    assert run.preparation["embeddings"] == {"source": source}
    (before,) = first_weights
    for file in [run.path / "model.safetensors", run.checkpoints()[-1] / "model.safetensors"]:
        after = load_tensors(file)
        same = {name for name in before if torch.equal(before[name], after[name])}
        assert SOURCE in same
        assert TARGET not in same
    assert not run.path.joinpath("initial.safetensors").exists()


def test_tables_start_from_the_vectors_and_move_unless_frozen(
    tiny, vectors, first_weights, console, tmp_path
):
    files = vectors(SEPARATE)
    recipe = tiny(tokenizer=SEPARATE, training={"embeddings": files, "max_steps": 2})
    assert train(recipe, tmp_path / "run", console)
    (before,) = first_weights
    for name, file in ((SOURCE, files[0]), (TARGET, files[1])):
        loaded = load_tensors(tmp_path / file)
        seen = loaded["counts"] > 0
        ratios = before[name][seen] / loaded["vectors"][seen]
        torch.testing.assert_close(ratios, ratios[:1, :1].expand_as(ratios))
    after = load_tensors(tmp_path / "run" / "model.safetensors")
    assert not torch.equal(before[SOURCE], after[SOURCE])
    assert "step 0" not in console.file.getvalue()  # what starts at random is not worth a score


def test_killed_and_resumed_without_the_file_of_vectors(
    tiny, vectors, child, content, never_killed, tmp_path
):
    tokenizer = {"vocab_size": 330}
    (file,) = vectors(tokenizer)
    keys = {"embeddings": file, "freeze_embeddings": True, "max_steps": 12, **ADAMW}
    recipe = tiny(tokenizer=tokenizer, training=keys)
    whole = never_killed(recipe)
    out = tmp_path / "killed"
    assert child(out, recipe, die_at=[["step"], 1]).wait() < 0
    (tmp_path / file).unlink()
    assert child(out, die_at=[["step"], 8]).wait() < 0
    assert child(out).wait() == 0
    assert content(out) == whole


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"freeze_embeddings": True}},
            "freeze_embeddings: without training.embeddings",
        ),
        ({"training": {"embeddings": ["a", "b"]}}, "embeddings: 2 files, but the embedding tables"),
        (
            {"training": {"embeddings": ["a", "b", "c"]}, "tokenizer": {"vocabulary": "separate"}},
            "embeddings: 3 files",
        ),
        ({"training": {"embeddings": 3}}, "embeddings"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, message, tiny):
    with pytest.raises(CalqueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize("wrong", ["missing", "cut off", "other width", "other tokenizer"])
def test_files_that_do_not_fit_leave_nothing_behind(wrong, tiny, vectors, console, tmp_path):
    (file,) = vectors({"vocab_size": 330})
    changes = {"training": {"embeddings": file}}
    if wrong == "missing":
        (tmp_path / file).unlink()
    if wrong == "cut off":
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-9])
    if wrong == "other width":
        changes["model"] = {"d_model": 32}
    if wrong == "other tokenizer":
        changes["tokenizer"] = {"vocab_size": 331}
    with pytest.raises(CalqueError, match=r"^\S+joint\.safetensors: "):
        train(tiny(**changes), tmp_path / "run", console)
    assert not (tmp_path / "run").exists()


def test_fine_tuning_takes_the_embeddings_that_there_are(tiny, vectors, console, tmp_path):
    recipe = tiny(training={"max_steps": 2})
    assert train(recipe, tmp_path / "start", console)
    (file,) = vectors({"vocab_size": 330})
    start = RunFolder(tmp_path / "start")
    with pytest.raises(CalqueError, match=r"takes its embeddings too; leave training\.embeddings"):
        train(tiny(training={"embeddings": file}), tmp_path / "run", console, start)
    assert not (tmp_path / "run").exists()
