"""The softmax over a vocabulary: the normalisers of all logits, and their gradients."""

import pytest
import torch
from torch.nn.functional import linear

from calque.kernels.library import library
from calque.kernels.vocabulary import PART, TOKENS, ProjectedSoftmax
from calque.losses.projected import projected_loss

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


class Drawn:
    """Rows, a vocabulary, and its softmax, whose gradients start at one."""

    def __init__(self, rows: int, vocab: int, width: int, biased: bool) -> None:
        torch.manual_seed(rows + vocab)
        self.features = torch.randn(rows, width).bfloat16()
        self.weight = torch.randn(vocab, width).mul(3 / width**0.5).bfloat16()
        self.bias = torch.randn(vocab) if biased else None
        self.gradients = [torch.ones(vocab, width), torch.ones(vocab) if biased else None]
        parts = self.weight.new_empty(rows + -rows % TOKENS, vocab)
        self.softmax = ProjectedSoftmax(self.weight, self.bias, *self.gradients, parts)

    def near(self) -> torch.Tensor:
        """The logits of the first word."""
        near = self.features.float() @ self.weight[0].float()
        return near if self.bias is None else near + self.bias[0]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("rows", "vocab", "width"),
    [(1, 1, 32), (TOKENS, PART, 64), (3 * TOKENS - 5, 2 * PART + 9, 96), (300, 1000, 288)],
    ids=str,
)
def test_normalisers_and_gradients_are_those_of_the_formula(
    rows, vocab, width, biased, threads, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    drawn = Drawn(rows, vocab, width, biased)
    normalisers, of_features = drawn.softmax.add(drawn.features, drawn.near())

    given = [drawn.features, drawn.weight, *([drawn.bias] if biased else [])]
    leaves = [tensor.double().requires_grad_() for tensor in given]
    expected = linear(*leaves).logsumexp(dim=1)
    expected.sum().backward()
    torch.testing.assert_close(normalisers.double(), expected.detach(), rtol=0, atol=2e-5)
    found = [of_features, *(grad - 1 for grad in drawn.gradients if grad is not None)]
    for gradient, leaf in zip(found, leaves, strict=True):
        assert apart(gradient, leaf.grad) < 4e-3


def test_rows_may_lie_in_memory_in_any_order():
    rows = Drawn(TOKENS, 50, 32, biased=False)
    across = Drawn(TOKENS, 50, 32, biased=False)
    expected = rows.softmax.add(rows.features, rows.near())
    turned = across.features.T.contiguous().T
    assert all(map(torch.equal, across.softmax.add(turned, rows.near()), expected))


def test_threads_change_nothing(monkeypatch):
    def work():
        drawn = Drawn(5 * TOKENS - 3, 3 * PART + 1, 64, biased=True)
        return *drawn.softmax.add(drawn.features, drawn.near()), *drawn.gradients

    alone = work()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert all(map(torch.equal, work(), alone))


@pytest.mark.parametrize("below", [100.0, 1000.0, torch.inf, torch.nan])
def test_a_row_whose_reference_is_too_far_off_changes_nothing(below):
    drawn = Drawn(70, 50, 32, biased=True)
    near = drawn.near()
    near[68] -= below
    assert drawn.softmax.add(drawn.features, near) is None
    assert all((gradient == 1).all() for gradient in drawn.gradients)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scale", [1.0, 300.0])  # the second: labels that are all but impossible
def test_the_loss_by_it_is_the_loss_without(scale, biased, monkeypatch):
    drawn = Drawn(700, 999, 64, biased)
    labels = torch.randint(0, 999, (700,))

    def losses(taken):
        monkeypatch.setattr(ProjectedSoftmax, "can_take", lambda *_: taken)
        given = [drawn.features.float() * scale, drawn.weight.float(), drawn.bias]
        leaves = [None if x is None else x.clone().requires_grad_() for x in given]
        with torch.autocast("cpu", torch.bfloat16):
            loss = projected_loss(*leaves, labels, smoothing=0.1)
        (loss.total / 700).backward()
        return loss, [leaf.grad for leaf in leaves if leaf is not None]

    (by_it, gradients), (without, others) = losses(True), losses(False)
    torch.testing.assert_close(tuple(by_it), tuple(without), rtol=2e-3, atol=0)
    for gradient, other in zip(gradients, others, strict=True):
        assert apart(gradient, other.double()) < 2e-2


def test_what_is_no_number_makes_a_loss_that_is_none(monkeypatch):
    monkeypatch.setattr(ProjectedSoftmax, "can_take", lambda *_: True)
    drawn = Drawn(70, 50, 32, biased=False)
    features = drawn.features.float()
    features[3, 5] = torch.nan
    with torch.autocast("cpu", torch.bfloat16):
        loss = projected_loss(features, drawn.weight.float(), None, torch.zeros(70).long(), 0.1)
    assert loss.total.isnan()
