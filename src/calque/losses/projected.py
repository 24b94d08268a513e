"""The fast path of the loss over the vocabulary: projection and loss together, block by block.

Logits for all tokens at once are the largest tensors of training; they are written, read and
written again by each step of the plain path. Here a block of tokens is projected, its loss and
gradient are taken while it is in the processor's cache, and the logits are forgotten.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.losses.cross_entropy import Loss

BLOCK = 256  # tokens; with 8,000 words a block of float32 is 8 MB


def projected_loss(
    features: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    labels: Int[Tensor, " tokens"],
    smoothing: float,
    r_drop: float = 0.0,
) -> Loss:
    """smoothed_cross_entropy of the logits `features @ weight.T`.

    With `r_drop` the second half of the tokens is the first half through another dropout, and
    r_drop x symmetric_divergence of the two halves is added.
    """
    return Loss(*_ProjectedLoss.apply(features, weight, labels, smoothing, r_drop))


class _ProjectedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, labels: Tensor, smoothing: float, r_drop: float
    ) -> tuple[Tensor, Tensor]:
        half = torch.is_autocast_enabled(features.device.type)
        dtype = torch.get_autocast_dtype(features.device.type) if half else weight.dtype
        features_low, weight_low = features.to(dtype), weight.to(dtype)
        total, right = torch.zeros(2, dtype=torch.float64).unbind()
        features_grad = torch.empty_like(features_low)
        weight_grad = torch.zeros_like(weight)
        for rows in _blocks(len(labels), pairs=r_drop > 0):
            block, words = features_low[rows], labels[rows]
            log_probs = (block @ weight_low.T).log_softmax(dim=-1, dtype=torch.float32)
            right_log_probs = log_probs.gather(1, words[:, None])
            right -= right_log_probs.sum(dtype=torch.float64)
            total -= smoothing * log_probs.mean(dim=-1).sum(dtype=torch.float64)
            grad = _divergence(log_probs, r_drop, total) if r_drop else log_probs.exp_()
            grad.sub_(smoothing / weight.size(0))
            grad.scatter_add_(1, words[:, None], torch.full_like(right_log_probs, smoothing - 1))
            grad_low = grad.to(dtype)
            features_grad[rows] = grad_low @ weight_low
            weight_grad += grad_low.T @ block
        ctx.save_for_backward(features_grad, weight_grad)
        total, right = ((1 - smoothing) * right + total).to(weight), right.to(weight)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, total: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features_grad, weight_grad = ctx.saved_tensors
        return features_grad * total, weight_grad * total, None, None, None


def _divergence(log_probs: Tensor, weight: float, total: Tensor) -> Tensor:
    """Add the divergence of a block's two halves to `total`; the gradient of it and of -log p."""
    first, second = log_probs.chunk(2)
    probs = log_probs.exp()
    apart = first - second
    first_probs, second_probs = probs.chunk(2)
    first_to_second = (first_probs * apart).sum(dim=-1, keepdim=True)
    second_to_first = -(second_probs * apart).sum(dim=-1, keepdim=True)
    total += 0.5 * weight * (first_to_second + second_to_first).sum(dtype=torch.float64)
    between = first_probs - second_probs
    first_grad = first_probs * (apart - first_to_second) + between
    second_grad = second_probs * (-apart - second_to_first) - between
    return probs + 0.5 * weight * torch.cat([first_grad, second_grad])


def _blocks(tokens: int, pairs: bool) -> list[Tensor | slice]:
    if not pairs:
        return [slice(start, start + BLOCK) for start in range(0, tokens, BLOCK)]
    blocks = torch.arange(tokens // 2).split(BLOCK // 2)
    return [torch.cat([block, block + tokens // 2]) for block in blocks]
