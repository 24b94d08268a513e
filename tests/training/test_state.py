"""What a checkpoint holds besides weights, and which checkpoints stay."""

import json
import resource
from contextlib import contextmanager
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from calque.config import CalqueError, parse
from calque.training import loop
from calque.training.loop import train
from calque.training.state import TrainingState, save_if_best, tidy


@pytest.fixture
def run(tmp_path):
    folders = lambda: sorted((tmp_path / "best").glob("step-*"))  # noqa: E731
    return SimpleNamespace(path=tmp_path, best=folders)


def validations(run, scores, keep):
    """The state after validations with these scores, at steps 1, 2, …; and which were the best."""
    state, leads = TrainingState(), []
    for state.step, score in enumerate(scores, start=1):
        leads.append(save_if_best(run, {"w": torch.ones(1)}, state, score, keep))
    return state, leads


def test_best_first_and_of_equals_the_earlier(run):
    state, leads = validations(run, [1, 3, 2, 3, 4, 1], keep=3)
    assert state.best == [(4, 5), (3, 2), (3, 4)]
    assert leads == [True, True, False, False, True, False]
    assert state.without_gain == 1


def test_what_is_surpassed_stays_until_it_is_tidied(run):
    state, _ = validations(run, [1, 2, 3], keep=1)
    names = ["step-00000001", "step-00000002", "step-00000003"]
    assert [folder.name for folder in run.best()] == names
    tidy(run, state)
    assert [folder.name for folder in run.best()] == names[2:]


def test_tidying_removes_what_a_kill_has_left(run):
    left = [
        ".model.safetensors.part",
        "best/.step-00000001.part",
        "checkpoints/.step-00000009.part",
    ]
    for name in left[1:]:
        (run.path / name).mkdir(parents=True)
        (run.path / name / "model.safetensors").touch()
    (run.path / left[0]).touch()
    tidy(run, TrainingState())
    assert {path.name for path in run.path.rglob("*")} == {"best", "checkpoints"}


def test_the_state_comes_back_from_json_as_it_was():
    state = TrainingState(7, 1, 3, 0.1 + 0.2, 99, 5, 1 / 3, 2, [(0.1, 4), (-1e-9, 2)], 2)
    assert parse(TrainingState, json.loads(json.dumps(asdict(state))), "state") == state


@contextmanager
def full_disk(after):
    """No file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_checkpoint_and_no_half(tiny, tmp_path, console, monkeypatch):
    real, out = loop.save_checkpoint, tmp_path / "run"

    def limited(run, stepper, state, config):
        if state.step < 12:
            return real(run, stepper, state, config)
        with full_disk(20_000):
            return real(run, stepper, state, config)

    monkeypatch.setattr(loop, "save_checkpoint", limited)
    message = "step-00000012: cannot be written: File too large; what was saved before"
    with pytest.raises(CalqueError, match=message):
        train(tiny(), out, console)
    assert [folder.name for folder in (out / "checkpoints").iterdir()] == ["step-00000006"]
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    assert loop.resume(out, None, console)


@pytest.mark.parametrize("bytes_left", [0, 300, 5000])
def test_a_full_disk_leaves_no_run_folder(bytes_left, tiny, tmp_path, console, monkeypatch):
    out = tmp_path / "runs" / "run"
    train(tiny(training={"max_steps": 1}), out.with_name("fills-the-cache"), console)
    real = loop.RunFolder.create

    def limited(*arguments, **named):
        with full_disk(bytes_left):
            return real(*arguments, **named)

    monkeypatch.setattr(loop.RunFolder, "create", limited)
    with pytest.raises(CalqueError, match=f"{out}: cannot be written: File too large"):
        train(tiny(), out, console)
    assert [path.name for path in out.parent.iterdir()] == ["fills-the-cache"]
