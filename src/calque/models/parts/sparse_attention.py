"""Attention by few links of each position, at a cost that grows with the length, not its square.

Windows, tokens that all see, and random links: BigBird, Zaheer et al. (2020), arXiv:2007.14062.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from calque.models.transformer import Part, TransformerConfig

DENSE = 8
"""Up to so many blocks, all links at once are faster than block by block."""


@dataclass(frozen=True)
class Links:
    """Which keys a query is linked to; itself always."""

    block: int
    """Tokens that share their random links."""
    window: int
    """Tokens to each side."""
    begin: int
    """Tokens of the beginning, which all are linked with."""
    random: int
    """Blocks that each block is linked to: by the same draw in every head and layer."""

    def joins(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether these positions are linked, other than by chance."""
        return ((query - key).abs() <= self.window) | (key < self.begin) | (query < self.begin)

    def drawn(
        self, blocks: int, lengths: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch {blocks} drawn"]:
        """The blocks that each block is linked to by chance.

        Of a text's own blocks, by its length without padding: so padding changes nothing.
        """
        # NumPy draws in order, so that a longer text begins with the links of a shorter one.
        chances = torch.from_numpy(np.random.default_rng(1).random((blocks, self.random)))
        own = (lengths + self.block - 1) // self.block
        return (chances.to(lengths.device) * own[:, None, None]).long()


class SparseAttention(nn.Module):
    """Attention among linked positions only."""

    def __init__(self, config: TransformerConfig, attention: Part, links: Links) -> None:
        super().__init__()
        self.attention = attention(config)
        self.links = links

    def forward(
        self,
        query: Float[Tensor, "batch heads length d_key"],
        key: Float[Tensor, "batch heads length d_key"],
        value: Float[Tensor, "batch heads length d_head"],
        mask: Bool[Tensor, "batch 1 1 length"],
    ) -> Float[Tensor, "batch heads length d_head"]:
        """See `Attention`."""
        if query.size(2) <= DENSE * self.links.block:
            return self.dense(query, key, value, mask)
        return self.by_blocks(query, key, value, mask)

    def dense(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """The plain path: all pairs, those without a link masked."""
        position = torch.arange(key.size(2), device=key.device)
        block = position // self.links.block
        drawn = self.links.drawn(-(-len(position) // self.links.block), mask.sum(dim=(1, 2, 3)))
        by_chance = (drawn[:, block][..., None, :] == block[:, None]).any(-1)  # [batch, query, key]
        linked = self.links.joins(position[:, None], position) | by_chance
        return self.attention(query, key, value, mask & linked[:, None])

    def by_blocks(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """The fast path: each block of queries, against the few blocks of keys it is linked to."""
        links, length = self.links, query.size(2)
        spare = -length % links.block
        query, key, value = (pad(x, (0, 0, 0, spare)) for x in (query, key, value))
        present = pad(mask[:, 0, 0], (0, spare))
        near, linked = self._linked(present)
        rows = torch.arange(len(query), device=query.device)[:, None, None]
        queries, keys, values = (  # [batch, blocks, heads, block, d_key or d_head]
            x.unflatten(2, (-1, links.block)).transpose(1, 2) for x in (query, key, value)
        )
        keys, values = (  # [batch * blocks, heads, near * block, d_key or d_head]
            x[rows, near].transpose(2, 3).flatten(3, 4).flatten(0, 1) for x in (keys, values)
        )
        found = self.attention(queries.flatten(0, 1), keys, values, linked.flatten(0, 1)[:, None])
        found = found.unflatten(0, (len(query), -1)).transpose(1, 2).flatten(2, 3)[:, :, :length]
        if links.begin:
            whole = key[:, :, :length], value[:, :, :length]
            begin = self.attention(query[:, :, : min(links.begin, length)], *whole, mask)
            found = torch.cat([begin, found[:, :, links.begin :]], dim=2)
        return found

    def _linked(
        self, present: Bool[Tensor, "batch length"]
    ) -> tuple[Int[Tensor, "batch blocks near"], Bool[Tensor, "batch blocks block keys"]]:
        """The blocks of keys that each block of queries looks at, and which of their keys."""
        links = self.links
        blocks = present.size(1) // links.block
        own = torch.arange(blocks, device=present.device)
        drawn = links.drawn(blocks, present.sum(dim=1))
        sides = -(-links.window // links.block)
        around = own[:, None] + torch.arange(-sides, sides + 1, device=own.device)
        first = torch.arange(min(blocks, -(-links.begin // links.block)), device=own.device)
        fixed = torch.cat([around, first.expand(blocks, -1)], dim=1)
        near = torch.cat([fixed.expand(len(present), -1, -1), drawn], dim=2)
        # A block that is named twice counts once.
        again = (near[..., :, None] == near[..., None, :]).tril(-1).any(-1)
        usable = ~again & (near >= 0) & (near < blocks)
        near = near.clamp(0, blocks - 1)
        within = torch.arange(links.block, device=own.device)
        key = (near[..., None] * links.block + within).flatten(2)  # [batch, blocks, keys]
        query = own[:, None] * links.block + within
        joined = links.joins(query[..., None], key[:, :, None])
        by_chance = (near[..., :, None] == drawn[..., None, :]).any(-1)
        each = (by_chance.repeat_interleave(links.block, -1))[:, :, None] | joined
        there = usable.repeat_interleave(links.block, -1)
        rows = torch.arange(len(present), device=own.device)[:, None, None]
        return near, each & (there & present[rows, key])[:, :, None]
