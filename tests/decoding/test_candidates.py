"""The likeliest next tokens are those of log_softmax and topk, however they are found."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from calque.decoding.candidates import BLOCK, GROUP, largest, next_tokens

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


@every_kind
@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize(
    "entries", [12, 100, 4 * GROUP, 20 * GROUP + 1, 48 * GROUP, 50 * GROUP - 1, 8000]
)
def test_the_largest_are_those_of_topk(kind, size, entries):
    for rows in (0, 1, 7):
        x = logits_of(kind, rows, entries)
        values, where = largest(x, size)
        assert torch.equal(values, x.topk(size).values)
        assert torch.equal(x.gather(1, where), values)
        assert all(len(set(row)) == size for row in where.tolist())  # of equals each once


def test_the_largest_may_all_lie_side_by_side():
    x = torch.zeros(3, 100 * GROUP)
    x[0, :8], x[1, -8:], x[2, 5 * GROUP - 4 : 5 * GROUP + 4] = 1, 1, 1
    values, where = largest(x[:, :-3], 8)
    assert torch.equal(values, x[:, :-3].topk(8).values)
    assert where[0].sort().values.tolist() == list(range(8))
    assert where[2].sort().values.tolist() == list(range(5 * GROUP - 4, 5 * GROUP + 4))


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


def next_of(logits: Tensor, must_end: Tensor, size: int, *ids: int) -> tuple[Tensor, Tensor]:
    model = Told(logits, *ids)
    last = torch.zeros(len(logits), dtype=torch.long)
    return next_tokens(model, last, model, model, must_end, size)


@every_kind
@pytest.mark.parametrize("ids", [(0, 2, 3), (9, 9, 0), (1, 0, 2)], ids=["ours", "marian", "other"])
@pytest.mark.parametrize("rows", [1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize(("entries", "size"), [(10, 1), (10, 10), (12, 7), (3000, 1), (3000, 10)])
def test_next_tokens_are_the_likeliest_that_may_follow(kind, ids, rows, entries, size):
    pad, bos, eos = ids
    logits = logits_of(kind, rows, entries)
    logits[:, [pad, eos]] = logits.amax(dim=1, keepdim=True).clamp(min=0) + 1  # both are tempting
    must_end = torch.arange(rows) % 3 == 1
    log_probs = logits.log_softmax(dim=1)  # before anything is ruled out
    allowed = log_probs.clone()
    allowed[:, [pad, bos]] = -INFINITE
    only_end = torch.full_like(allowed, -INFINITE)
    only_end[:, eos] = log_probs[:, eos]
    allowed = torch.where(must_end[:, None], only_end, allowed)
    before = logits.clone()
    found, tokens = next_of(logits, must_end, size, *ids)
    torch.testing.assert_close(found, allowed.topk(size).values)
    assert torch.equal(logits, before)
    there = found > -INFINITE
    torch.testing.assert_close(allowed.gather(1, tokens)[there], found[there])
    assert all(
        len(set(row[kept].tolist())) == kept.sum() for row, kept in zip(tokens, there, strict=True)
    )


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_a_normaliser_does_not_overflow(shift):
    logits = logits_of("random", 2, 3000)
    none = torch.zeros(2, dtype=torch.bool)
    plain, shifted = (next_of(x, none, 3, 0, 2, 3)[0] for x in (logits, logits + shift))
    torch.testing.assert_close(shifted, plain, atol=2e-3, rtol=0)


def test_half_precision_logits_are_normalised_in_float32():
    logits = logits_of("random", 4, 500).bfloat16()
    found, tokens = next_of(logits, torch.zeros(4, dtype=torch.bool), 5, 0, 2, 3)
    expected = logits.float().log_softmax(dim=1).gather(1, tokens)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
