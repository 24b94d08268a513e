"""Greedy search, and what is true of every search."""

import math

import pytest
import torch

from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.decoding.greedy import greedy_search

PAD, UNK, BOS, EOS, A, B = range(6)

every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def test_each_token_is_the_likeliest_given_those_before(model, sources, forced):
    config = DecodingConfig(max_length=9)
    for source, [best] in zip(sources, greedy_search(model, sources, config), strict=True):
        for end in range(len(best.tokens)):
            prefix = best.tokens[:end]
            chances = {token: forced(model, source, (*prefix, token))[end] for token in (UNK, A, B)}
            chances[EOS] = forced(model, source, prefix)[end]
            assert max(chances, key=chances.get) == best.tokens[end]


@every_search
def test_a_hypothesis_scores_what_the_model_gives_it(search, model, sources, forced):
    alpha = 0.7
    config = DecodingConfig(beam_size=3, length_penalty=alpha, max_length=6)
    for source, n_best in zip(sources, search(model, sources, config), strict=True):
        for found in n_best:
            expected = forced(model, source, found.tokens)
            assert found.token_log_probs == pytest.approx(expected, abs=1e-5)
            assert found.log_prob == pytest.approx(sum(expected), abs=1e-5)
            penalty = ((5 + len(expected)) / 6) ** alpha
            assert found.score == pytest.approx(sum(expected) / penalty, abs=1e-5)


@every_search
def test_the_batch_around_a_sentence_changes_nothing(search, model, sources):
    config = DecodingConfig(beam_size=3, max_length=12)
    together = search(model, sources, config)
    assert len({len(n_best[0].tokens) for n_best in together}) > 1  # they leave one by one
    turned = search(model, torch.nn.functional.pad(sources.flip(0), (0, 3)), config)[::-1]
    for source, in_batch, in_other in zip(sources, together, turned, strict=True):
        [alone] = search(model, source[source != PAD][None], config)
        for other in (in_batch, in_other):
            assert [found.tokens for found in other] == [found.tokens for found in alone]
            scores = [found.score for found in alone]
            assert [found.score for found in other] == pytest.approx(scores, abs=1e-5)


@every_search
@pytest.mark.parametrize(("max_length", "lengths"), [(256, [52, 55]), (53, [52, 53]), (4, [4, 4])])
def test_a_target_ends_at_its_limit(search, table_model, max_length, lengths):
    endless = table_model(lambda source, target: {A: 0.9, B: 0.0999})
    sources = torch.tensor([[A, EOS, PAD, PAD, PAD], [A, A, A, A, EOS]])
    found = search(endless, sources, DecodingConfig(beam_size=2, max_length=max_length))
    assert [n_best[0].tokens for n_best in found] == [(A,) * length for length in lengths]
    # EOS was forced, yet it costs what the model makes of it.
    assert found[0][0].token_log_probs[-1] == pytest.approx(math.log(1e-9), rel=1e-3)


@every_search
def test_padding_and_begin_of_sentence_never_come_out(search, table_model, sources):
    confused = table_model(lambda source, target: {PAD: 0.5, BOS: 0.3, A: 0.15, EOS: 0.05})
    for n_best in search(confused, sources, DecodingConfig(max_length=5)):
        assert n_best
        for found in n_best:
            assert set(found.tokens) <= {UNK, A, B}


@every_search
def test_a_diverged_model_does_not_hang_it(search, table_model, sources):
    diverged = table_model(lambda source, target: {A: math.nan})
    assert len(search(diverged, sources, DecodingConfig(max_length=5))) == len(sources)


@every_search
def test_no_gradient_is_kept(search, transformer, sources):
    search(transformer, sources, DecodingConfig(max_length=3))
    logits = transformer(sources, sources)
    logits.sum().backward()  # the model itself is left as fit for training as it was
    assert all(weight.grad is not None for weight in transformer.parameters())
