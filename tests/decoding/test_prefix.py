"""Search with a given beginning, against all targets that begin so and against plain search."""

import math

import pytest
import torch

from calque.config import CalqueError
from calque.decoding import SEARCHES
from calque.decoding.beam import beam_search
from calque.decoding.config import DecodingConfig
from calque.decoding.greedy import greedy_search
from calque.decoding.prefix import likeliest_after, search_from
from calque.models.fast_decoding import FastTransformer
from calque.models.kernel_decoding import KernelTransformer

PAD, UNK, BOS, EOS, A, B = range(6)

LONGEST = 3
WHOLE_SPACE = 40  # targets of up to 3 tokens out of 3


def prefixes(sources, *tokens):
    return torch.tensor([tokens] * len(sources), dtype=torch.long)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("prefix", [(A,), (B, UNK)])
def test_a_wide_beam_finds_all_targets_that_begin_so(
    model, sources, forced, all_targets, alpha, prefix
):
    config = DecodingConfig(beam_size=WHOLE_SPACE, length_penalty=alpha, max_length=LONGEST)
    found = search_from(beam_search, model, sources, prefixes(sources, *prefix), config)
    for source, n_best in zip(sources, found, strict=True):
        expected = {
            tokens: sum(forced(model, source, tokens)) / ((6 + len(tokens)) / 6) ** alpha
            for tokens in all_targets(LONGEST)
            if tokens[: len(prefix)] == prefix
        }
        assert {one.tokens: one.score for one in n_best} == pytest.approx(expected, abs=1e-5)
        assert n_best[0].tokens == max(expected, key=expected.get)


def test_scores_are_those_of_the_whole_target(model, sources, forced):
    config = DecodingConfig(beam_size=3, max_length=9)
    found = search_from(beam_search, model, sources, prefixes(sources, B, A), config)
    for source, n_best in zip(sources, found, strict=True):
        for one in n_best:
            expected = forced(model, source, one.tokens)
            assert one.tokens[:2] == (B, A)
            assert one.token_log_probs == pytest.approx(expected, abs=1e-5)
            assert one.log_prob == pytest.approx(sum(expected), abs=1e-5)


def test_greedy_search_goes_on_as_it_went_without(model, sources):
    config = DecodingConfig(search="greedy", max_length=9)
    for source, n_best in zip(sources, greedy_search(model, sources, config), strict=True):
        (best,) = n_best
        for length in range(len(best.tokens)):
            prefix = torch.tensor([best.tokens[:length]], dtype=torch.long)
            (again,) = search_from(greedy_search, model, source[None], prefix, config)
            assert again[0].tokens == best.tokens
            assert again[0].score == pytest.approx(best.score, abs=1e-5)


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_the_fast_path_is_the_plain_one(transformer, sources, search):
    config = DecodingConfig(beam_size=3, max_length=9)
    prefix = prefixes(sources, A, B)
    kinds = [kind for kind in (FastTransformer, KernelTransformer) if kind.can_take(transformer)]
    plain, *fast = (
        search_from(search, model, sources, prefix, config)
        for model in (transformer, *(kind(transformer) for kind in kinds))
    )
    tokens = [[[one.tokens for one in n_best] for n_best in found] for found in (plain, *fast)]
    assert all(found == tokens[0] for found in tokens)


def test_an_empty_prefix_changes_nothing(model, sources):
    config = DecodingConfig(beam_size=3, max_length=9)
    empty = prefixes(sources)
    assert search_from(beam_search, model, sources, empty, config) == beam_search(
        model, sources, config
    )


def test_each_source_has_its_own_prefix(model, sources):
    config = DecodingConfig(beam_size=2, max_length=9)
    prefix = torch.tensor([[A], [B], [A], [UNK], [B]])
    found = search_from(beam_search, model, sources, prefix, config)
    for i, n_best in enumerate(found):
        (alone,) = search_from(beam_search, model, sources[i : i + 1], prefix[i : i + 1], config)
        assert [one.tokens for one in n_best] == [one.tokens for one in alone]


@pytest.mark.parametrize("prefix", [(), (A,), (B, A)])
def test_the_likeliest_tokens_after_a_prefix(model, sources, forced, prefix):
    log_probs, tokens = likeliest_after(model, sources, prefixes(sources, *prefix), 3)
    for row, source in enumerate(sources):
        chances = {EOS: forced(model, source, prefix)[-1]}
        for token in (UNK, A, B):
            chances[token] = forced(model, source, (*prefix, token))[-2]
        best = sorted(chances, key=chances.get, reverse=True)[:3]
        assert tokens[row].tolist() == best
        assert log_probs[row].tolist() == pytest.approx([chances[t] for t in best], abs=1e-5)
        assert all(chance < math.log(1.0001) for chance in log_probs[row].tolist())


def test_a_prefix_that_leaves_no_room_is_refused(model, sources):
    config = DecodingConfig(max_length=2)
    with pytest.raises(CalqueError, match="prefix: 2 tokens, of at most 2"):
        search_from(beam_search, model, sources, prefixes(sources, A, B), config)
