"""Beam search against all targets there are, and against greedy search."""

import math
from dataclasses import replace

import pytest
import torch

from calque.decoding.beam import beam_search
from calque.decoding.config import DecodingConfig
from calque.decoding.greedy import greedy_search
from calque.decoding.hypothesis import LONGER_THAN_SOURCE, NORMALISATIONS

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


@every_alpha
def test_a_beam_of_one_is_greedy(model, sources, alpha):
    config = DecodingConfig(beam_size=1, length_penalty=alpha, max_length=12)
    assert [
        [found.tokens for found in n_best] for n_best in beam_search(model, sources, config)
    ] == [[found.tokens for found in n_best] for n_best in greedy_search(model, sources, config)]


def plain_beam_search(table, source, config, penalty, early=True):
    """From the definition, one source at a time: scores of the targets that it ends with.

    With `early` false it goes on to the limit.
    """
    limit = min(len(source) + LONGER_THAN_SOURCE, config.max_length)
    growing, finished = {(): 0.0}, {}
    for length in range(1, limit + 2):
        candidates = {
            (*target, token): log_prob + math.log(chance)
            for target, log_prob in growing.items()
            for token, chance in table(source, target).items()
            if token not in (PAD, BOS) and (token == EOS or length <= limit)
        }
        best = sorted(candidates, key=candidates.get, reverse=True)
        for target in best[: config.beam_size]:
            if target[-1] == EOS:
                finished[target[:-1]] = candidates[target] / penalty(length)
        finished = dict(sorted(finished.items(), key=lambda one: -one[1])[: config.beam_size])
        unfinished = [target for target in best if target[-1] != EOS][: config.beam_size]
        growing = {target: candidates[target] for target in unfinished}
        as_they_stand = [log_prob / penalty(length) for log_prob in growing.values()]
        if (
            early
            and len(finished) == config.beam_size
            and max(as_they_stand, default=-math.inf) <= min(finished.values())
        ):
            break
    return finished


PENALTIES = {"wu": lambda length: (5 + length) / 6, "power": lambda length: length}


def test_every_normalisation_has_its_formula():
    assert PENALTIES.keys() == NORMALISATIONS.keys()


@every_alpha
@pytest.mark.parametrize("normalisation", PENALTIES)
@pytest.mark.parametrize("beam_size", [1, 2, 3, 6])
def test_it_is_the_plain_search_token_for_token(
    random_tables, sources, alpha, normalisation, beam_size
):
    config = DecodingConfig(
        beam_size=beam_size,
        length_penalty=alpha,
        length_normalisation=normalisation,
        max_length=9,
    )
    for model in random_tables:
        for source, n_best in zip(sources, beam_search(model, sources, config), strict=True):
            ids = tuple(i for i in source.tolist() if i != PAD)
            expected = plain_beam_search(
                model.table, ids, config, lambda length: PENALTIES[normalisation](length) ** alpha
            )
            assert [found.tokens for found in n_best] == list(expected)
            scores = list(expected.values())
            assert [found.score for found in n_best] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("beam_size", [2, 4])
def test_without_penalty_nothing_better_is_lost_to_an_early_end(random_tables, sources, beam_size):
    config = DecodingConfig(beam_size=beam_size, length_penalty=0.0, max_length=20)
    for model in random_tables:
        for source, n_best in zip(sources, beam_search(model, sources, config), strict=True):
            ids = tuple(i for i in source.tolist() if i != PAD)
            patient = plain_beam_search(model.table, ids, config, lambda _: 1, early=False)
            assert [found.tokens for found in n_best] == list(patient)


def test_what_stands_better_than_the_worst_that_is_finished_goes_on(table_model):
    chances = {(): {A: 0.5, EOS: 0.4}, (A,): {A: 0.6, EOS: 0.3}, (A, A): {EOS: 0.99}}
    table = table_model(lambda source, target: chances.get(target, {UNK: 0.5}))
    config = DecodingConfig(beam_size=2, length_penalty=1.0)
    [n_best] = beam_search(table, torch.tensor([[A, EOS]]), config)
    # The empty target and (A,) are finished when (A, A), as likely as A so far, is not.
    assert [found.tokens for found in n_best] == [(A, A), ()]
    assert n_best[0].log_prob < n_best[1].log_prob


def test_what_stands_worse_is_not_waited_for(table_model):
    chances = {(): {EOS: 0.5, A: 0.3, B: 0.2}, (A,): {EOS: 0.9, A: 0.1}}

    def table(source: tuple[int, ...], target: tuple[int, ...]) -> dict[int, float]:
        return chances.get(target, {A: 0.99, EOS: 0.01} if len(target) < 9 else {EOS: 1.0})

    config = DecodingConfig(beam_size=2, length_penalty=1.0)
    [n_best] = beam_search(table_model(table), torch.tensor([[A, EOS]]), config)
    assert [found.tokens for found in n_best] == [(), (A,)]
    # It would have been the best of all.
    [wide] = beam_search(table_model(table), torch.tensor([[A, EOS]]), replace(config, beam_size=9))
    assert wide[0].tokens == (B, *[A] * 8)


def test_an_end_that_ranks_below_the_beam_is_no_hypothesis(table_model):
    table = table_model(
        lambda source, target: {A: 0.5, B: 0.4, EOS: 0.1} if len(target) < 3 else {EOS: 0.9, A: 0.1}
    )
    config = DecodingConfig(beam_size=2, length_penalty=0.0)
    [n_best] = beam_search(table, torch.tensor([[A, EOS]]), config)
    # log(0.1) of the empty target beats log(0.5 * 0.5 * 0.5 * 0.9), its place in the beam does not.
    assert [sorted(found.tokens) for found in n_best] == [[A, A, A], [A, A, B]]


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
