"""The course of one training or of several: what they wrote into metrics.jsonl."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calque.checkpoint import METRICS
from calque.config import CalqueError

SERIES = ("loss", "valid_loss", "valid_bleu", "learning_rate", "tokens_per_second")


def training(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """Of each run its name and its SERIES, each a list of [step, value].

    Raises CalqueError for a run without a record of its training, or with a damaged line in it.
    """
    return [_course(run) for run in runs]


def _course(run: Path) -> dict[str, Any]:
    path = run / METRICS
    if not path.is_file():
        raise CalqueError(f"{path}: missing; this run has no record of a training")
    series: dict[str, list[Any]] = {name: [] for name in SERIES}
    *lines, last = path.read_bytes().split(b"\n")
    if last.endswith(b"}"):  # else a training that is under way has written half of it
        lines.append(last)
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            for name in SERIES:
                if name in record:
                    series[name].append([record["step"], record[name]])
        except (ValueError, KeyError, TypeError):
            raise CalqueError(f"{path}:{number}: damaged; not the JSON that was written") from None
    return {"name": run.resolve().name, "series": series}
