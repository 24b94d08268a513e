"""Losses: against PyTorch's own, and the fast path of each against the plain one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from calque.losses.cross_entropy import Loss, smoothed_cross_entropy
from calque.losses.projected import BLOCK, projected_loss
from calque.losses.r_drop import symmetric_divergence

SEEDS = st.integers(0, 2**31)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draw_labels(seed: int, tokens: int, vocab: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab, (tokens,), generator=generator)


# Label smoothing


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(2, 30), st.floats(0, 0.99), SEEDS)
def test_smoothed_cross_entropy_is_that_of_pytorch(
    tokens: int, vocab: int, smoothing: float, seed: int
) -> None:
    logits, labels = 4 * draw(seed, tokens, vocab), draw_labels(seed, tokens, vocab)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = smoothed_cross_entropy(ours, labels, smoothing)
    expected = F.cross_entropy(theirs, labels, label_smoothing=smoothing, reduction="sum")
    assert_close(loss.total, expected)
    assert_close(loss.cross_entropy, F.cross_entropy(logits, labels, reduction="sum"))
    assert_close(
        *(torch.autograd.grad(of, x)[0] for of, x in ((loss.total, ours), (expected, theirs)))
    )


def test_without_smoothing_the_total_is_the_cross_entropy() -> None:
    loss = smoothed_cross_entropy(draw(1, 5, 9).requires_grad_(), draw_labels(1, 5, 9), 0.0)
    assert_close(loss.total, loss.cross_entropy)
    assert not loss.cross_entropy.requires_grad


def test_the_least_smoothed_loss_is_at_the_smoothed_label() -> None:
    labels, smoothing = draw_labels(1, 5, 9), 0.1
    smoothed = (1 - smoothing) * F.one_hot(labels, 9).double() + smoothing / 9
    logits = smoothed.log().requires_grad_()
    smoothed_cross_entropy(logits, labels, smoothing).total.backward()
    assert logits.grad is not None
    assert_close(logits.grad, torch.zeros(5, 9, dtype=torch.float64))


# R-Drop


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(2, 30), SEEDS)
def test_the_divergence_is_symmetric_and_that_of_pytorch(
    tokens: int, vocab: int, seed: int
) -> None:
    first, second = 3 * draw(seed, tokens, vocab), 3 * draw(seed + 1, tokens, vocab)
    divergence = symmetric_divergence(first, second)
    log_probs = first.log_softmax(dim=-1), second.log_softmax(dim=-1)
    both = [
        F.kl_div(other, one, log_target=True, reduction="sum")
        for one, other in (log_probs, log_probs[::-1])
    ]
    assert_close(divergence, (both[0] + both[1]) / 2)
    assert_close(symmetric_divergence(second, first), divergence)
    assert divergence > 0


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(2, 30), SEEDS)
def test_the_divergence_of_equal_distributions_is_zero(tokens: int, vocab: int, seed: int) -> None:
    logits = 3 * draw(seed, tokens, vocab)
    assert symmetric_divergence(logits, logits) == 0
    shifted = logits + draw(seed + 1, tokens, 1)  # other logits, the same probabilities
    assert symmetric_divergence(logits, shifted).item() == pytest.approx(0, abs=1e-12)


# The fast path


def plainly(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    smoothing: float,
    r_drop: float,
) -> Loss:
    logits = F.linear(features, weight, bias)
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    if not r_drop:
        return loss
    return loss._replace(total=loss.total + r_drop * symmetric_divergence(*logits.chunk(2)))


def with_gradients(loss: Loss, *inputs: Tensor | None) -> tuple[Loss, list[Tensor]]:
    # Not 1: what flows back from the outside must be heeded.
    (3 * loss.total).backward()
    gradients = [tensor.grad.double() for tensor in inputs if tensor is not None]
    return Loss(*(part.detach().double() for part in loss)), gradients


def both_paths(
    tokens: int, vocab: int, smoothing: float, r_drop: float, seed: int, biased: bool
) -> tuple[tuple[Loss, list[Tensor]], tuple[Loss, list[Tensor]]]:
    """The fast path in float32 (or as autocast has it) and the plain one in float64."""
    inputs = [draw(seed, tokens, 13), draw(seed + 1, vocab, 13), 3 * draw(seed + 2, vocab)]
    labels = draw_labels(seed, tokens, vocab)
    fast = [tensor.float().requires_grad_() for tensor in inputs]
    plain = [tensor.requires_grad_() for tensor in inputs]
    if not biased:
        fast[2] = plain[2] = None
    return (
        with_gradients(projected_loss(*fast, labels, smoothing, r_drop), *fast),
        with_gradients(plainly(*plain, labels, smoothing, r_drop), *plain),
    )


def assert_same(
    tokens: int, vocab: int, smoothing: float, r_drop: float, seed: int, biased: bool
) -> None:
    (loss, gradients), (expected, expected_gradients) = both_paths(
        tokens, vocab, smoothing, r_drop, seed, biased
    )
    assert len(gradients) == 2 + biased
    assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    assert_close(gradients, expected_gradients, rtol=1e-4, atol=1e-4)


each_output = pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
ODD_SIZES = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 37]
EVEN_SIZES = [2, BLOCK - 2, BLOCK, BLOCK + 2, 2 * BLOCK, 2 * (BLOCK + 37)]


@pytest.mark.parametrize("tokens", ODD_SIZES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@each_output
def test_the_fast_path_is_the_plain_one(tokens: int, smoothing: float, biased: bool) -> None:
    assert_same(tokens, 31, smoothing, r_drop=0.0, seed=1, biased=biased)


@pytest.mark.parametrize("tokens", EVEN_SIZES)
@pytest.mark.parametrize("r_drop", [0.5, 5.0])
@each_output
def test_the_fast_path_is_the_plain_one_with_r_drop(
    tokens: int, r_drop: float, biased: bool
) -> None:
    assert_same(tokens, 31, smoothing=0.1, r_drop=r_drop, seed=1, biased=biased)


@settings(deadline=None, max_examples=40)
@given(
    half=st.integers(1, BLOCK + 10),
    vocab=st.integers(2, 50),
    smoothing=st.floats(0, 0.9),
    r_drop=st.sampled_from([0.0, 0.1, 3.0]),
    seed=SEEDS,
    biased=st.booleans(),
)
def test_the_fast_path_is_the_plain_one_for_any_sizes(
    half: int, vocab: int, smoothing: float, r_drop: float, seed: int, biased: bool
) -> None:
    assert_same(2 * half, vocab, smoothing, r_drop, seed, biased)


@pytest.mark.parametrize("r_drop", [0.0, 2.0])
@each_output
def test_the_fast_path_in_bf16_is_close(r_drop: float, biased: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        (loss, gradients), (expected, expected_gradients) = both_paths(
            2 * BLOCK + 38, 31, 0.1, r_drop, seed=1, biased=biased
        )
    assert_close(loss, expected, rtol=0.01, atol=0)
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        assert (gradient - right).norm() < 0.02 * right.norm()


def test_gradients_in_bf16_come_in_the_dtype_of_what_they_are_for() -> None:
    inputs = [draw(1, 5, 13), draw(2, 31, 13), draw(3, 31)]
    inputs = [tensor.float().requires_grad_() for tensor in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        loss = projected_loss(*inputs, draw_labels(1, 5, 31), 0.1)
    loss.total.backward()
    gradients = [tensor.grad for tensor in inputs]
    assert {loss.total.dtype, *(gradient.dtype for gradient in gradients)} == {torch.float32}


def test_only_the_total_is_trained_on() -> None:
    features = draw(1, 5, 13).float().requires_grad_()
    loss = projected_loss(features, draw(2, 31, 13).float(), None, draw_labels(1, 5, 31), 0.1)
    assert loss.total.requires_grad
    assert not loss.cross_entropy.requires_grad


def test_a_matrix_that_embeds_and_predicts_gets_both_gradients() -> None:
    labels, grads = draw_labels(1, 5, 31), []
    for path in (plainly, projected_loss):
        weight = draw(2, 31, 13).float().requires_grad_()
        path(weight[labels] * 2, weight, None, labels, 0.1, 0.0).total.backward()
        grads.append(weight.grad)
    assert_close(*grads)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("r_drop", [0.0, 2.0])
def test_the_fast_path_on_a_gpu_is_that_on_a_cpu(r_drop: float) -> None:
    results = []
    for device in ("cpu", "cuda"):
        features = draw(1, 2 * BLOCK + 38, 13).float().to(device).requires_grad_()
        weight = draw(2, 31, 13).float().to(device).requires_grad_()
        bias = draw(4, 31).float().to(device).requires_grad_()
        labels = draw_labels(3, len(features), 31).to(device)
        loss = projected_loss(features, weight, bias, labels, 0.1, r_drop)
        results.append(with_gradients(loss, features, weight, bias))
    assert_close(*results, rtol=1e-3, atol=1e-3, check_device=False)


@pytest.mark.parametrize("r_drop", [0.0, 2.0])
def test_extreme_logits_stay_finite(r_drop: float) -> None:
    features = torch.tensor([[1e4], [-1e4], [1e4], [1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]], requires_grad=True)
    bias = torch.tensor([0.0, 1e4, -1e4], requires_grad=True)
    loss = projected_loss(features, weight, bias, torch.tensor([1, 0, 0, 2]), 0.1, r_drop)
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(tensor.grad.isfinite().all() for tensor in (features, weight, bias))
