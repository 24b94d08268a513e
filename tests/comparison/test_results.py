"""Rows of results: what is averaged, what is compared with what."""

from dataclasses import replace
from statistics import mean, stdev

import pytest

from calque.comparison.measuring import EvaluationSet, Measured
from calque.comparison.results import HEADERS, make_row
from calque.evaluation.metrics import bleu, compare

REFERENCES = [f"a small dog number {i} runs over the green grass ." for i in range(60)]
TEST = EvaluationSet([f"source {i}" for i in range(60)], REFERENCES, ["test"] * 60)


def spoiled(every: int, shift: int = 0) -> list[str]:
    """The references, but for some lines."""
    return [
        "a cat sleeps on the red sofa ." if (i + shift) % every == 0 else line
        for i, line in enumerate(REFERENCES)
    ]


def measured(seed: int, hypotheses: list[str]) -> Measured:
    return Measured(
        seed=seed,
        parameters=10,
        training_rate=100.0 * seed,
        decoding_rate=5.0,
        peak_memory=2e6,
        perplexity=3.0 + seed,
        seconds=1.0,
        hypotheses=hypotheses,
    )


BASE = [measured(1, spoiled(3)), measured(2, spoiled(3, 1))]
BETTER = [measured(1, spoiled(15)), measured(2, spoiled(12))]


def test_numbers_are_means_over_seeds_with_their_spread():
    row = make_row("better", BETTER, BASE, TEST, "en", "")
    scores = [bleu(m.hypotheses, REFERENCES, "en") for m in BETTER]
    assert row.bleu and (row.bleu.mean, row.bleu.spread) == (mean(scores), stdev(scores))
    assert row.training_rate and row.training_rate.shown(0) == "150 ± 71"
    assert row.perplexity and row.perplexity.mean == 4.5
    assert len(row.cells()) == len(HEADERS)


def test_the_difference_is_tested_on_all_seeds_pair_by_pair():
    row = make_row("better", BETTER, BASE, TEST, "en", "")
    expected = compare(
        [*BASE[0].hypotheses, *BASE[1].hypotheses],
        [*BETTER[0].hypotheses, *BETTER[1].hypotheses],
        REFERENCES * 2,
        "en",
    )[0]
    assert row.comparison == expected
    assert row.verdict == "better" and row.difference and row.difference > 0
    assert make_row("same", BASE, BASE, TEST, "en", "").verdict == "not significant"
    worse = make_row("worse", BASE, BETTER, TEST, "en", "")
    assert worse.verdict == "worse" and worse.difference == -row.difference


def test_a_seed_that_failed_is_not_compared():
    row = make_row("half", BETTER[1:], BASE, TEST, "en", "seed 1 failed")
    alone = compare(BASE[1].hypotheses, BETTER[1].hypotheses, REFERENCES, "en")[0]
    assert (row.comparison, row.problem) == (alone, "seed 1 failed")
    assert row.bleu and row.bleu.spread is None
    without_base = make_row("other", BETTER[1:], BASE[:1], TEST, "en", "")
    assert without_base.comparison is None
    assert without_base.metric and without_base.metric.score == pytest.approx(alone.other.score)


def test_a_row_without_any_run_has_its_message_alone():
    row = make_row("none", [], BASE, TEST, "en", "seed 1 failed: why")
    flat = row.flat()
    assert (flat["change"], flat["problem"], flat["bleu"]) == ("none", "seed 1 failed: why", None)
    assert row.cells()[0] == "none" and row.cells()[-1] == "failed"
    assert flat.keys() == make_row("better", BETTER, BASE, TEST, "en", "").flat().keys()


def test_memory_that_was_not_seen_is_left_empty():
    unseen = [replace(m, peak_memory=None) for m in BASE]
    assert make_row("base", unseen, None, TEST, "en", "").peak_memory is None
    half = make_row("base", [unseen[0], BASE[1]], None, TEST, "en", "")
    assert half.peak_memory and half.peak_memory.shown(0) == "2"
