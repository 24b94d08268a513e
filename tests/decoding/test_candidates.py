"""The best continuations are those of log_softmax and topk, however they are found."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from calque.decoding.candidates import GROUP, continuations
from calque.models.interface import Continuations

INFINITE = torch.inf


def logits_of(kind: str, rows: int, entries: int) -> Tensor:
    """Logits that are hard to order, each in a way of its own."""
    generator = torch.Generator().manual_seed(rows * entries)
    drawn = torch.randn(rows, entries, generator=generator)
    if kind == "tied":
        return drawn.mul(2).round()
    if kind == "mostly ruled out":
        return drawn.masked_fill(torch.rand(rows, entries, generator=generator) < 0.99, -INFINITE)
    if kind == "in order":
        return drawn.sort(dim=1).values
    return drawn


every_kind = pytest.mark.parametrize("kind", ["random", "tied", "mostly ruled out", "in order"])


class Told:
    """A model, and its memory and past, that answers with the logits that it was told."""

    def __init__(self, logits: Tensor, pad: int, bos: int, eos: int) -> None:
        ids = {"pad_id": pad, "bos_id": bos, "eos_id": eos}
        self.config = SimpleNamespace(target_vocab_size=logits.size(1), **ids)
        self.logits = logits

    def encode(self, source: Tensor) -> "Told":
        return self

    def start(self, memory: "Told") -> "Told":
        return self

    def select(self, rows: Tensor) -> "Told":
        return self

    def decode(self, target: Tensor, memory: "Told", past: "Told") -> Tensor:
        return self.logits[:, None]


def found_in(
    logits: Tensor, scores: Tensor, must_end: Tensor, size: int, *ids: int
) -> Continuations:
    model = Told(logits.clone(), *ids)  # which are written over
    last = torch.zeros(len(logits), dtype=torch.long)
    return continuations(model, last, model, model, scores, must_end, size)


@every_kind
@pytest.mark.parametrize("ids", [(0, 2, 3), (9, 9, 0), (1, 0, 2)], ids=["ours", "marian", "other"])
@pytest.mark.parametrize(("sentences", "width"), [(1, 1), (67, 1), (1, 5), (17, 4)])
@pytest.mark.parametrize(
    ("entries", "size"),
    [(10, 1), (10, 10), (12, 70), (GROUP, 3), (20 * GROUP + 1, 10), (3000, 1), (3000, 10)],
)
def test_they_are_the_likeliest_that_may_follow(kind, ids, sentences, width, entries, size):
    pad, bos, eos = ids
    logits = logits_of(kind, sentences * width, entries)
    logits[:, [pad, eos]] = logits.amax(dim=1, keepdim=True).clamp(min=0) + 1  # both are tempting
    scores = logits_of("random", sentences, width)
    must_end = torch.arange(sentences) % 3 == 1
    log_probs = logits.log_softmax(dim=1).unflatten(0, scores.shape)  # before any is ruled out
    allowed = log_probs.clone()
    allowed[..., [pad, bos]] = -INFINITE
    only_end = torch.full_like(allowed, -INFINITE)
    only_end[..., eos] = log_probs[..., eos]
    allowed = torch.where(must_end[:, None, None], only_end, allowed)
    totals = (scores[..., None] + allowed).flatten(1)
    found = found_in(logits, scores, must_end, size, *ids)
    torch.testing.assert_close(found.scores, totals.topk(min(size, width * entries)).values)
    there = found.scores > -INFINITE
    index = found.parents * entries + found.tokens
    torch.testing.assert_close(totals.gather(1, index)[there], found.scores[there])
    torch.testing.assert_close(allowed.flatten(1).gather(1, index)[there], found.log_probs[there])
    assert all(
        len(set(row[kept].tolist())) == kept.sum() for row, kept in zip(index, there, strict=True)
    )


def test_the_best_may_all_lie_side_by_side():
    logits = torch.zeros(3, 100 * GROUP - 3)
    places = torch.tensor([[8], [len(logits[0]) - 8], [5 * GROUP - 4]]) + torch.arange(8)
    logits.scatter_(1, places, 1.0)
    none = torch.zeros(3, dtype=torch.bool)
    found = found_in(logits, torch.zeros(3, 1), none, 8, 0, 2, 3)
    assert torch.equal(found.tokens.sort(dim=1).values, places)


def test_those_of_a_much_better_prefix_win():
    logits = logits_of("random", 6, 3000)
    scores = torch.tensor([[0.0, -50.0, -50.0], [-50.0, -50.0, 0.0]])
    none = torch.zeros(2, dtype=torch.bool)
    found = found_in(logits, scores, none, 4, 0, 2, 3)
    assert found.parents.tolist() == [[0] * 4, [2] * 4]


@pytest.mark.parametrize("shift", [-1e4, 1e4])
@pytest.mark.parametrize("place", [500, 2999], ids=["in a whole group", "in what is left"])
def test_a_normaliser_does_not_overflow(shift, place):
    logits = logits_of("random", 2, 3000)
    logits[:, place] += 200
    none, scores = torch.zeros(2, dtype=torch.bool), torch.zeros(2, 1)
    both = (found_in(x, scores, none, 3, 0, 2, 3) for x in (logits, logits + shift))
    plain, shifted = (found.scores for found in both)
    torch.testing.assert_close(shifted, plain, atol=2e-3, rtol=0)


def test_half_precision_logits_are_normalised_in_float32():
    logits = logits_of("random", 4, 500).bfloat16()
    none = torch.zeros(4, dtype=torch.bool)
    found = found_in(logits, torch.zeros(4, 1), none, 5, 0, 2, 3)
    expected = logits.float().log_softmax(dim=1).gather(1, found.tokens)
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.log_probs, expected)
