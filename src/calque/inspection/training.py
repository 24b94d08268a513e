"""The course of one training or of several: what they wrote into metrics.jsonl."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calque.config import CalqueError

METRICS = "metrics.jsonl"
SERIES = ("loss", "valid_loss", "valid_bleu", "learning_rate", "tokens_per_second")


def training(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Of each run its name and its SERIES, each a list of [step, value].

    Raises CalqueError for a run without a record of its training, or one that is damaged.
    """
    return [_course(run) for run in runs]


def _course(run: Path) -> dict[str, Any]:
    path = run / METRICS
    if not path.is_file():
        raise CalqueError(f"{path}: missing; this run has no record of a training")
    # A training that is under way may have written half of its last line.
    lines = [line for line in path.read_text("utf-8").splitlines() if line.endswith("}")]
    try:
        records = [json.loads(line) for line in lines]
        series = {name: [[r["step"], r[name]] for r in records if name in r] for name in SERIES}
    except (ValueError, KeyError, TypeError):
        raise CalqueError(f"{path}: damaged; not the JSON Lines that were written") from None
    return {"name": run.resolve().name, "series": series}
