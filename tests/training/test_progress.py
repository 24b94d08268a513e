"""What training says: the share that is done, the time that is left, and the log."""

import io
import json

import pytest
from rich.console import Console

from calque.config import CalqueError
from calque.recipe import TrainingConfig
from calque.training.progress import Report, clock, progress
from calque.training.state import TrainingState
from calque.training.step import StepResult


@pytest.mark.parametrize(
    ("max_minutes", "step", "seconds", "share", "left"),
    [
        (None, 0, 0.0, 0.0, 0.0),
        (None, 250, 100.0, 0.25, 300.0),
        (None, 1000, 400.0, 1.0, 0.0),
        (10.0, 250, 100.0, 0.25, 300.0),  # the steps will be done first
        (2.0, 250, 100.0, 100 / 120, 20.0),  # the time will be up first
        (1.0, 250, 100.0, 1.0, 0.0),
    ],
)
def test_share_and_time_left(max_minutes, step, seconds, share, left):
    config = TrainingConfig(max_steps=1000, max_minutes=max_minutes)
    found = progress(TrainingState(step=step, seconds=seconds), config)
    assert found == pytest.approx((share, left))


def test_clock():
    assert [clock(s) for s in (0, 59.9, 61, 3600, 36_061)] == [
        "0:00",
        "0:59",
        "1:01",
        "1:00:00",
        "10:01:01",
    ]


def report(folder, step=0):
    return Report(
        folder, TrainingConfig(), TrainingState(step=step), Console(file=io.StringIO(), width=120)
    )


def test_what_lies_beyond_the_checkpoint_is_forgotten(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (50, 100, 150)]
    metrics.write_text("".join(lines) + '{"step": 200, "lo')  # killed while it wrote
    report(tmp_path, step=100).close()
    assert metrics.read_text() == "".join(lines[:2])


@pytest.mark.parametrize("line", [b'{"a": 1}', b"[]", b"\xff\xfe\0", b'{"step": "x"}', b"17"])
def test_a_line_that_was_altered_is_left_out(tmp_path, line):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(b'{"step": 50}\n' + line + b'\n{"step": 100}\n')
    report(tmp_path, step=100).close()
    assert metrics.read_text() == '{"step": 50}\n{"step": 100}\n'


def test_a_training_without_checkpoint_starts_its_log_anew(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 50}\n')
    report(tmp_path).close()
    assert metrics.read_text() == ""


def test_loss_is_the_mean_over_the_tokens_since_the_last_line(tmp_path):
    said = report(tmp_path)
    state = TrainingState()
    for _ in range(100):
        tokens = 2 if state.step < 50 else 4
        result = StepResult(9.0, float(state.step), tokens, 0.1, 1.0, None, False)
        state.count(result)
        said.stepped(state, result)
    said.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert first["loss"] == pytest.approx(sum(range(50)) / 100)
    assert second["loss"] == pytest.approx(sum(range(50, 100)) / 200)


def test_a_log_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    said = report(tmp_path)
    (tmp_path / "metrics.jsonl").mkdir()
    state = TrainingState(step=50, recent_tokens=1)
    with pytest.raises(CalqueError, match=r"metrics\.jsonl: cannot be written: Is a directory"):
        said.stepped(state, StepResult(9.0, 0.0, 4, 0.1, 1.0, None, False))
    said.close()
