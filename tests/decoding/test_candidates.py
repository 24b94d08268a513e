"""The best continuations are those of log_softmax and topk, however they are found."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from calque.decoding.candidates import GROUP, continuations
from calque.kernels.library import library
from calque.models.build import ModelConfig, build
from calque.models.interface import Continuations
from calque.models.kernel_decoding import KernelTransformer

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


@pytest.mark.skipif(library() is None, reason="no C compiler")
@torch.inference_mode()
@pytest.mark.parametrize("words", [10, 64, 700, 3001])
@pytest.mark.parametrize("size", [1, 10, 70])
@pytest.mark.parametrize("ids", [(0, 2, 3), (9, 9, 0), (1, 0, 2)], ids=["ours", "marian", "other"])
@pytest.mark.parametrize("output", ["tied", "biased"])
def test_a_model_that_finds_them_itself_finds_the_same(words, size, ids, output):
    torch.manual_seed(words + size)
    special = dict(zip(("pad_id", "bos_id", "eos_id"), ids, strict=True))
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "num_heads": 2}
    model = build(ModelConfig(output=output, **sizes), words, words, **special).eval()
    model.embedding.table.weight.mul_(3)  # far from alike
    if model.output.bias is not None:
        model.output.bias.normal_()
    for sentences, width in ((1, 1), (17, 1), (1, 5), (9, 4)):
        source = torch.randint(4, 9, (sentences, 3))
        scores, must_end = torch.randn(sentences, width), torch.arange(sentences) % 3 == 1
        scores[::2, width // 2 + 1 :] = -INFINITE
        last = torch.randint(words, (sentences * width,))
        first, parents = last[:sentences, None], torch.arange(sentences).repeat_interleave(width)

        def begun(one: Any, source=source, first=first, parents=parents) -> tuple[Any, Any]:
            memory = one.encode(source)
            past = one.start(memory)
            one.decode(first, memory, past)
            past.select(parents)
            return memory, past

        log_probs = model.decode(last[:, None], *begun(model))[:, 0].log_softmax(dim=1)
        plain, ours = (
            continuations(one, last, *begun(one), scores, must_end, size)
            for one in (model, KernelTransformer(model))
        )
        torch.testing.assert_close(ours.scores, plain.scores, rtol=0, atol=1e-4)
        # Near ties may be in another order, but what is said of each is true.
        index = ours.parents * words + ours.tokens
        there = ours.scores > -INFINITE
        given = log_probs.view(sentences, -1).gather(1, index)[there]
        torch.testing.assert_close(ours.log_probs[there], given, rtol=0, atol=1e-4)
        total = scores.gather(1, ours.parents)[there] + ours.log_probs[there]
        torch.testing.assert_close(ours.scores[there], total)
        for row, kept in zip(index, there, strict=True):
            assert len(set(row[kept].tolist())) == kept.sum()
        assert (ours.tokens[must_end] == ids[2]).all()
        free = there & ~must_end[:, None]
        assert not torch.isin(ours.tokens[free], torch.tensor(ids[:2])).any()
