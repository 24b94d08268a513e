"""Attention that knows how far apart query and key are: Shaw et al. (2018), arXiv:1803.02155."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calque.models.transformer import TransformerConfig

CLIP = 16
"""Distances beyond this are all alike: k of the paper's translation models (§4.1)."""


def distances(queries: int, keys: int, device: torch.device) -> Int[Tensor, "{queries} {keys}"]:
    """Position of each key minus position of each query; the queries are the last positions."""
    position = torch.arange(keys, device=device)
    return position - position[keys - queries :, None]


class RelativeAttention(nn.Module):
    """Scaled dot-product attention with a vector for each clipped distance: eq. 3 and 4.

    One vector is added to the key, another to the value; heads share both (§3.3).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(config.key_width)
        self.relative_key = nn.Embedding(2 * CLIP + 1, config.key_width)
        self.relative_value = nn.Embedding(2 * CLIP + 1, config.d_head)
        self.softmax = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(config.attention_dropout)

    def offsets(self, query: Tensor, key: Tensor) -> Int[Tensor, "*#batch query key"]:
        """How far each key is from each query, before clipping."""
        return distances(query.size(2), key.size(2), query.device)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
        value: Float[Tensor, "batch heads key d_head"],
        mask: Bool[Tensor, "#batch 1 #query key"],
    ) -> Float[Tensor, "batch heads query d_head"]:
        """See `Attention`."""
        index = self.offsets(query, key).clamp(-CLIP, CLIP) + CLIP
        query = query * self.scale
        # The scores against all distances, then for each key its own: far fewer products than
        # against a vector per pair of positions (§3.3).
        by_distance = query @ self.relative_key.weight.to(query.dtype).T
        index = index.expand(*query.shape[:2], -1, -1)
        scores = query @ key.transpose(-2, -1) + by_distance.gather(-1, index)
        weights = self.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min))
        weights = self.dropout(weights)
        to_distance = torch.zeros_like(by_distance, dtype=weights.dtype)
        to_distance = to_distance.scatter_add(-1, index, weights)
        return weights @ value + to_distance @ self.relative_value.weight.to(weights.dtype)
