"""Pictures of a comparison: titles are whole, and ticks are round."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from calque.comparison import figures
from calque.comparison.results import Breakdown


@pytest.mark.parametrize("parts", [1, 2, 9])
def test_the_title_of_a_heat_map_is_whole(
    parts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_save", lambda figure, _: drawn.append(figure))
    of_row = {f"file-{i}": 50.0 for i in range(parts)}
    values = {"base": of_row, "other": of_row}
    breakdown = Breakdown("accuracy", "Lines that are right, %, by test file", values)
    figures.heat(tmp_path / "heat.png", breakdown)
    (figure,) = drawn
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    title = max(figure.texts, key=lambda text: len(text.get_text())).get_window_extent(renderer)
    assert figure.bbox.x0 <= title.x0
    assert title.x1 <= figure.bbox.x1


@given(st.floats(1.01, 1e6), st.floats(1.05, 1e4))
def test_ticks_are_few_and_round_and_within(low: float, ratio: float) -> None:
    ticks = figures._round_ticks(low, low * ratio)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert ticks == sorted(set(ticks))
    first = [tick / 10 ** np.floor(np.log10(tick)) for tick in ticks]
    if ratio >= 4:
        assert np.isclose(np.array(first)[:, None], [1, 2, 5, 10]).any(axis=1).all()
