"""Where the trainings of a comparison stand, on the terminal."""

from collections.abc import Sequence
from typing import Self

from rich.box import SIMPLE
from rich.console import Console
from rich.live import Live
from rich.table import Table

from calque.checkpoint import METRICS
from calque.comparison.plan import Run
from calque.inspection.training import training

WAITING = "waiting"


class Board:
    """A table, a row for each change and a column for each seed; plain lines in a file."""

    def __init__(self, runs: Sequence[Run], console: Console) -> None:
        self.console, self.runs = console, runs
        self.states: dict[Run, str] = {}
        self.validated: dict[Run, tuple[float, ...]] = {}
        self.live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def tell(self, run: Run, state: str) -> None:
        """A training is in another state."""
        self.states[run] = state
        self._show(run, state)

    def look_at(self, run: Run) -> None:
        """A training may have come farther."""
        if not (run.folder / METRICS).exists():
            return
        (course,) = training([run.folder])
        series = course["series"]
        records = series["loss"] + series["valid_bleu"]
        if not records:
            return
        at = f"step {max(step for step, _ in records):,} of {run.recipe.training.max_steps:,}"
        if scores := series["valid_bleu"]:
            at += f", BLEU {scores[-1][1]:.1f}"
        self.states[run] = at
        known = self.validated.get(run, ())
        self.validated[run] = tuple(scores[-1]) if scores else ()
        # In a file, a line for each validation; the table shows every step that is recorded.
        if self.live.is_started or self.validated[run] != known:
            self._show(run, at)

    def _show(self, run: Run, state: str) -> None:
        if self.live.is_started:
            self.live.update(self._table(), refresh=True)
        elif state != WAITING:
            line = f"{run.row}, seed {run.seed}: {state}"
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> Table:
        seeds = list(dict.fromkeys(run.seed for run in self.runs))
        table = Table("change", *(f"seed {seed}" for seed in seeds), box=SIMPLE, pad_edge=False)
        for row in dict.fromkeys(run.row for run in self.runs):
            table.add_row(row, *(self.states.get(r, "") for r in self.runs if r.row == row))
        return table
