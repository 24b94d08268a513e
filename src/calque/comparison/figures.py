"""Pictures of a comparison, by matplotlib."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from calque.comparison.results import Breakdown, Number, Row
from calque.writing import whole_file

LOOKS = {
    "better": ("#0072b2", "^", "BLEU significantly better than the base's"),
    "worse": ("#d55e00", "v", "significantly worse"),
    "not significant": ("#6b7280", "o", "no significant difference"),
    "": ("#1f2937", "D", "base"),
}
"""Colour (of Okabe and Ito, who chose them for all eyes), mark and meaning of each verdict."""
INK, RULE = "#1f2937", "#e5e7eb"
DPI = 150


def overview(path: Path, rows: Sequence[Row], title: str) -> None:
    """BLEU, perplexity and speed of all rows that have results, side by side."""
    shown = [row for row in rows if row.metric]
    figure = Figure(figsize=(11, 1.5 + 0.32 * len(shown)), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[2, 1, 1])
    _bleu(axes[0], shown)
    _points(axes[1], shown, lambda row: row.perplexity, "validation perplexity, log scale")
    axes[1].set_xscale("log")
    ticks = _round_ticks(*axes[1].get_xlim())
    axes[1].set_xticks(ticks, [f"{tick:.6g}" for tick in ticks])
    axes[1].set_xticks([], minor=True)
    _points(axes[2], shown, lambda row: row.training_rate, "training tokens/s")
    axes[2].set_xlim(0, 1.05 * axes[2].dataLim.x1)
    axes[2].xaxis.set_major_locator(MaxNLocator(4))
    axes[2].xaxis.set_major_formatter("{x:,.0f}")
    axes[0].set_yticks(range(len(shown)), [row.name for row in shown])
    axes[0].set_ylim(len(shown) - 0.5, -0.5)
    figure.suptitle(title, fontsize=10, color=INK)
    marks = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    meanings = [meaning for _, _, meaning in LOOKS.values() if meaning in marks]
    figure.legend(
        [marks[meaning] for meaning in meanings],
        meanings,
        loc="outside lower center",
        ncols=len(LOOKS),
        frameon=False,
        fontsize=8,
    )
    _save(figure, path)


def heat(path: Path, breakdown: Breakdown) -> None:
    """A cell for each row and part, its number in it."""
    rows, parts = list(breakdown.values), breakdown.parts
    values = np.array([[breakdown.values[row][part] for part in parts] for row in rows])
    figure = Figure(figsize=(2.5 + 0.95 * len(parts), 1.6 + 0.3 * len(rows)), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(values, cmap="cividis", vmin=0, aspect="auto")
    ax.set_xticks(range(len(parts)), parts, rotation=30, ha="right", fontsize=8)
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    bright = np.asarray(image.norm(values), dtype=float)
    for row, column in np.ndindex(values.shape):
        value, colour = values[row, column], INK if bright[row, column] > 0.55 else "white"
        ax.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=8)
    # Of the figure: over few columns, the axes are narrower than a title.
    figure.suptitle(f"{breakdown.title}  (number of lines)", fontsize=9, color=INK)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    _save(figure, path)


def _bleu(ax: Axes, rows: Sequence[Row]) -> None:
    """A point with its interval, and a small one for each seed."""
    named = set()
    for place, row in enumerate(rows):
        colour, mark, meaning = LOOKS[row.verdict]
        low, high = row.metric.low, row.metric.high  # type: ignore[union-attr]
        ax.plot([low, high], [place, place], color=colour, linewidth=1.5)
        ax.plot(
            row.bleu.mean,  # type: ignore[union-attr]
            place,
            mark,
            color=colour,
            markersize=7,
            label=None if meaning in named else meaning,
        )
        if len(row.by_seed) > 1:
            ax.plot(row.by_seed, [place] * len(row.by_seed), "|", color=colour, markersize=10)
        named.add(meaning)
    ax.axvline(rows[0].bleu.mean, color=INK, linewidth=0.8, linestyle=":")  # type: ignore[union-attr]
    several = any(len(row.by_seed) > 1 for row in rows)
    seeds = "; strokes are seeds" if several else ""
    _label(ax, f"BLEU, with 95 % interval{seeds}")


def _points(
    ax: Axes, rows: Sequence[Row], number: Callable[[Row], Number | None], label: str
) -> None:
    for place, row in enumerate(rows):
        if found := number(row):
            colour, mark, _ = LOOKS[row.verdict]
            ax.errorbar(found.mean, place, xerr=found.spread, fmt=mark, color=colour, markersize=6)
    _label(ax, label)


def _round_ticks(low: float, high: float) -> list[float]:
    """Some round numbers between two, for a logarithmic axis."""
    if high < 4 * low:
        ticks = MaxNLocator(4).tick_values(low, high)
    else:
        ticks = LogLocator(subs=(1, 2, 5), numticks=99).tick_values(low, high)
    within = [float(tick) for tick in ticks if low <= tick <= high]
    return within[:: -(-len(within) // 6)]


def _label(ax: Axes, text: str) -> None:
    ax.set_xlabel(text, fontsize=9, color=INK)
    ax.tick_params(labelsize=8, length=0)
    ax.grid(color=RULE)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as part:
        figure.savefig(part, dpi=DPI, format="png")
