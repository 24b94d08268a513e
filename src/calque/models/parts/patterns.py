"""Patterns: which source positions the encoder's self-attention compares at all.

A decoder always looks at all that came before: targets are short where sources are long, as in
BigBird's own encoder-decoders (arXiv:2007.14062, §4.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from calque.models.parts.linformer import LinformerAttention
from calque.models.parts.sparse_attention import Links, SparseAttention
from calque.models.transformer import Part, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class PatternSizes:
    """Sizes of what a pattern lets through; each is used by the patterns that have such a thing."""

    window: int = 32
    """Tokens on each side, and size of a random block: local, random, bigbird."""
    global_tokens: int = 16
    """Of the beginning, which see and are seen by all: global, bigbird."""
    random_blocks: int = 2
    """That each block of tokens looks at: random, bigbird."""
    projected_length: int = 64
    """Keys and values that are left of any number: linformer."""
    longest: int = 1024
    """Tokens that can be projected: linformer."""

    def __post_init__(self) -> None:
        for name in ("window", "global_tokens", "random_blocks", "projected_length", "longest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not at least 1")


class CausalAttention(nn.Module):
    """Each position looks at itself and what came before, as in a decoder: §3.2.3."""

    def __init__(self, config: TransformerConfig, attention: Part) -> None:
        super().__init__()
        self.attention = attention(config)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """See `Attention`."""
        past = mask.new_ones(query.size(2), key.size(2)).tril(key.size(2) - query.size(2))
        return self.attention(query, key, value, mask & past)


Pattern = Callable[[Part, Callable[[Part], Part], PatternSizes], Part]
"""Attention of a pattern, from one without, what positions make of it, and sizes."""


def full(attention: Part, positioned: Callable[[Part], Part], _: PatternSizes) -> Part:
    """Every position looks at every other."""
    return positioned(attention)


def causal(attention: Part, positioned: Callable[[Part], Part], _: PatternSizes) -> Part:
    """See `CausalAttention`."""
    return partial(CausalAttention, attention=positioned(attention))


def sparse(
    attention: Part,
    positioned: Callable[[Part], Part],
    sizes: PatternSizes,
    *,
    window: bool = False,
    begin: bool = False,
    random: bool = False,
) -> Part:
    """See `SparseAttention`; the links are those that are named."""
    links = Links(
        block=sizes.window,
        window=sizes.window if window else 0,
        begin=sizes.global_tokens if begin else 0,
        random=sizes.random_blocks if random else 0,
    )
    return positioned(partial(SparseAttention, attention=attention, links=links))


def linformer(attention: Part, positioned: Callable[[Part], Part], sizes: PatternSizes) -> Part:
    """See `LinformerAttention`."""
    lengths = {"projected": sizes.projected_length, "longest": sizes.longest}
    return positioned(partial(LinformerAttention, attention=attention, **lengths))


PATTERNS: dict[str, Pattern] = {
    "full": full,
    "causal": causal,
    "local": partial(sparse, window=True),
    "global": partial(sparse, begin=True),
    "random": partial(sparse, random=True),
    "bigbird": partial(sparse, window=True, begin=True, random=True),
    "linformer": linformer,
}
