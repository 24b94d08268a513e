"""Pictures of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS, OTHERS = "#1b6ca8", ("#b5651d", "#6b7280", "#94a3b8", "#a78bfa", "#cbd5e1")
MARKS = "os^Dv<>"  # of lines, for whom the colours are alike
INK, RULE = "#1f2937", "#e5e7eb"


@dataclass(frozen=True)
class Panel:
    """Lines over one axis, by contender."""

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    decades: bool
    """Whether what is measured spans several; else its axis is even, and begins at zero."""


def bars(path: Path, panels: Mapping[str, Mapping[str, float]], what: str) -> None:
    """A panel of horizontal bars for each group; ours, whose names begin so, stand out."""
    pyplot = _pyplot()
    rows = [len(panel) for panel in panels.values()]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(7, 0.5 + 0.42 * sum(rows) + 0.35 * len(rows)),
        height_ratios=rows, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axis, (title, values) in zip(axes[:, 0], panels.items(), strict=True):
        names = list(values)
        colours = [OURS if name.startswith("calque") else OTHERS[1] for name in names]
        drawn = axis.barh(names, list(values.values()), color=colours, height=0.7)
        labels = [f"{value:,.0f}" for value in values.values()]
        axis.bar_label(drawn, labels, padding=4, color=INK, fontsize=9)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(f"{title}: {what}", loc="left", fontsize=10, color=INK)
        axis.set_xticks([])
        axis.tick_params(left=False, labelsize=9)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.spines["left"].set_color(INK)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def curves(path: Path, panels: Sequence[Panel]) -> None:
    """Panels two by two, with one legend."""
    pyplot = _pyplot()
    from matplotlib import ticker  # noqa: PLC0415

    figure, axes = pyplot.subplots(
        -(-len(panels) // 2), 2, figsize=(9, 3.2 * -(-len(panels) // 2)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, panel in zip(axes.flat, panels, strict=True):
        for number, (name, points) in enumerate(panel.lines.items()):
            colour = OURS if number == 0 else OTHERS[number - 1]
            axis.plot(
                *zip(*points, strict=True),
                f"{MARKS[number]}-",
                color=colour,
                label=name,
                markersize=4,
            )
        axis.set_xscale("log")
        places = _positions(panel)
        axis.set_xticks(places, [_short(x) for x in places], fontsize=8)
        axis.set_xticks([], minor=True)
        if panel.decades:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_minor_locator(ticker.NullLocator())
        else:
            axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(lambda value, _: _short(value))
        axis.tick_params(axis="y", labelsize=8)
        axis.set_title(panel.title, loc="left", fontsize=10, color=INK)
        axis.set_xlabel(panel.x_label, fontsize=9)
        axis.grid(color=RULE)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
        frameon=False, fontsize=9,
    )  # fmt: skip
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _pyplot() -> Any:
    import matplotlib  # noqa: PLC0415 - only where there is something to draw

    matplotlib.use("agg")
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot


def _positions(panel: Panel) -> list[float]:
    return sorted({x for points in panel.lines.values() for x, _ in points})


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:,.3g} M"
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
