"""What a checkpoint holds besides weights, and which checkpoints stay."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from calque.config import parse
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
