"""Dropout, addition and layer norm in one pass: what they are one by one, and their gradients."""

import pytest
import torch
from torch.nn.functional import layer_norm

from calque.kernels.dropout import Dropout
from calque.kernels.library import library
from calque.kernels.residual import BLOCK, Norm, add_and_norm, add_and_norm_gradient

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 16), (50, 48), (3 * BLOCK + 1, 128)], ids=str)
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_it_is_one_after_the_other(p, normed, shape, dtype, threads, monkeypatch):
    x, made, grad = (torch.randn(shape).to(dtype) for _ in range(3))
    norm = Norm(torch.randn(shape[1]), torch.randn(shape[1]), 1e-5) if normed else None
    dropout = Dropout.drawn(p)
    kept = dropout(torch.ones(shape)).double()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    total, out, moments = add_and_norm(x, made, dropout, norm)
    found = add_and_norm_gradient(grad, total, moments, dropout, norm)

    leaves = [x.double().requires_grad_(), made.double().requires_grad_()]
    expected = leaves[0] + leaves[1] * kept
    if norm:
        leaves += [norm.weight.double().requires_grad_(), norm.bias.double().requires_grad_()]
        expected = layer_norm(expected, shape[1:], leaves[2], leaves[3], norm.epsilon)
    expected.backward(grad.double())
    limit = 2e-6 if dtype == torch.float32 else 1e-2
    assert apart(total if out is None else out, expected.detach()) < limit
    for gradient, leaf in zip(found, leaves, strict=False):
        assert gradient is not None
        assert leaf.grad is not None
        assert apart(gradient, leaf.grad) < limit
    assert all(gradient is None for gradient in found[len(leaves) :])


def test_threads_change_nothing(monkeypatch):
    x, made, grad = (torch.randn(5 * BLOCK, 32) for _ in range(3))
    norm, dropout = Norm(torch.randn(32), torch.randn(32), 1e-5), Dropout.drawn(0.1)

    def work():
        total, out, moments = add_and_norm(x, made, dropout, norm)
        return out, *add_and_norm_gradient(grad, total, moments, dropout, norm)

    alone = work()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert all(map(torch.equal, work(), alone))
