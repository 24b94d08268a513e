"""The run folder: whole or absent, and whatever is not as it was written is named."""

import json
import re
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from calque import checkpoint, writing
from calque.checkpoint import (
    MODEL,
    RunFolder,
    average,
    check_manifest,
    load_tensors,
    load_weights,
    save_tensors,
    write_manifest,
)
from calque.config import CalqueError
from calque.models.build import SLOTS
from calque.recipe import make_recipe
from calque.text.tokenizers.frequent import Words
from calque.text.tokenizers.interface import SpecialIds
from calque.text.tokenizers.pair import Tokenizers
from calque.writing import whole_file, whole_folder

PAIRS = [("a small dog runs", "ein kleiner Hund rennt"), ("the cat sleeps", "die Katze schläft")]
FILES = ["recipe.toml", "tokenizer/source.json", "preparation.json", "model.safetensors"]


def recipe(**model):
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 8, "d_ff": 8}
    corpus = {"source": "a", "target": "b", "trees": "c"}
    return make_recipe(
        {
            "data": {"train": [corpus], "valid": [corpus]},
            "tokenizer": {"kind": "words", "vocab_size": 10, "vocabulary": "separate"},
            "model": {**sizes, "num_heads": 2, **model},
        },
        "recipe",
    )


def weights(run, seed=1):
    torch.manual_seed(seed)
    return run.new_model().state_dict()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run."""
    path = tmp_path_factory.mktemp("made") / "run"
    chosen = recipe()
    tokenizers = Tokenizers.train(chosen.tokenizer, lambda: iter(PAIRS))
    run = RunFolder.create(path, chosen, tokenizers, {"train": {"pairs": 2}})
    run.publish(weights(run))
    return path


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def keep(folder, kind, step, score, tensors):
    """Put a checkpoint into a run folder."""
    with whole_folder(folder / kind / f"step-{step:08d}") as part:
        save_tensors(part / MODEL, tensors)
        (part / "score.json").write_text(json.dumps({"score": score, "step": step}))
        write_manifest(part)


@contextmanager
def full_disk(after):
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("slot", SLOTS)
def test_every_part_is_saved_and_loaded(slot, tmp_path):
    for name in SLOTS[slot]:
        chosen = recipe(**{slot: name})
        tokenizers = Tokenizers.train(chosen.tokenizer, lambda: iter(PAIRS))
        made = RunFolder.create(tmp_path / name, chosen, tokenizers, {})
        made.publish(weights(made))
        loaded = RunFolder(tmp_path / name).load_model()
        assert loaded.state_dict().keys() == weights(made).keys()
        for key, tensor in weights(made).items():
            assert torch.equal(loaded.state_dict()[key], tensor)


def test_weights_of_another_part_are_refused(tmp_path):
    tokenizers = Tokenizers.train(recipe().tokenizer, lambda: iter(PAIRS))
    made = RunFolder.create(tmp_path / "run", recipe(output="biased"), tokenizers, {})
    made.publish(weights(made))
    model = RunFolder.create(tmp_path / "other", recipe(), tokenizers, {}).new_model()
    with pytest.raises(CalqueError, match=r"output\.bias is .*, expected absent"):
        load_weights(model, tmp_path / "run" / MODEL)


def test_a_vocabulary_learnt_elsewhere_tells_the_model_its_ids(tmp_path, monkeypatch):
    special = SpecialIds(pad=9, unk=1, bos=9, eos=0)
    monkeypatch.setattr(Words, "special", special)
    tokenizers = Tokenizers.train(recipe().tokenizer, lambda: iter(PAIRS))
    made = RunFolder.create(tmp_path / "run", recipe(), tokenizers, {})
    config = made.new_model().config
    assert SpecialIds(config.pad_id, 1, config.bos_id, config.eos_id) == special


def test_what_is_loaded_is_what_was_saved(run):
    folder = RunFolder(run)
    assert folder.recipe == recipe()
    assert folder.preparation == {"train": {"pairs": 2}}
    assert folder.finished
    (line,) = folder.tokenizers.source.encode(["a small cat"])
    assert folder.tokenizers.source.decode([line]) == ["a small cat"]
    loaded = folder.load_model().state_dict()
    for name, tensor in weights(folder).items():
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["removed", "cut off", "altered"])
def test_a_damaged_file_is_named(name, damage, run):
    file = run / name
    whole = bytearray(file.read_bytes())
    if damage == "removed":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(whole[:-1])
    else:
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole)
    expected = "missing" if damage == "removed" else "altered or damaged"
    with pytest.raises(CalqueError, match=f"{re.escape(str(file))}: {expected}"):
        RunFolder(run)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "3", "{}", '{"sha256": 3}', "\x80", '{"sha256": [[1, 2]]}', "[" * 100_000],
)
def test_a_damaged_manifest_is_named(content, run):
    (run / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(CalqueError, match=r"manifest\.json: damaged"):
        RunFolder(run)


@pytest.mark.parametrize("make", ["nothing", "a file", "a folder"])
def test_what_is_no_run_folder_is_refused(make, tmp_path):
    path = tmp_path / "other"
    if make == "a file":
        path.touch()
    elif make == "a folder":
        path.mkdir()
    with pytest.raises(CalqueError, match=f"{re.escape(str(path))}: not a run folder"):
        RunFolder(path)


def test_the_tokenizer_of_another_run_is_refused(run):
    pairs = [(target, source) for source, target in PAIRS]
    other = Tokenizers.train(recipe().tokenizer, lambda: iter(pairs))
    other.save(run / "tokenizer")
    with pytest.raises(CalqueError, match=r"tokenizer/source\.\w+: altered or damaged"):
        RunFolder(run)


def test_the_weights_of_another_model_are_refused(run):
    folder = RunFolder(run)
    wider = RunFolder.create(
        run.with_name("wider"), recipe(d_ff=12), folder.tokenizers, folder.preparation
    )
    wider.publish(weights(wider))
    with pytest.raises(CalqueError, match=r"not the weights of this model .*\(12.*expected \(8"):
        load_weights(folder.new_model(), wider.path / MODEL)


def test_weights_that_lack_one_are_refused(run, tmp_path):
    folder = RunFolder(run)
    tensors = weights(folder)
    name, _ = tensors.popitem()
    save_tensors(tmp_path / MODEL, tensors)
    with pytest.raises(CalqueError, match=f"{re.escape(name)} is absent"):
        load_weights(folder.new_model(), tmp_path / MODEL)


@pytest.mark.parametrize("content", [b"", b"12345678", b"\xff" * 100])
def test_what_are_no_tensors_is_refused(content, tmp_path):
    (tmp_path / MODEL).write_bytes(content)
    with pytest.raises(CalqueError, match=f"{re.escape(str(tmp_path / MODEL))}: not a whole"):
        load_tensors(tmp_path / MODEL)


def test_best_weights_stand_in_until_the_run_is_published(made, tmp_path):
    whole = RunFolder(made)
    run = RunFolder.create(tmp_path / "run", whole.recipe, whole.tokenizers, whole.preparation)
    with pytest.raises(CalqueError, match="no weights yet"):
        run.weights()
    keep(run.path, "checkpoints", 40, 0, weights(run, 40))
    assert run.weights().parent.name == "step-00000040"
    for step, score in ((10, -3.0), (20, -1.0), (30, -1.0), (40, -2.0)):
        keep(run.path, "best", step, score, weights(run, step))
    steps = [int(folder.name.removeprefix("step-")) for folder in run.best()]
    assert steps == [10, 40, 30, 20]  # worst first; of equals the earlier is the better
    assert run.weights().parent.name == "step-00000020"
    run.publish(weights(run, 3))
    assert RunFolder(run.path).weights() == run.path / MODEL


def test_a_best_that_is_replaced_while_it_is_read_is_no_damage(made, tmp_path, monkeypatch):
    whole = RunFolder(made)
    run = RunFolder.create(tmp_path / "run", whole.recipe, whole.tokenizers, whole.preparation)
    later = weights(run, seed=2)
    keep(run.path, "best", 1, 0.1, weights(run))

    def replaced(folder):
        monkeypatch.undo()
        shutil.rmtree(folder)
        keep(run.path, "best", 2, 0.2, later)
        return check_manifest(folder)

    monkeypatch.setattr(checkpoint, "check_manifest", replaced)
    loaded = run.load_model().state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in later.items())


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"score": "x"}', '{"score": null}'])
def test_a_damaged_score_is_named(content, run):
    keep(RunFolder(run).path, "best", 10, 1.0, weights(RunFolder(run), 10))
    (run / "best" / "step-00000010" / "score.json").write_text(content)
    with pytest.raises(CalqueError, match=r"step-00000010/score\.json: damaged"):
        RunFolder(run).best()


def test_publishing_what_was_altered_in_the_meantime_is_refused(run):
    folder = RunFolder(run)
    (run / "recipe.toml").write_text((run / "recipe.toml").read_text() + "# mine\n")
    before = (run / MODEL).read_bytes()
    with pytest.raises(CalqueError, match=r"recipe\.toml: altered"):
        folder.publish(weights(folder, 2))
    assert (run / MODEL).read_bytes() == before


def test_the_average_is_the_mean_of_each_weight(tmp_path):
    for step, value in ((1, 1.0), (2, 2.0), (3, 6.0)):
        tensors = {"a": torch.full((2, 3), value), "b": -torch.ones(1)}
        keep(tmp_path, "checkpoints", step, 0, tensors)
    mean = average([folder / MODEL for folder in sorted((tmp_path / "checkpoints").iterdir())])
    assert torch.equal(mean["a"], torch.full((2, 3), 3.0))
    assert torch.equal(mean["b"], -torch.ones(1))
    (tmp_path / "checkpoints" / "step-00000002" / MODEL).write_bytes(b"else")
    with pytest.raises(CalqueError, match="step-00000002"):
        average([folder / MODEL for folder in sorted((tmp_path / "checkpoints").iterdir())])


@pytest.mark.parametrize("occupied_by", ["a run", "something else", "a file"])
def test_nothing_is_overwritten(occupied_by, run, tmp_path):
    folder, path = RunFolder(run), tmp_path / "new"
    if occupied_by == "a run":
        path = run
    elif occupied_by == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "thesis.txt").write_text("mine")
    with pytest.raises(CalqueError, match=f"{re.escape(str(path))}: already holds"):
        RunFolder.create(path, folder.recipe, folder.tokenizers, {})
    assert check_manifest(run)
    assert not list(tmp_path.glob(".*"))


def test_a_folder_below_a_file_is_refused(run, tmp_path):
    folder = RunFolder(run)
    for place in (run / MODEL / "new", run / MODEL / "a" / "b"):
        with pytest.raises(CalqueError, match=f"new|b: cannot be made: {run / MODEL} is no folder"):
            RunFolder.create(place, folder.recipe, folder.tokenizers, {})


def test_an_empty_folder_is_taken_and_the_current_one_is_not(run, tmp_path, monkeypatch):
    folder = RunFolder(run)
    (tmp_path / "empty").mkdir()
    made = RunFolder.create(tmp_path / "empty", folder.recipe, folder.tokenizers, {})
    assert not RunFolder(made.path).finished
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (Path(), tmp_path / "here"):
        with pytest.raises(CalqueError, match="is the current folder"):
            RunFolder.create(path, folder.recipe, folder.tokenizers, {})


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "folder"
    with pytest.raises(ZeroDivisionError), whole_folder(path) as part:
        (part / "one").write_text("1")
        assert not path.exists()
        print(1 / 0)
    assert not list(path.parent.iterdir())
    (path.parent / ".folder.part").mkdir()  # left by a kill
    (path.parent / ".folder.part" / "old").touch()
    with whole_folder(path) as part:
        (part / "one").write_text("1")
    assert [file.name for file in path.iterdir()] == ["one"]
    assert [file.name for file in path.parent.iterdir()] == ["folder"]


def test_a_folder_that_is_there_stays_as_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with (
        pytest.raises(CalqueError, match="folder: cannot be written"),
        whole_folder(tmp_path / "folder") as part,
    ):
        (part / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]


def test_a_file_is_as_it_was_when_writing_fails(tmp_path):
    file = tmp_path / "file"
    file.write_text("before")
    with pytest.raises(ZeroDivisionError), whole_file(file) as part:
        part.write_text("half")
        print(1 / 0)
    assert file.read_text() == "before"
    with whole_file(file) as part:
        part.write_text("after")
    assert file.read_text() == "after"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("bytes_left", [0, 100, 1000])
def test_a_full_disk_is_told_and_leaves_what_was_there(bytes_left, run, tmp_path):
    folder = RunFolder(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    said = "cannot be written: File too large; what was saved before is still whole"
    with full_disk(bytes_left):
        with pytest.raises(CalqueError, match=f"{MODEL}: {said}"):
            folder.publish(weights(folder, 2))
        with pytest.raises(CalqueError, match=f"new: {said}"):
            RunFolder.create(tmp_path / "new", folder.recipe, folder.tokenizers, {"x": "y" * 999})
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [run]


def test_no_space_is_told_by_name(tmp_path):
    with pytest.raises(CalqueError, match="No space left on device"), whole_file(tmp_path / "x"):
        raise OSError(28, "No space left on device")


def test_everything_is_flushed_before_it_appears(run, tmp_path, monkeypatch):
    flushed, path, real = [], tmp_path / "folder", writing._flush
    monkeypatch.setattr(
        writing, "_flush", lambda file: (flushed.append((file.name, path.exists())), real(file))
    )
    with whole_folder(path) as part:
        (part / "inner").mkdir()
        (part / "inner" / "one").write_text("1")
    assert sorted(flushed[:3]) == [(".folder.part", False), ("inner", False), ("one", False)]
    assert flushed[3:] == [(tmp_path.name, True)]
