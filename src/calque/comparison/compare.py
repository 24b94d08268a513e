"""`calque compare`: plan, train, measure, write."""

import csv
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from calque.comparison.figures import heat, overview
from calque.comparison.kept import Kept
from calque.comparison.measures import MEASURES
from calque.comparison.measuring import EvaluationSet, Measured, measure
from calque.comparison.plan import Plan, Run
from calque.comparison.progress import Board
from calque.comparison.results import HEADERS, Breakdown, Row, Value, break_down, make_row
from calque.comparison.trainings import train_all
from calque.config import CalqueError
from calque.writing import whole_file


def compare(plan: Plan, out: Path, stem: str, at_once: int, console: Console) -> int:
    """Train and measure what is not yet measured, and write `stem`.csv, .md and .png into `out`.

    What is measured is kept in `stem`.jsonl.gz beside them. The exit code: 0, or 1 when a run
    failed, or 130 when training was interrupted; then there is no table. Raises CalqueError when a
    folder of a run is damaged or another comparison's, or the file of what was kept is.
    """
    test, kept = EvaluationSet.read(plan), Kept(out / f"{stem}.jsonl.gz")
    problems: dict[Run, str] = {}
    if not _train_and_measure(plan, test, kept, problems, at_once, console):
        console.print("interrupted; the same command goes on", highlight=False)
        return 130
    measured: dict[str, list[Measured]] = {row: [] for row in plan.rows}
    for run in plan.runs:
        if run in kept:
            measured[run.row].append(kept[run])
    with console.status("scoring"):
        rows = _rows(plan, measured, test, problems)
        language = plan.recipe.data.target_language
        breakdowns = [
            break_down(name, MEASURES[name], measured, test, language) for name in plan.measures
        ]
    _write(plan, rows, breakdowns, measured, out, stem)
    _print(rows, breakdowns, console)
    console.print(f"wrote {out / stem}.csv, .md and .png", highlight=False, soft_wrap=True)
    return 1 if problems else 0


def _train_and_measure(
    plan: Plan,
    test: EvaluationSet,
    kept: Kept,
    problems: dict[Run, str],
    at_once: int,
    console: Console,
) -> bool:
    """Keep what is measured, and fill in the problems; whether training came to its end."""
    todo = [run for run in plan.runs if run not in kept]

    def measure_one(run: Run, place: int = 0) -> None:
        number = torch.cuda.device_count()
        device = f"cuda:{place % number}" if number else "cpu"
        try:
            kept.add(run, measure(run, test, device))
        except CalqueError as error:
            problems[run] = str(error)

    with Board(plan.runs, console) as board:
        for run in plan.runs:
            if run in kept:
                board.tell(run, "measured before")
        failed, ended = train_all(todo, at_once, board, plan.folder, measure_one)
    problems |= failed
    with console.status("measuring") as status:  # those that had been trained before
        for run in todo if ended else []:
            if run not in kept and run not in problems:
                status.update(f"measuring {run.row}, seed {run.seed}")
                measure_one(run)
    return ended


def _rows(
    plan: Plan,
    measured: Mapping[str, Sequence[Measured]],
    test: EvaluationSet,
    problems: Mapping[Run, str],
) -> list[Row]:
    said = {
        row: "; ".join(f"seed {r.seed} failed: {m}" for r, m in problems.items() if r.row == row)
        for row in plan.rows
    }
    base, language = plan.rows[0], plan.recipe.data.target_language
    return [
        make_row(
            row, measured[row], None if row == base else measured[base], test, language, said[row]
        )
        for row in plan.rows
    ]


def _write(
    plan: Plan,
    rows: Sequence[Row],
    breakdowns: Sequence[Breakdown],
    measured: Mapping[str, Sequence[Measured]],
    out: Path,
    stem: str,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    _write_csv(out / f"{stem}.csv", [row.flat() for row in rows])
    text = [_description(plan, measured), _markdown(HEADERS, [row.cells() for row in rows])]
    text += [f"{row.name}: {row.problem}" for row in rows if row.problem]
    if any(row.metric for row in rows):
        overview(out / f"{stem}.png", rows, plan.name)
        text.append(f"![{plan.name}]({stem}.png)")
    for breakdown in breakdowns:
        if not breakdown.values:
            continue
        named = f"{stem}-{breakdown.name.replace('_', '-')}"
        picture = f"{named}.png"
        heat(out / picture, breakdown)
        _write_csv(out / f"{named}.csv", breakdown.flat())
        text += [f"## {breakdown.title}", _markdown(*_cells(breakdown))]
        text.append(f"![{breakdown.title}]({picture})")
    with whole_file(out / f"{stem}.md") as part:
        part.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _write_csv(path: Path, rows: Sequence[Mapping[str, Value]]) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _description(plan: Plan, measured: Mapping[str, Sequence[Measured]]) -> str:
    seeds = dict.fromkeys(run.seed for run in plan.runs)
    limits = [f"{plan.budget.steps:,} steps"] if plan.budget.steps else []
    limits += [f"{plan.budget.minutes:g} minutes"] if plan.budget.minutes else []
    hours = sum(m.seconds for runs in measured.values() for m in runs) / 3600
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "one core each"
    return (
        f"{date.today():%Y-%m-%d}. {plan.name}: {' or '.join(limits)} of training, seeds "
        f"{', '.join(map(str, seeds))}; {hours:.2f} hours of training in all, on {device}; PyTorch "
        f"{torch.__version__}."
    )


def _print(rows: Sequence[Row], breakdowns: Sequence[Breakdown], console: Console) -> None:
    tables = [(None, HEADERS, [row.cells() for row in rows])]
    tables += [(b.title, *_cells(b)) for b in breakdowns if b.values]
    for title, headers, cells in tables:
        table = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0), title_justify="left")
        for number, header in enumerate(headers):
            right = number > 0 and header != "verdict"
            justify = "right" if right else "left"
            table.add_column(header, justify=justify, overflow="fold", no_wrap=number == 0)
        for row in cells:
            table.add_row(*(cell.replace(" ± ", "\n± ") for cell in row))
        console.print(table)
    for row in rows:
        if row.problem:
            console.print(
                f"{row.name}: {row.problem}", highlight=False, markup=False, soft_wrap=True
            )


def _cells(breakdown: Breakdown) -> tuple[list[str], list[list[str]]]:
    """Headers and rows."""
    cells = [
        [row, *(f"{values[part]:.1f}" for part in breakdown.parts)]
        for row, values in breakdown.values.items()
    ]
    return ["change", *breakdown.parts], cells


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in headers[1:])]
    lines = [headers, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
