"""A drawn matrix: every piece shows, and where there is more attention it is darker."""

from io import StringIO

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from torch import Tensor

from calque.inspection.terminal import CELL, SHADES, draw

PIECES = st.lists(
    st.text(st.sampled_from("▁abcßñ中文かмир[]0"), min_size=1, max_size=8), min_size=1, max_size=6
)


def random_weights(target: list[str], source: list[str], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.randn(len(target), len(source), generator=generator)).softmax(dim=-1)


def rows(drawn: str, target: list[str], source: list[str]) -> list[tuple[str, str]]:
    """Of each row the name and the cells."""
    width = CELL * len(source)
    lines = drawn.split("\n")[len(source) : len(source) + len(target)]
    return [(line[:-width], line[-width:]) for line in lines]


@settings(deadline=None)
@given(PIECES, PIECES, st.integers(0, 99))
def test_every_piece_names_its_row_or_column(
    target: list[str], source: list[str], seed: int
) -> None:
    drawn = draw(random_weights(target, source, seed), target, source).plain
    margin = max(map(cell_len, target)) + 2
    assert [name.strip() for name, _ in rows(drawn, target, source)] == target
    for column, (piece, line) in enumerate(zip(source, drawn.split("\n"), strict=False)):
        before = line.removesuffix(piece)
        assert line.endswith(piece)
        assert cell_len(before) == margin + CELL * column  # it stands above its column


@settings(deadline=None)
@given(PIECES, PIECES, st.integers(0, 99))
def test_all_rows_begin_at_the_same_place_in_any_script(
    target: list[str], source: list[str], seed: int
) -> None:
    drawn = draw(random_weights(target, source, seed), target, source).plain
    margin = max(map(cell_len, target)) + 2
    assert {cell_len(name) for name, _ in rows(drawn, target, source)} == {margin}


@settings(deadline=None)
@given(PIECES, PIECES, st.integers(0, 99))
def test_the_more_attention_the_darker(target: list[str], source: list[str], seed: int) -> None:
    weights = random_weights(target, source, seed)
    drawn = draw(weights, target, source).plain
    for row, (_, cells) in zip(weights.tolist(), rows(drawn, target, source), strict=True):
        shades = [SHADES.index(cell) for cell in cells[::CELL]]
        by_weight = [shade for _, shade in sorted(zip(row, shades, strict=True))]
        assert by_weight == sorted(shades)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_darkest_cell_is_where_the_weight_is_largest(column: int) -> None:
    weights = torch.full((1, 3), 0.15)
    weights[0, column] = 0.7
    drawn = draw(weights, ["Haus"], ["the", "old", "house"])
    ((_, cells),) = rows(drawn.plain, ["Haus"], ["the", "old", "house"])
    shades = [SHADES.index(cell) for cell in cells[::CELL]]
    assert shades.index(max(shades)) == column
    assert shades.count(max(shades)) == 1
    styles = [span.style for span in drawn.spans if isinstance(span.style, Style)]
    assert len({style.color for style in styles}) == 2
    assert [style.color for style in styles].count(styles[column].color) == 1


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_all_and_nothing_are_the_ends_of_the_scale(weight: float) -> None:
    drawn = draw(torch.full((1, 1), weight), ["b"], ["a"]).plain
    ((_, cells),) = rows(drawn, ["b"], ["a"])
    assert cells[0] == (SHADES[-1] if weight else SHADES[0])


def test_pieces_are_printed_as_they_are() -> None:
    drawn = draw(torch.ones(1, 1), ["[bold]x[/bold]"], ["[red]"])
    console = Console(file=StringIO(), width=80)
    console.print(drawn)
    printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "[bold]x[/bold]" in printed
    assert "[red]" in printed
