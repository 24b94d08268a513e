"""Beam search against all targets there are, and against greedy search."""

import math

import pytest
import torch

from calque.decoding.beam import beam_search
from calque.decoding.config import DecodingConfig
from calque.decoding.greedy import greedy_search

PAD, UNK, BOS, EOS, A, B = range(6)

LONGEST = 3
WHOLE_SPACE = 40  # targets of up to 3 tokens out of 3; no step has more candidates

every_alpha = pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])


@every_alpha
def test_a_beam_as_wide_as_the_space_is_exhaustive(model, sources, forced, all_targets, alpha):
    targets = all_targets(LONGEST)
    assert len(targets) == WHOLE_SPACE
    config = DecodingConfig(beam_size=WHOLE_SPACE, length_penalty=alpha, max_length=LONGEST)
    for source, n_best in zip(sources, beam_search(model, sources, config), strict=True):
        expected = {
            tokens: sum(forced(model, source, tokens)) / ((6 + len(tokens)) / 6) ** alpha
            for tokens in targets
        }
        assert {found.tokens: found.score for found in n_best} == pytest.approx(expected, abs=1e-5)
        assert n_best[0].tokens == max(expected, key=expected.get)


@every_alpha
def test_no_beam_outdoes_the_exhaustive_one(model, sources, alpha):
    def best_scores(beam_size: int) -> list[float]:
        config = DecodingConfig(beam_size=beam_size, length_penalty=alpha, max_length=LONGEST)
        return [n_best[0].score for n_best in beam_search(model, sources, config)]

    exhaustive = best_scores(WHOLE_SPACE)
    for beam_size in (1, 2, 3, 5, 12):
        for narrow, best in zip(best_scores(beam_size), exhaustive, strict=True):
            assert narrow <= best + 1e-5


def test_a_beam_of_one_without_penalty_is_greedy(model, sources):
    config = DecodingConfig(beam_size=1, length_penalty=0.0, max_length=12)
    assert [
        [found.tokens for found in n_best] for n_best in beam_search(model, sources, config)
    ] == [[found.tokens for found in n_best] for n_best in greedy_search(model, sources, config)]


@every_alpha
def test_a_beam_of_one_is_never_worse_than_greedy(model, sources, alpha):
    """With a penalty it may be better: it does not stop at the first EOS."""
    config = DecodingConfig(beam_size=1, length_penalty=alpha, max_length=12)
    both = zip(
        beam_search(model, sources, config), greedy_search(model, sources, config), strict=True
    )
    assert all(beam[0].score >= greedy[0].score - 1e-5 for beam, greedy in both)


@pytest.mark.parametrize("beam_size", [1, 2])
def test_a_better_longer_hypothesis_is_not_lost_to_an_early_end(table_model, beam_size):
    def table(source: tuple[int, ...], target: tuple[int, ...]) -> dict[int, float]:
        if not target:
            return {EOS: 0.5, A: 0.35, B: 0.15}
        return {A: 0.99, EOS: 0.01} if len(target) < 6 else {EOS: 0.99, A: 0.01}

    config = DecodingConfig(beam_size=beam_size, length_penalty=1.0)
    [n_best] = beam_search(table_model(table), torch.tensor([[A, EOS]]), config)
    first_finished = math.log(0.5)
    assert n_best[0].tokens == (A,) * 6
    assert n_best[0].log_prob < first_finished < n_best[0].score


def test_an_end_that_ranks_below_the_beam_is_no_hypothesis(table_model):
    table = table_model(
        lambda source, target: {A: 0.5, B: 0.4, EOS: 0.1} if len(target) < 3 else {EOS: 0.9, A: 0.1}
    )
    config = DecodingConfig(beam_size=2, length_penalty=0.0)
    [n_best] = beam_search(table, torch.tensor([[A, EOS]]), config)
    # log(0.1) of the empty target beats log(0.5 * 0.5 * 0.5 * 0.9), its place in the beam does not.
    assert [found.tokens for found in n_best] == [(A, A, A), (A, A, B)]


@every_alpha
@pytest.mark.parametrize("beam_size", [1, 4, 30])
def test_n_best_are_sorted_and_distinct(model, sources, alpha, beam_size):
    config = DecodingConfig(beam_size=beam_size, length_penalty=alpha, max_length=8)
    for n_best in beam_search(model, sources, config):
        assert len(n_best) == beam_size
        assert len({found.tokens for found in n_best}) == beam_size
        scores = [found.score for found in n_best]
        assert scores == sorted(scores, reverse=True)


def test_more_hypotheses_than_targets_gives_all_targets(model, sources):
    config = DecodingConfig(beam_size=100, max_length=LONGEST)
    for n_best in beam_search(model, sources, config):
        assert len({found.tokens for found in n_best}) == len(n_best) == WHOLE_SPACE
