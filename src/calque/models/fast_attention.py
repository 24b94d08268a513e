"""The fast path of the paper's attention in training on a CPU, at the length of sentences.

A softmax over some twenty keys is several times faster in float32 than in bf16, so the scores are
float32 from the product to the weights; and mask and scale come in one addition. Of fewer keys than
a vector holds, it is ten times slower, so there are keys of zeros behind, which are masked.
"""

from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calque.models.transformer import Attention, ScaledDotProduct


MULTIPLE = 16
"""float32 numbers in the widest vector register: there are a multiple of so many keys."""


class FastAttention(Attention):
    """`Attention` that, in training, has its gradient written out."""

    def __init__(self, plain: Attention) -> None:
        nn.Module.__init__(self)
        self.score, self.softmax, self.dropout = plain.score, plain.softmax, plain.dropout
        self.train(plain.training)

    @staticmethod
    def can_take(module: nn.Module) -> TypeGuard[Attention]:
        """Whether the module is an attention that this is the fast path of."""
        if type(module) is not Attention or type(module.score) is not ScaledDotProduct:
            return False
        return not module.dropout.p

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
        value: Float[Tensor, "batch heads key d_head"],
        mask: Bool[Tensor, "#batch 1 #query key"],
    ) -> Float[Tensor, "batch heads query d_head"]:
        if not self.training:
            return super().forward(query, key, value, mask)
        return _Attend.apply(query, key, value, mask, self.score.scale)  # pyright: ignore[reportReturnType]


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float
    ) -> Tensor:
        heads, keys = query.shape[:2], key.size(2)
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
        query, key, value = query.flatten(0, 1).to(low), _wide(key, low), _wide(value, low)
        scores = torch.bmm(query, key.mT).float().unflatten(0, heads)
        forbidden = scores.new_full((*mask.shape[:3], key.size(1)), -torch.inf)
        forbidden[..., :keys] = 0
        forbidden[..., :keys].masked_fill_(~mask, torch.finfo(torch.float32).min)
        scores = torch.add(forbidden, scores, alpha=scale)
        weights = scores.softmax(dim=-1).to(low).flatten(0, 1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.heads, ctx.keys, ctx.scale = heads, keys, scale
        return torch.bmm(weights, value).unflatten(0, heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        query, key, value, weights = ctx.saved_tensors
        grad = grad.flatten(0, 1)
        of_weights, high = torch.bmm(grad, value.mT).float(), weights.float()
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, high, -1, torch.float32)
        of_scores = of_scores.mul_(ctx.scale).to(query.dtype)
        grads = (
            torch.bmm(of_scores, key),
            torch.bmm(of_scores.mT, query)[:, : ctx.keys],
            torch.bmm(weights.mT, grad)[:, : ctx.keys],
        )
        return *(x.unflatten(0, ctx.heads) for x in grads), None, None


def _wide(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Keys or values of all heads, in one batch, with zeros behind to a multiple."""
    batch, heads, keys, width = x.shape
    wide = x.new_zeros(batch, heads, keys + -keys % MULTIPLE, width, dtype=dtype)
    wide[:, :, :keys] = x
    return wide.flatten(0, 1)
