"""An attention matrix drawn in the terminal."""

from collections.abc import Sequence

from jaxtyping import Float
from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from torch import Tensor

CELL = 3  # characters wide
SHADES = " ░▒▓█"  # for readers without colour, too


def draw(
    weights: Float[Tensor, "target source"], target: Sequence[str], source: Sequence[str]
) -> Text:
    """One row per target piece, one column per source piece; the darker, the more attention."""
    margin = max(map(cell_len, target)) + 1
    text = Text()
    # The names of the columns go down a staircase, each line up to where its column begins.
    for column, piece in enumerate(source):
        bars = "".join("│".ljust(CELL) for _ in range(column))
        text.append(" " * (margin + 1) + bars + piece + "\n")
    for piece, row in zip(target, weights.tolist(), strict=True):
        text.append(" " * (margin - cell_len(piece)) + piece + " ")
        for weight in row:
            shade = SHADES[min(len(SHADES) - 1, int(weight * len(SHADES)))]
            text.append(shade * (CELL - 1) + " ", Style(color=f"color({_blue(weight)})"))
        text.append("\n")
    return text


def _blue(weight: float) -> int:
    """One of the 256 terminal colours, from grey to strong blue."""
    return (240, 67, 68, 33, 39)[min(4, int(weight * 5))]
