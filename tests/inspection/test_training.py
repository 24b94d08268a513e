"""Courses are what was recorded; a record that is missing or damaged is an error that names it."""

import json
from pathlib import Path

import pytest

from calque.config import CalqueError
from calque.inspection.training import SERIES, training

RECORDS = [
    {"step": 0, "epoch": 0, "valid_loss": 9.0, "valid_perplexity": 8103.1, "valid_bleu": 0.0},
    {"step": 50, "loss": 5.0, "learning_rate": 0.1, "gradient_norm": 1.0, "tokens_per_second": 9.5},
    {"step": 100, "loss": 4.0, "learning_rate": 0.2, "gradient_norm": 1.0, "tokens_per_second": 9},
    {"step": 100, "valid_loss": 3.0, "valid_perplexity": 20.1, "valid_bleu": 12.5},
]


def record(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_series_are_read_by_step(tmp_path: Path) -> None:
    text = "".join(json.dumps(r) + "\n" for r in RECORDS)
    (course,) = training([record(tmp_path / "a", text)])
    assert course["name"] == "a"
    assert course["series"] == {
        "loss": [[50, 5.0], [100, 4.0]],
        "valid_loss": [[0, 9.0], [100, 3.0]],
        "valid_bleu": [[0, 0.0], [100, 12.5]],
        "learning_rate": [[50, 0.1], [100, 0.2]],
        "tokens_per_second": [[50, 9.5], [100, 9]],
    }


def test_a_last_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(r) for r in RECORDS)
    (course,) = training([record(tmp_path / "a", text[:-8])])
    assert course["series"]["valid_loss"] == [[0, 9.0]]


def test_runs_come_in_their_order_and_may_be_empty(tmp_path: Path) -> None:
    runs = [record(tmp_path / name, "") for name in "ba"]
    assert [course["name"] for course in training(runs)] == ["b", "a"]
    assert training(runs)[0]["series"] == {name: [] for name in SERIES}


@pytest.mark.parametrize("last", ["", json.dumps(RECORDS[-1])[:-8], json.dumps(RECORDS[-1])])
@pytest.mark.parametrize(
    "damaged", ["{nonsense}", '{"loss": 1}', "[1", "", "3", '{"step": 50, "lo', '{"step": "\xff"}']
)
def test_a_damaged_line_is_named(tmp_path: Path, damaged: str, last: str) -> None:
    run = record(tmp_path / "a", "")
    text = "\n".join([json.dumps(RECORDS[0]), damaged, last])
    (run / "metrics.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(CalqueError, match=r"a/metrics\.jsonl:2: damaged"):
        training([run])


def test_a_run_without_a_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalqueError, match=r"metrics\.jsonl: missing"):
        training([tmp_path])
