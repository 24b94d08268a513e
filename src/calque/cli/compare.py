"""`calque compare`: what is asked for, and the calls."""

# ruff: noqa: PLC0415
# PyTorch and matplotlib take seconds to import.

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from calque.config import CalqueError

WIDE = 140
"""Columns of the table where no terminal limits it."""

Files = Annotated[
    list[Path], typer.Argument(metavar="COMPARE.toml...", help="A base recipe and named changes.")
]
Quick = Annotated[bool, typer.Option("--quick", help="The budget of the [quick] table instead.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, metavar="N", help="Trainings at once.  [default: one for each GPU or core]"
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for results.  [default: that of COMPARE.toml; with --quick, of the runs]",
    ),
]
Runs = Annotated[
    Path,
    typer.Option("--runs", metavar="DIR", help="Folder in which each comparison has its own."),
]


def compare(
    files: Files,
    quick: Quick = False,
    jobs: Jobs = None,
    out: Out = None,
    runs: Runs = Path("runs"),
) -> None:
    """Train a recipe and changes of it under one budget, and see which differences are real.

    Several seeds of each, in processes of their own. Broken off and called again, it goes on.
    Exit code 1 if a training failed; the others are in the table.

    \b
    calque compare experiments/paper-table-3/compare.toml
    calque compare experiments/paper-table-3/compare.toml --quick
    """
    from calque.comparison.compare import compare as carry_out
    from calque.comparison.plan import make_plan
    from calque.comparison.trainings import places

    if out and len(files) > 1:
        raise CalqueError("--out is for one COMPARE.toml; results of several lie beside each")
    plans = [make_plan(file, runs, quick) for file in files]
    console, codes = Console(width=None if sys.stdout.isatty() else WIDE), []
    for file, plan in zip(files, plans, strict=True):
        folder = out or (plan.folder if quick else file.parent)
        stem = "results" if file.stem == "compare" else file.stem
        codes.append(carry_out(plan, folder, stem, jobs or places(), console))
        if codes[-1] == 130:
            break
    raise typer.Exit(max(codes))
