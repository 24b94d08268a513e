"""What a report holds as PNG files, by matplotlib."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from calque.inspection.attention import KINDS
from calque.writing import writing

TEAL, RUST, GREY = "#0f6b66", "#ad431a", "#b9b2a6"
SERIES = (TEAL, RUST, "#5a54a8", "#97730f", "#a63a73", "#3f7d2c")
RAMP = LinearSegmentedColormap.from_list(
    "calque", ["#fbf9f3", "#cfe3dc", "#7fb7b0", "#237278", "#0a2f40"]
)
SIGNED = LinearSegmentedColormap.from_list("signed", [RUST, "#fbf9f3", TEAL])
WIDE_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai"),
)
"""Fonts for what DejaVu lacks; those that the machine has are used."""
DPI = 150
Drawing = Callable[[Any], Figure]


def write_pictures(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a PNG file for each view of a report into a folder, which is made; the files written.

    Raises CalqueError when they cannot be written.
    """
    known = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["DejaVu Sans", *(name for name in WIDE_SCRIPTS if name in known)]
    written = []
    style: dict[Any, Any] = {"font.family": fonts, "font.size": 8, "text.parse_math": False}
    with matplotlib.rc_context(style), warnings.catch_warnings(), writing(folder):
        # What no font has is drawn as a box, and that says enough.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures(report):
            figure.savefig(folder / f"{name}.png", dpi=DPI, bbox_inches="tight", pad_inches=0.15)
            written.append(folder / f"{name}.png")
    return written


def figures(report: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Each picture and the name of its file, without its ending."""
    if "source" in report:
        for kind in KINDS:
            if report["attention"][kind]:
                yield f"attention-{kind}", _grid(report, kind)
        if report["alignment"]:
            yield "alignment", _alignment(report)
        yield "tokens", _tokens(report["target"])
        if report["beam"]["nodes"]:
            yield "beam", _beam(report["beam"])
    for i, table in enumerate(report.get("positions", {}).get("tables", ())):
        yield f"positions-{i + 1}", _table(table)
    if report.get("positions", {}).get("scores"):
        yield "positions-scores", _scores(report["positions"]["scores"])
    for side, vocabulary in report.get("embeddings", {}).items():
        yield f"embeddings-{side}", _cloud(vocabulary)
    if "training" in report:
        yield "training", _training(report["training"])


def _grid(report: Mapping[str, Any], kind: str) -> Figure:
    """A row of heads for each layer, after the mean of these; all in one, as axes take long."""
    layers = [np.array(heads) for heads in report["attention"][kind]]
    columns = 1 + max(map(len, layers))
    figure = Figure(figsize=(1.5 * columns, 1.5 * len(layers) + 0.6))
    ax = figure.subplots()
    ax.axis("off")
    for i, heads in enumerate(layers):
        for j, weights in enumerate([heads.mean(axis=0), *heads]):
            across, down = j * 1.08, i * 1.08
            _heat(ax, weights, extent=(across, across + 1, down + 1, down))
            if not i:
                name = f"head {j}" if j else "mean"
                ax.text(across + 0.5, -0.06, name, ha="center", va="bottom")
        ax.text(-0.06, i * 1.08 + 0.5, f"layer {i + 1}", ha="right", va="center")
    ax.set(xlim=(0, columns * 1.08 - 0.08), ylim=(len(layers) * 1.08 - 0.08, 0))
    title = fill(f"{kind}: {report['source']['text']}", width=19 * columns)
    # In inches, as the names of the heads are of one height whatever the layers are.
    ax.annotate(title, (0.5, 1), (0, 22), "axes fraction", "offset points", ha="center", fontsize=9)
    return figure


def _alignment(report: Mapping[str, Any]) -> Figure:
    source, target = ([w["text"] for w in report[side]["words"]] for side in ("source", "target"))
    figure = Figure(figsize=(2 + 0.3 * len(source), 1.5 + 0.3 * len(target)))
    ax = figure.subplots()
    _heat(ax, np.array(report["alignment"]["weights"]))
    _name(ax, target, source)
    for row, column in report["alignment"]["links"]:
        ax.plot(column, row, "o", color=RUST, markersize=4)
    ax.set_title("Cross-attention by words; a dot is a link", fontsize=9)
    return figure


def _tokens(target: Mapping[str, Any]) -> Figure:
    """A bar for each token, and beneath its name the likeliest others."""
    pieces, shares = target["pieces"], np.exp(target["log_probs"])
    names = [
        [piece, *(f"{a['piece']} {np.exp(a['log_prob']):.1%}" for a in others)]
        for piece, others in zip(pieces, target["alternatives"], strict=True)
    ]
    longest = max(len(line) for of_token in names for line in of_token)
    figure = Figure(figsize=(1 + (0.2 + 0.065 * longest) * len(pieces), 3))
    ax = figure.subplots()
    ax.bar(range(len(pieces)), shares, color=TEAL, width=0.6)
    names = ["\n".join(of_token) for of_token in names]
    ax.set_xticks(range(len(pieces)), names, fontsize=7)
    ax.set(ylim=(0, 1), ylabel="probability", xlim=(-0.6, len(pieces) - 0.4))
    _plain(ax)
    return figure


def _beam(beam: Mapping[str, Any]) -> Figure:
    """A row of prefixes for each step, and below one that ended its score."""
    nodes, ends = beam["nodes"], beam["ends"]
    widths = Counter(node["step"] for node in nodes)
    columns, steps = max(widths.values()), len(widths)
    figure = Figure(figsize=(1.3 * columns, 0.7 * steps + 0.2))
    ax = figure.subplots()

    def place(node: Mapping[str, Any]) -> tuple[float, float]:
        return (columns - widths[node["step"]]) / 2 + node["rank"], float(node["step"])

    for node in sorted(nodes, key=lambda n: n["won"]):
        (x, y), colour = place(node), RUST if node["won"] else GREY
        if node["parent"] is not None:
            above = place(nodes[node["parent"]])
            ax.plot([above[0], x], [above[1], y], color=colour, linewidth=1, zorder=1)
        frame = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": colour}
        text = f"{node['piece']}\n{node['log_prob']:.2f}"
        ax.text(x, y, text, ha="center", va="center", fontsize=7, bbox=frame, zorder=2)
    for rank, end in enumerate(ends):
        x, y = place(nodes[end["node"]])
        text, colour = f"{rank + 1}. score {end['score']:.2f}", TEAL if rank else RUST
        over = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        ax.text(x, y + 0.38, text, ha="center", va="center", fontsize=7, color=colour, bbox=over)
    ax.set(xlim=(-0.6, columns - 0.4), ylim=(steps - 0.4, -0.4))
    ax.axis("off")
    return figure


def _table(table: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10, 3.4))
    left, right = figure.subplots(1, 2, width_ratios=[1.8, 1])
    first = table["first"]
    last = first + len(table["values"]) - 1
    for ax, name in ((left, "values"), (right, "products")):
        matrix = np.array(table[name])
        most = np.abs(matrix).max() or 1
        across = (-0.5, matrix.shape[1] - 0.5) if ax is left else (first - 0.5, last + 0.5)
        extent = (*across, last + 0.5, first - 0.5)
        image = ax.imshow(matrix, cmap=SIGNED, vmin=-most, vmax=most, aspect="auto", extent=extent)
        figure.colorbar(image, ax=ax)
    left.set(xlabel="number", ylabel="distance" if first < 0 else "position", title=table["name"])
    right.set(title="dot products of all with all")
    return figure


def _scores(scores: Sequence[Any]) -> Figure:
    figure = Figure(figsize=(1.8 * len(scores), 2.2))
    for head, (ax, rows) in enumerate(
        zip(figure.subplots(1, len(scores), squeeze=False)[0], scores, strict=True)
    ):
        matrix = np.array(rows)
        most = np.abs(matrix).max() or 1
        ax.imshow(matrix, cmap=SIGNED, vmin=-most, vmax=most)
        ax.set(xticks=[], yticks=[], title=f"head {head + 1}")
    figure.suptitle("Scores by position, encoder layer 1, all tokens alike", fontsize=9)
    return figure


def _cloud(vocabulary: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 6))
    ax = figure.subplots()
    points = np.array(vocabulary["points"])
    ax.scatter(*points.T, s=3, color=TEAL, alpha=0.35, linewidths=0)
    # The outermost have room for their names.
    outermost = np.argsort(-np.linalg.norm(points - points.mean(axis=0), axis=1))[:40]
    for i in outermost:
        ax.annotate(vocabulary["pieces"][i], tuple(points[i]), fontsize=6, color="#333333")
    shares = vocabulary["shares"]
    ax.set(xlabel=f"{shares[0]:.1%} of the variance", ylabel=f"{shares[1]:.1%} of the variance")
    _plain(ax)
    return figure


def _training(runs: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(10, 6.4))
    charts = {
        "loss, nats per token": ("loss", "valid_loss"),
        "validation BLEU": ("valid_bleu",),
        "learning rate": ("learning_rate",),
        "tokens per second": ("tokens_per_second",),
    }
    for ax, (title, names) in zip(figure.subplots(2, 2).flat, charts.items(), strict=True):
        for i, run in enumerate(runs):
            for name in names:
                points = np.array(run["series"][name]).reshape(-1, 2)
                dashes = "--" if name == "loss" else "-"
                label = run["name"] + (" (training)" if name == "loss" else "")
                ax.plot(
                    *points.T, dashes, color=SERIES[i % len(SERIES)], linewidth=1.2, label=label
                )
        ax.set(title=title, xlabel="step", xlim=(0, None))
        if "loss" not in names:
            ax.set_ylim(bottom=0)
        _plain(ax)
    figure.axes[0].legend(fontsize=7)
    figure.tight_layout()
    return figure


def _heat(
    ax: Axes, weights: np.ndarray, extent: tuple[float, float, float, float] | None = None
) -> None:
    """As in the page, colour goes by the square root, so that small weights can be seen."""
    roots = np.sqrt(weights.clip(0))
    ax.imshow(roots, cmap=RAMP, vmin=0, vmax=1, aspect="auto", extent=extent)


def _name(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xticks(range(len(columns)), columns, rotation=60, ha="left", rotation_mode="anchor")
    ax.xaxis.tick_top()


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
