"""Tables of results: in Markdown, in CSV, and between the marks of README.md."""

import argparse
import csv
import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DATA = HERE.parents[1] / "shared" / "data" / "multi30k"
"""Where Multi30k lies in a checkout that has the project's data beside it."""

Row = Mapping[str, str | float]


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark is told: how many threads, and where to write."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--threads", type=int, default=cores or 1, help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for results; README.md shows the default"
    )


def add_pair(parser: argparse.ArgumentParser, name: str, files: str) -> None:
    """An option --`name` for the two files of a parallel corpus."""
    default = [DATA / f"{files}.en", DATA / f"{files}.de"]
    parser.add_argument(
        f"--{name}",
        type=Path,
        nargs=2,
        default=default,
        metavar=("SOURCE", "TARGET"),
        help="default: Multi30k, English to German",
    )


def require(parser: argparse.ArgumentParser, *files: Path) -> None:
    """End with a message if a file is not there."""
    for file in files:
        if not file.is_file():
            parser.error(f"{file}: there is no such file")


def publish(
    name: str,
    description: str,
    tables: Mapping[str, Sequence[Row]],
    out: Path,
    plot: str | None = None,
) -> None:
    """Write tables, by their captions, as `name`.md and .csv, print them, and show them in README.

    The first table is the one in the CSV. `plot` names a picture that lies beside.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = [f"{date.today():%Y-%m-%d}. {description}."]
    for caption, rows in tables.items():
        parts += [caption] * bool(caption) + [markdown(rows)]
    if plot:
        parts.append(f"![{name}](results/{plot})")
    text = "\n\n".join(parts) + "\n"
    (out / f"{name}.md").write_text(text.replace("(results/", "("), encoding="utf-8")
    rows = next(iter(tables.values()))
    with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns(rows))
        writer.writeheader()
        writer.writerows(rows)
    if out == RESULTS:
        readme = HERE / "README.md"
        readme.write_text(between(readme.read_text("utf-8"), name, text), encoding="utf-8")
    print(text)


def between(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.S)
    found = pattern.search(page)
    if not found:
        raise ValueError(f"no {begin} and {end} on the page")
    return f"{page[: found.start()]}{begin}\n\n{text}\n{end}{page[found.end() :]}"


def columns(rows: Sequence[Row]) -> list[str]:
    """All keys, in the order in which they come up."""
    return list(dict.fromkeys(key for row in rows for key in row))


def markdown(rows: Sequence[Row]) -> str:
    """A table; numbers stand to the right, with three digits that say something."""
    names = columns(rows)
    numeric = [any(not isinstance(row.get(name, ""), str) for row in rows) for name in names]
    rule = ["---:" if right else "---" for right in numeric]
    lines = [names, rule, *([cell(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: str | float) -> str:
    """A value for a reader."""
    if isinstance(value, str):
        return value
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """How many times theirs is ours, round by round: the median, the least and the most."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def grouped(rows: Sequence[Row], by: str, what: str) -> dict[str, dict[str, float]]:
    """What each contender reached, by the groups that the column `by` names."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(str(row[by]), {})[str(row["contender"])] = float(row[what])
    return found
