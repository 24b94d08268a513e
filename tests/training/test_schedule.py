"""Learning rates: the formulas of their sources."""

import math
from itertools import pairwise

import pytest

from calque.recipe import TrainingConfig
from calque.training.schedule import SCHEDULES, cosine, inverse_sqrt, paper

CONFIG = TrainingConfig(learning_rate=0.5, warmup_steps=40, max_steps=1000)


def rates(name: str) -> list[float]:
    return [SCHEDULES[name](step, CONFIG, 64) for step in range(1, CONFIG.max_steps + 1)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_rises_in_a_line_to_its_peak_at_the_end_of_warmup_and_falls(name: str) -> None:
    found = rates(name)
    assert found.index(max(found)) + 1 == CONFIG.warmup_steps
    steps = [after - before for before, after in pairwise(found[:40])]
    assert steps == pytest.approx([found[0]] * 39)
    assert found[39:] == sorted(found[39:], reverse=True)


def test_paper_is_equation_3() -> None:
    for step in (1, 39, 40, 41, 900):
        expected = 64**-0.5 * min(step**-0.5, step * 40**-1.5)
        assert paper(step, CONFIG, 64) == pytest.approx(0.5 * expected)
    assert paper(40, CONFIG, 64) == pytest.approx(0.5 * (64 * 40) ** -0.5)


def test_inverse_sqrt_halves_when_the_steps_are_fourfold() -> None:
    assert inverse_sqrt(40, CONFIG, 64) == 0.5
    assert inverse_sqrt(160, CONFIG, 64) == pytest.approx(0.25)
    assert inverse_sqrt(640, CONFIG, 64) == pytest.approx(0.125)


def test_cosine_is_half_a_wave_from_the_peak_to_zero() -> None:
    assert cosine(40, CONFIG, 64) == 0.5
    assert cosine(520, CONFIG, 64) == pytest.approx(0.25)
    assert cosine(280, CONFIG, 64) == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)))
    assert cosine(1000, CONFIG, 64) == pytest.approx(0, abs=1e-12)
    assert cosine(2000, CONFIG, 64) == pytest.approx(0, abs=1e-12)


def test_the_width_of_the_model_matters_to_the_paper_alone() -> None:
    assert [name for name in SCHEDULES if SCHEDULES[name](7, CONFIG, 16) != rates(name)[6]] == [
        "paper"
    ]
