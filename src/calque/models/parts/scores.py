"""Scores: how well a query matches a key, in the place of the paper's scaled dot product."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calque.models.transformer import Part, ScaledDotProduct, TransformerConfig


class DotProduct(ScaledDotProduct):
    """Q Kᵀ, unscaled: as the width grows, so do the scores, and softmax saturates (§3.2.1)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.scale = 1.0


class General(ScaledDotProduct):
    """Q W Kᵀ / √d_key, W for each head: arXiv:1508.04025, §3.1, scaled as the paper's.

    Begins as the paper's score: W = 1.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.weight = nn.Parameter(torch.eye(config.key_width).repeat(config.num_heads, 1, 1))

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
    ) -> Float[Tensor, "batch heads query key"]:
        """See `ScaledDotProduct`."""
        return super().forward(query @ self.weight.to(query.dtype), key)


class Additive(nn.Module):
    """vᵀ tanh(q + k), v for each head: arXiv:1409.0473, appendix A.1.2.

    Its two matrices are those that every head has for queries and keys. It holds a vector for each
    pair of positions, so it takes d_key times the memory of a product.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_heads, config.key_width))
        nn.init.normal_(self.weight, std=config.key_width**-0.5)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
    ) -> Float[Tensor, "batch heads query key"]:
        """See `ScaledDotProduct`."""
        both = torch.tanh(query[:, :, :, None] + key[:, :, None])
        return (both @ self.weight.to(both.dtype)[:, None, :, None]).squeeze(-1)


class Cosine(nn.Module):
    """β cos(q, k), β > 0 learned by each head: arXiv:1410.5401, eq. 5 and 6.

    Between -1 and 1 a softmax is nearly flat; β begins at √d_key, the spread of a dot product.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        strength = torch.full((config.num_heads, 1, 1), float(config.key_width))
        self.log_strength = nn.Parameter(strength.log() / 2)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
    ) -> Float[Tensor, "batch heads query key"]:
        """See `ScaledDotProduct`."""
        query, key = nn.functional.normalize(query, dim=-1), nn.functional.normalize(key, dim=-1)
        return (query * self.log_strength.exp().to(query.dtype)) @ key.transpose(-2, -1)


SCORES: dict[str, Part] = {
    "scaled_dot": ScaledDotProduct,
    "dot": DotProduct,
    "general": General,
    "additive": Additive,
    "cosine": Cosine,
}
