"""What the queries of packed training find among keys and values, with its gradient, on a CPU.

In two ways that are equal. Most sentences are short: products over all of them at once, of weights
that are kept for the gradient, are the fastest. Long ones have too many weights to keep.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

LONG = 512
"""Keys from which on weights are not kept."""

Vectors = list[Tensor]
"""Queries, keys and values, or a gradient of each: [batch * heads, length, d_head]."""
Gradients = Callable[[Tensor, Vectors], None]
"""Takes the gradient of what was found, and writes those of queries, keys and values."""


def attend_short(vectors: Vectors, mask: Tensor, heads: int) -> tuple[Tensor, Gradients]:
    """What scaled dot-product attention finds; the mask is added to the scores."""
    query, key, value = vectors
    scale = query.size(2) ** -0.5
    scores = torch.bmm(query, key.mT).float().unflatten(0, (-1, heads))
    scores = torch.add(mask, scores, alpha=scale)
    weights = scores.softmax(dim=-1).to(query.dtype).flatten(0, 1)

    def gradients(of_found: Tensor, out: Vectors) -> None:
        of_weights, high = torch.bmm(of_found, value.mT).float(), weights.float()
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, high, -1, torch.float32)
        of_scores = of_scores.mul_(scale).to(query.dtype)
        torch.bmm(of_scores, key, out=out[0])
        torch.bmm(of_scores.mT, query, out=out[1])
        torch.bmm(weights.mT, of_found, out=out[2])

    return torch.bmm(weights, value), gradients


def attend_long(vectors: Vectors, mask: Tensor | None, heads: int) -> tuple[Tensor, Gradients]:
    """The same by PyTorch's fused kernel, which keeps no weights; without a mask it is causal."""
    leaves = [x.detach().requires_grad_() for x in vectors]
    with torch.enable_grad():
        query, key, value = (x.unflatten(0, (-1, heads)) for x in leaves)
        low = None if mask is None else mask.to(query.dtype)
        found = scaled_dot_product_attention(query, key, value, low, is_causal=mask is None)
        found = found.flatten(0, 1)

    def gradients(of_found: Tensor, out: Vectors) -> None:
        for place, grad in zip(out, torch.autograd.grad(found, leaves, of_found), strict=True):
            place.copy_(grad)

    return found.detach(), gradients
