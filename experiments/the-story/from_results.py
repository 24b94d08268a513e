"""Figures of stations from what comparisons and look_closer.py have measured."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from panels import FAMILIES, INK, Numbers, bars, heat, label, lines, words

from calque.models.convolutional import interaction_distance
from calque.models.transformer import SinusoidalPositions, TransformerConfig

HERE = Path(__file__).parent
FEWEST_LINES = 20  # whose BLEU says anything
TABLE_3 = HERE.parent / "paper-table-3"


def results(file: str, folder: Path = HERE) -> dict[str, dict[str, str]]:
    """The rows of a comparison's CSV file by their names."""
    with (folder / f"{file}.csv").open(newline="", encoding="utf-8") as lines:
        return {row.pop("change"): row for row in csv.DictReader(lines)}


def bleu(file: str = "results", folder: Path = HERE) -> dict[str, float]:
    """BLEU of every row."""
    return {name: float(row["bleu"]) for name, row in results(file, folder).items()}


def by_part(file: str, row: str) -> dict[str, float]:
    """A measure's numbers of one row, of the parts of the test set that have lines enough."""
    found = {}
    for part, number in results(file)[row].items():
        name, lines_of_it = part.rstrip(")").split(" (")
        if int(lines_of_it.replace(",", "")) >= FEWEST_LINES:
            found[name] = float(number)
    return found


def by_length(task: str, row: str) -> Numbers:
    """The share of tokens at their place, by the length of the sequence."""
    found = by_part(f"{task}-token-accuracy-by-file", row)
    return {int(name.removeprefix("length-")): x for name, x in found.items()}


def kept(name: str) -> dict[str, list[str]]:
    """A table that look_closer.py printed: by its first column, the others."""
    text = (HERE / "closer" / f"{name}.md").read_text("utf-8")
    rows = [line.strip("|\n").split("|") for line in text.split("\n") if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in others] for first, *others in rows[2:]}


def of_letters(ax: Axes, task: str, title: str, rows: Mapping[str, str]) -> None:
    """A line for each row of a task, by the names that the figure has for them."""
    series = {name: by_length(task, row) for name, row in rows.items()}
    lines(ax, series, "letters", "letters at their place, %", f"{title}; trained on up to 100")
    ax.axvline(100, color=INK, linewidth=0.8, linestyle=":")


def bottleneck(left: Axes, right: Axes) -> None:
    """BLEU by length of sentence, and copies by length of sequence."""
    of_rows = {row: by_part("results-bleu-by-length", row) for row in FAMILIES}
    places = range(len(next(iter(of_rows.values()))))
    named = {
        FAMILIES[row][0]: dict(zip(places, x.values(), strict=True)) for row, x in of_rows.items()
    }
    lines(left, named, "words of the source", "BLEU", "Multi30k")
    left.set_xticks(places, [*next(iter(of_rows.values()))])
    of_letters(right, "copy", "copying", {name: row for row, (name, *_) in FAMILIES.items()})


def parallel(left: Axes, right: Axes) -> None:
    """Tokens a second of the families."""
    for ax, file, title in (
        (left, "results", "Multi30k, 12 words"),
        (right, "copy", "copying, 52 letters"),
    ):
        rates = {
            FAMILIES[row][0]: float(results(file)[row]["training_tokens_per_second"])
            for row in reversed(FAMILIES)
        }
        bars(ax, rates, "target tokens/s in training, one core", title, digits=0)


def distance(left: Axes, right: Axes) -> None:
    """Steps from one word to another; letters at their place in reversed sequences."""
    apart = range(1, 31)
    steps = {
        "GRU, attention": {n: n for n in apart},
        "convolutional": {n: -(-n // interaction_distance(1, 7)) for n in apart},
        "Transformer": dict.fromkeys(apart, 1),
    }
    lines(left, steps, "words apart", "steps between them", "in the encoder; windows of 7")
    left.lines[1].set_linestyle("--")
    of_letters(right, "reverse", "reversing", {name: row for row, (name, *_) in FAMILIES.items()})


def embeddings(left: Axes, right: Axes) -> None:
    """BLEU from vectors at random, and from word2vec."""
    score = bleu("embeddings")
    for ax, pairs in ((left, "29,000 pairs"), (right, "1,000 pairs")):
        start = f"{pairs}, "
        rows = {row.removeprefix(start): x for row, x in score.items() if row.startswith(start)}
        bars(ax, rows, "BLEU", pairs)


def scores(left: Axes, right: Axes) -> None:
    """BLEU by score."""
    score, names = bleu(), ("scaled dot", "dot", "general", "additive", "cosine", "location")
    bars(
        left,
        {name: score[f"GRU, {name}"] for name in names}
        | {"no attention": score["GRU, no attention"]},
        "BLEU",
        "recurrent",
    )
    rows = {"scaled dot": "Transformer", "dot": "no scaling"}
    bars(
        right,
        {name: score[rows.get(name, f"{name} score")] for name in names[:-1]},
        "BLEU",
        "Transformer",
    )


def scaling(left: Axes, right: Axes) -> None:
    """Kept from look_closer.py."""
    table = kept("scaling")
    widths = [int(width) for width in table]
    columns = np.array([[float(x) for x in row] for row in table.values()]).T
    for ax, (scaled, unscaled), y in (
        (left, columns[[0, 2]], "entropy of the weights, nats"),
        (right, columns[[1, 3]], "gradient let through"),
    ):
        both = {"scaled by 1/√d": scaled, "unscaled": unscaled}
        lines(
            ax,
            {k: dict(zip(widths, x, strict=True)) for k, x in both.items()},
            "width of a head",
            y,
        )
        ax.set_xscale("log", base=2)
        ax.set_xticks(widths, [str(width) for width in widths])


def heads(left: Axes, right: Axes) -> None:
    """How many there are, and what the silence of each costs."""
    score = bleu("results", TABLE_3)
    numbers = {1: "(A) 1 head", 4: "(A) 4 heads", 8: "base", 16: "(A) 16 heads", 32: "(A) 32 heads"}
    lines(
        left,
        {"": {n: score[row] for n, row in numbers.items()}},
        "heads",
        "BLEU",
        "by how many there are",
    )
    left.set_xscale("log", base=2)
    left.set_xticks([*numbers], [str(n) for n in numbers])
    left.set_ylim(bottom=min(score[row] for row in numbers.values()) - 2)
    table = kept("heads")
    costs = np.array([[float(x) for x in row] for row in table.values()])
    heat(right, costs, "BLEU lost or won if one is silent", numbers=True, signed=True)
    words(right, [f"head {n}" for n in range(1, costs.shape[1] + 1)], [*table])


def rank(ax: Axes) -> None:
    """Kept from look_closer.py."""
    table = kept("rank")
    series = {
        Path(run).parent.name.replace("-", " "): {i: float(x) for i, x in enumerate(row)}
        for run, row in table.items()
    }
    lines(ax, series, "layers", "effective rank", "of the words of 200 sentences")
    ax.set_xticks(range(len(next(iter(series.values())))))


def sinusoids(left: Axes, middle: Axes, right: Axes) -> None:
    """The table, its products, and how far it carries."""
    config = TransformerConfig(d_model=128, num_heads=1, source_vocab_size=9, target_vocab_size=9)
    table = SinusoidalPositions(config)(100)
    heat(left, table.numpy(), "the table", signed=True)
    label(left, "feature", "position", "the table")
    series = {
        f"from position {at}": {i - at: x for i, x in enumerate((table @ table[at]).tolist())}
        for at in (20, 50, 80)
    }
    lines(middle, series, "distance", "product", "products of two positions")
    middle.set_ylim(auto=True)
    beyond(right)


def beyond(ax: Axes) -> None:
    """Copies by length and positions."""
    rows = {"sinusoidal": "Transformer"} | {
        n: f"{n} positions" for n in ("learned", "relative", "rotary")
    }
    rows |= {"ALiBi": "ALiBi", "none": "no positions"}
    of_letters(ax, "copy", "copying", rows)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def positions(ax: Axes) -> None:
    """BLEU of all that are compared."""
    rows = {
        "sinusoidal": "Transformer",
        "learned": "learned positions",
        "relative": "relative positions",
    }
    rows |= {"rotary": "rotary positions", "ALiBi": "ALiBi", "none": "no positions"}
    rows |= {"count": "count as position", "normalised count": "normalised count"}
    score, of_trees = bleu(), bleu("structural")
    trees = {name: of_trees[name] for name in ("structural", "structural, relative")}
    bars(ax, {name: score[row] for name, row in rows.items()} | trees, "BLEU", "positions")


def residuals(ax: Axes) -> None:
    """BLEU by depth."""
    score = bleu("depth")
    kinds = {"norm before (pre)": "pre", "norm after (post)": "post", "no residual": "none"}
    lines(
        ax,
        {
            name: {n: score[f"{kind}, {n} layers"] for n in (2, 6, 12)}
            for name, kind in kinds.items()
        },
        "layers of encoder and of decoder",
        "BLEU",
    )
    ax.set_xticks([2, 6, 12])


def norms(ax: Axes) -> None:
    """BLEU by norm."""
    rows = {"layer": "Transformer", "RMS": "RMS norm", "batch": "batch norm"}
    chosen(
        ax,
        rows | {"batch, padding counted": "batch norm, padding counted", "none": "no norm"},
        "norm",
    )


def chosen(ax: Axes, rows: Mapping[str, str], title: str) -> None:
    """BLEU of some rows of the story, by other names."""
    score = bleu()
    bars(ax, {name: score[row] for name, row in rows.items()}, "BLEU", title)


def regularisation(left: Axes, right: Axes) -> None:
    """Rows (D) of Table 3, and warm-up."""
    score = bleu("results", TABLE_3)
    rows = {"dropout 0.1, smoothing 0.1": score["base"]}
    bars(
        left,
        rows | {name[4:]: x for name, x in score.items() if name.startswith("(D)")},
        "BLEU",
        "dropout and label smoothing",
    )
    kinds = {"pre-norm": "Transformer", "pre-norm, none": "no warm-up", "post-norm": "post-norm"}
    chosen(right, kinds | {"post-norm, none": "post-norm, no warm-up"}, "with warm-up, and without")


def data_size(left: Axes, right: Axes) -> None:
    """BLEU and validation loss of the families by pairs."""
    table = results("data-size")
    rows = {"Transformer": "Transformer", "convolutional": "convolutional", "GRU, attention": "GRU"}
    pairs = {1000: "1,000", 5000: "5,000", 29000: "29,000"}
    of = {
        name: {number: table[f"{row}, {text} pairs"] for number, text in pairs.items()}
        for name, row in rows.items()
    }
    for ax, what, number_in in (
        (left, "BLEU", lambda row: float(row["bleu"])),
        (right, "validation loss, nats", lambda row: math.log(float(row["validation_perplexity"]))),
    ):
        series = {name: {n: number_in(row) for n, row in by_n.items()} for name, by_n in of.items()}
        lines(ax, series, "pairs", what)
        ax.set_xscale("log")
        ax.set_xticks([*pairs], [*pairs.values()])
        ax.set_xticks([], minor=True)
