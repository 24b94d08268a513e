"""Attention that knows where query and key stand, or how far apart: rotary and ALiBi."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calque.models.parts.relative_attention import distances
from calque.models.transformer import Part, TransformerConfig


class RotaryAttention(nn.Module):
    """Queries and keys turned by angles that grow with their positions: arXiv:2104.09864, eq. 34.

    Their product then depends on the distance alone. They are pairs of numbers: d_key is even.
    """

    frequency: Tensor  # [d_key / 2], radians per position

    def __init__(self, config: TransformerConfig, attention: Part) -> None:
        super().__init__()
        frequency = 10000 ** (-torch.arange(0, config.key_width, 2) / config.key_width)
        self.register_buffer("frequency", frequency, persistent=False)
        self.attention: nn.Module = attention(config)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
        value: Float[Tensor, "batch heads key d_head"],
        mask: Bool[Tensor, "#batch 1 #query key"],
    ) -> Float[Tensor, "batch heads query d_head"]:
        """See `Attention`. The queries are the last of the keys' positions."""
        angle = self.angles(key.size(2))
        query = turned(query, angle[key.size(2) - query.size(2) :])
        return self.attention(query, turned(key, angle), value, mask)

    def angles(self, length: int) -> Float[Tensor, "length pairs"]:
        """By which each pair of numbers turns at each position."""
        position = torch.arange(length, device=self.frequency.device)
        return position[:, None] * self.frequency


def unturned(attention: nn.Module) -> nn.Module:
    """What attends once queries and keys are turned; any other attention itself."""
    return attention.attention if isinstance(attention, RotaryAttention) else attention


def turned(
    x: Float[Tensor, "*batch length d_key"], angle: Float[Tensor, "length pairs"]
) -> Float[Tensor, "*batch length d_key"]:
    """Each pair of neighbouring numbers turned by its angle."""
    sine, cosine = angle.sin().to(x.dtype), angle.cos().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1).flatten(-2)


class DistancePenalty(nn.Module):
    """ALiBi: any score, less a slope of each head's times the distance: arXiv:2108.12409, §3.

    The paper's decoders look back only. What lies ahead, in an encoder, counts as half as far:
    were both sides alike, a sentence and its reverse would be the same.
    """

    slope: Tensor  # [heads, 1, 1]

    def __init__(self, config: TransformerConfig, score: Part) -> None:
        super().__init__()
        self.score = score(config)
        slope = torch.tensor(slopes(config.num_heads))[:, None, None]
        self.register_buffer("slope", slope, persistent=False)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
    ) -> Float[Tensor, "batch heads query key"]:
        """See `ScaledDotProduct`. The queries are the last of the keys' positions."""
        scores = self.score(query, key)
        ahead = distances(query.size(2), key.size(2), query.device)
        far = torch.where(ahead > 0, ahead / 2, -ahead)
        return scores - (self.slope * far).to(scores.dtype)


def slopes(num_heads: int) -> list[float]:
    """A geometric sequence from 2^(-8/n) to 2^-8; between powers of two, as in the authors' code.

    There, every other slope of the next power of two follows those of the one before.
    """
    whole = 2 ** math.floor(math.log2(num_heads))
    first = [2 ** (-8 * i / whole) for i in range(1, whole + 1)]
    finer = [2 ** (-4 * i / whole) for i in range(1, 2 * whole + 1, 2)]
    return [*first, *finer[: num_heads - whole]]
