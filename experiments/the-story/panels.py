"""Kinds of panels that figures are made of."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#6b7280", "#b8860b")
MARKS = "o^sDvP"
INK, RULE = "#1f2937", "#e5e7eb"
RAMP = LinearSegmentedColormap.from_list("ramp", ["#fbfaf7", "#8fb8d8", "#0b3c5d"])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#d55e00", "#fbfaf7", "#0072b2"])
Numbers = Mapping[float, float]
FAMILIES = {  # row of the comparison: name in the figure, colour (of Okabe and Ito), mark
    "GRU, no attention": ("GRU, no attention", "#6b7280", "v"),
    "GRU, scaled dot": ("GRU, attention", "#d55e00", "^"),
    "convolutional": ("convolutional", "#009e73", "s"),
    "Transformer": ("Transformer", "#0072b2", "o"),
}


def label(ax: Axes, x: str, y: str, title: str = "") -> None:
    """Names of the axes and of the panel."""
    ax.set_xlabel(x, fontsize=9, color=INK)
    ax.set_ylabel(y, fontsize=9, color=INK)
    ax.set_title(title, loc="left", fontsize=9.5, color=INK)
    ax.tick_params(labelsize=8, length=0)
    ax.spines[["top", "right"]].set_visible(False)


def lines(ax: Axes, series: Mapping[str, Numbers], x: str, y: str, title: str = "") -> None:
    """A line for each, from zero."""
    styles = {name: style for name, *style in FAMILIES.values()}
    for i, (name, points) in enumerate(series.items()):
        colour, mark = styles.get(name, (COLOURS[i], MARKS[i]))
        ax.plot([*points], [*points.values()], f"{mark}-", color=colour, label=name, markersize=4)
    ax.set_ylim(bottom=0)
    ax.grid(color=RULE)
    if len(series) > 1:
        ax.legend(frameon=False, fontsize=8)
    label(ax, x, y, title)


def bars(ax: Axes, values: Mapping[str, float], what: str, title: str, digits: int = 1) -> None:
    """A bar for each, with its number; the first is what the others are compared with."""
    colours = [COLOURS[0], *["#94a3b8"] * (len(values) - 1)]
    drawn = ax.barh([*values], [*values.values()], color=colours, height=0.7)
    ax.bar_label(drawn, [f"{x:,.{digits}f}" for x in values.values()], padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.margins(x=0.16)
    label(ax, what, "", title)
    ax.set_xticks([])
    ax.spines["bottom"].set_visible(False)


def heat(
    ax: Axes, values: np.ndarray, title: str, numbers: bool = False, signed: bool = False
) -> None:
    """A cell for each number; signed ones around zero."""
    limit = np.abs(values).max()
    ramp = {"cmap": SIGNED, "vmin": -limit, "vmax": limit} if signed else {"cmap": RAMP}
    image = ax.imshow(values, aspect="auto", **ramp)
    dark = np.abs(np.asarray(image.norm(values), dtype=float) - 0.5 * signed) > 0.6 - 0.2 * signed
    for (row, column), value in np.ndenumerate(values) if numbers else ():
        colour = "white" if dark[row, column] else INK
        ax.text(column, row, f"{value:.2g}", ha="center", va="center", color=colour, fontsize=8)
    label(ax, "", "", title)
    ax.spines[:].set_visible(False)


def words(ax: Axes, keys: Sequence[str], queries: Sequence[str]) -> None:
    """What the columns and the rows of a heat map are."""
    ax.set_xticks(range(len(keys)), keys, fontsize=8)
    ax.set_yticks(range(len(queries)), queries, fontsize=8)
