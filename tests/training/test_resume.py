"""A training that is killed and resumed ends as the one that was never killed: bit by bit."""

import json
import os
import signal
from pathlib import Path

import pytest

from calque.config import CalqueError
from calque.training.loop import resume, train

THOROUGH = {
    "tokenizer": {"sampling": 0.1},
    "training": {
        "precision": "bf16",
        "batch_tokens": 300,
        "accumulation": 2,
        "validate_every": 4,
        "save_every": 5,
        "keep_best": 2,
        "keep_last": 2,
        "average": 2,
        "stop_on": "bleu",
        "patience": 6,
    },
}
PLAIN = {
    "tokenizer": {"kind": "words", "vocab_size": 200, "vocabulary": "separate"},
    "training": {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine"},
}
TIMES = ("seconds", "tokens_per_second")


def content(run: Path) -> dict[str, object]:
    """Everything that a run folder holds, apart from times and TensorBoard's files."""
    files = [file for file in run.rglob("*") if file.is_file() and "tensorboard" not in file.parts]
    return {str(file.relative_to(run)): _content(file, run) for file in files}


def _content(file: Path, run: Path) -> object:
    if file.name == "metrics.jsonl":
        return [_without_times(json.loads(line)) for line in file.read_text().splitlines()]
    if file.name == "training.json":
        return _without_times(json.loads(file.read_text()))
    if file.name == "manifest.json" and file.parent != run:  # it has the hash of training.json
        return None
    return file.read_bytes()


def _without_times(record):
    return {key: value for key, value in record.items() if key not in TIMES}


@pytest.fixture
def live(child, tmp_path):
    """Lets a run begin, or go on, until it ends or dies; its exit code."""

    def live(name, recipe, **job):
        out = tmp_path / name
        return child(out, None if out.exists() else recipe, **job).wait()

    return live


DEATHS = {
    "while the run folder is made": [
        {"die_at": [["flush"], 2]},
        {"die_at": [["rename"], 1]},
        {"die_at": [["step"], 1]},
    ],
    "between saved steps": [{"die_at": [["step"], number]} for number in (4, 9, 9, 7)],
    "while it validates, saves and removes": [
        {"die_half_written": 1},
        {"die_half_written": 3},
        {"die_at": [["validation"], 2]},
        {"die_at": [["flush"], 7]},
        {"die_at": [["replace"], 4]},
        {"die_at": [["rename"], 3]},
        {"die_at": [["remove"], 2]},
        {"die_at": [["unlink"], 3]},
    ],
    "while it publishes": [
        {"die_at": [["publish"], 1]},
        {"die_at": [["validation"], 1, "publish"]},
        {"die_at": [["flush"], 1, "publish"]},
        {"die_at": [["replace"], 1, "publish"]},
        {"die_at": [["replace"], 2, "publish"]},
    ],
}


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
def test_killed_again_and_again(deaths, live, tiny, tmp_path):
    recipe = tiny(**THOROUGH)
    assert live("whole", recipe) == 0
    for death in deaths:
        assert live("killed", recipe, **death) == -signal.SIGKILL, death
    assert live("killed", recipe) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
