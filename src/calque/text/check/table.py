"""A report as tables to read."""

from collections import defaultdict

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from calque.text.check.findings import MAX_EXAMPLES
from calque.text.check.report import KINDS, Example, Finding, Report

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def render(report: Report, console: Console) -> None:
    """Print the sizes of the splits, a row for each kind of finding, and what follows from it."""
    console.print(_sizes(report))
    for split in report.splits:
        for reason, count in split.left_out.items():
            console.print(Text(f"{split.name}: {count:,} left out: {reason}"))
    if any(split.findings for split in report.splits):
        console.print(_findings(report))
    else:
        console.print("Nothing was found to be wrong.")
    if report.refused:
        who = "Evaluation" if report.refused_splits == ["test"] else "Training"
        console.print(f"{who} would refuse this data.", style=STYLES["error"])


def _sizes(report: Report) -> Table:
    table = Table("split", box=box.SIMPLE)
    for name in ("pairs", "source words", "characters", "target words", "characters"):
        table.add_column(name, justify="right")
    for split in report.splits:
        source, target = split.source, split.target
        numbers = [split.pairs, source.words, source.characters, target.words, target.characters]
        table.add_row(split.name, *(f"{number:,}" for number in numbers))
    return table


def _findings(report: Report) -> Table:
    table = Table("", box=box.SIMPLE, leading=1)
    for split in report.splits:
        table.add_column(split.name, justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold")
    rows: defaultdict[tuple[int, str], dict[str, Finding]] = defaultdict(dict)
    for split in report.splits:
        for finding in split.findings:
            rows[finding.rank][split.name] = finding
    for _, found in sorted(rows.items()):
        counts = [f"{found[s.name].count:,}" if s.name in found else "" for s in report.splits]
        severity = next(iter(found.values())).severity
        table.add_row(Text(severity, STYLES[severity]), *counts, _description(list(found.values())))
    return table


def _description(found: list[Finding]) -> Text:
    """What was found, and the first examples from all splits beneath it."""
    kind, side = found[0].kind, found[0].side
    title = f"{side}: {KINDS[kind][1]}" if side else KINDS[kind][1]
    examples = [example for finding in found for example in finding.examples]
    return Text("\n").join([Text(title, "bold"), *map(_line, examples[:MAX_EXAMPLES])])


def _line(example: Example) -> Text:
    return Text.assemble((example.place, "cyan"), "  " if example.place else "", example.text)
