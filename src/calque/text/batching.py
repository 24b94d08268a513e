"""Batches: a token budget that counts padding, pairs of like length together, in random order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.text.store import TokenStore
from calque.text.tokenizers.interface import SpecialIds
from calque.text.trees import CONTINUES

CHUNK = 2**20
"""Rows whose place in an epoch is computed at a time."""


@dataclass(frozen=True)
class Batch:
    """Pairs side by side: source ids + EOS and BOS + target ids + EOS, each with padding after."""

    source: Int[Tensor, "batch source"]
    target: Int[Tensor, "batch target"]
    rows: Int[np.ndarray, " batch"]
    """Where the pairs lie in the token store."""
    pad_id: int
    tree: Int[Tensor, "batch source"] | None = None
    """Of the sources, if the store has trees: see `models.parts.structural_positions`."""

    @property
    def num_tokens(self) -> int:
        """Target tokens to be predicted: EOS counts, BOS and padding do not."""
        return int((self.target[:, 1:] != self.pad_id).sum())

    def split(self, parts: int) -> list["Batch"]:
        """At most `parts` batches of nearly equal size that together hold the same pairs."""
        # Every parts-th row: neighbours are of like length, so all parts get the same work.
        groups = [slice(part, None, parts) for part in range(min(parts, len(self.rows)))]
        return [self._part(group) for group in groups if len(self.rows[group])]

    def _part(self, group: slice) -> "Batch":
        source, target = self._trim(self.source[group]), self._trim(self.target[group])
        tree = None if self.tree is None else self.tree[group, : source.size(1)]
        return Batch(source, target, self.rows[group], self.pad_id, tree)

    def _trim(self, ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch needed"]:
        """Without the last columns, where they hold padding alone."""
        return ids[:, : int((ids != self.pad_id).any(dim=0).nonzero().max()) + 1]


def plan(
    lengths: Int[np.ndarray, "pairs 2"],
    batch_tokens: int,
    *,
    seed: int,
    epoch: int,
    weights: Float[np.ndarray, " pairs"] | None = None,
) -> list[Int[np.ndarray, " batch"]]:
    """The batches of one epoch as rows of the token store: a function of the arguments alone.

    In each batch, rows x (longest side + EOS) is at most `batch_tokens`; a pair longer than that
    is a batch of its own. A pair of weight 1 comes once per epoch; one of weight 2.3 comes twice
    and, with probability 0.3, once more.
    """
    generator = np.random.default_rng((seed, epoch))
    rows = _draw(len(lengths), weights, generator)
    generator.shuffle(rows)
    rows = _by_length(rows, lengths)
    starts = _cut(lengths.max(axis=1)[rows] + 1, batch_tokens)
    batches = np.split(rows, starts[1:])
    return [batches[i] for i in generator.permutation(len(starts))]


def padding_waste(
    lengths: Int[np.ndarray, "pairs 2"], batches: Sequence[Int[np.ndarray, " _"]]
) -> float:
    """Share of all positions, of source and target together, that hold padding: from 0 to 1."""
    if not batches:
        return 0.0
    with_eos = lengths[np.concatenate(batches)]
    with_eos += 1
    sizes = np.array([len(batch) for batch in batches])
    longest = np.maximum.reduceat(with_eos, np.cumsum(sizes) - sizes)
    return float(1 - with_eos.sum(dtype=np.int64) / (sizes[:, None] * longest).sum())


def collate(store: TokenStore, rows: Int[np.ndarray, " batch"], special: SpecialIds) -> Batch:
    """The given rows of the store as one batch."""
    sources, targets = store.rows(rows)
    source, target = _pad(sources, [], special), _pad(targets, [special.bos], special)
    trees = store.trees(rows)
    return Batch(source, target, rows, special.pad, None if trees is None else pad_trees(trees))


def pad_trees(trees: Sequence[Sequence[int] | np.ndarray]) -> Int[Tensor, "batch source"]:
    """Trees over the tokens of sources side by side, with EOS: its own head, and the last word."""
    padded = np.full((len(trees), max(map(len, trees)) + 1), CONTINUES, dtype=np.int64)
    for row, tree in zip(padded, trees, strict=True):
        row[: len(tree)] = tree
        row[len(tree)] = len(tree)
    return torch.from_numpy(padded)


def _draw(
    num_pairs: int, weights: np.ndarray | None, generator: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    rows = np.arange(num_pairs, dtype=np.int32)
    if weights is None:
        return rows
    whole = np.floor(weights)
    chance = generator.random(num_pairs, dtype=np.float32)
    return rows.repeat(whole.astype(np.int32) + (chance < weights - whole))


def _by_length(
    rows: Int[np.ndarray, " drawn"], lengths: Int[np.ndarray, "pairs 2"]
) -> Int[np.ndarray, " drawn"]:
    """The rows so that the longer side grows and neighbours are alike on both sides.

    What is equal stays in its order. One number for each row says all that it is sorted by, and
    where it stood: of ten million rows, anything more takes memory that training could have.
    """
    keys = np.empty(len(rows), np.int64)
    width = 2 * int(lengths.max()) + 1
    for start in range(0, len(rows), CHUNK):
        chunk = lengths[rows[start : start + CHUNK]].astype(np.int64)
        longer, difference = chunk.max(axis=1), chunk[:, 0] - chunk[:, 1]
        # Up through the differences at one length and down again at the next: a batch that spans
        # two lengths then meets no jump on the shorter side.
        difference[longer % 2 == 1] *= -1
        places = np.arange(start, start + len(chunk))
        keys[places] = (longer * width + difference) * len(rows) + places
    keys.sort()
    keys %= len(rows)
    return rows[keys]


def _cut(widths: Int[np.ndarray, " pairs"], batch_tokens: int) -> list[int]:
    """Where each batch starts; widths grow, so the last pair of a batch is its widest."""
    starts = []
    start = 0
    while start < len(widths):
        starts.append(start)
        candidates = widths[start : start + batch_tokens // int(widths[start])]
        tokens = candidates * np.arange(1, len(candidates) + 1)
        start += max(1, int(np.searchsorted(tokens, batch_tokens, side="right")))
    return starts


def _pad(
    rows: Sequence[np.ndarray], begin: list[int], special: SpecialIds
) -> Int[Tensor, "batch length"]:
    width = len(begin) + max(map(len, rows)) + 1
    padded = np.full((len(rows), width), special.pad, dtype=np.int64)
    padded[:, : len(begin)] = begin
    for line, ids in zip(padded, rows, strict=True):
        end = len(begin) + len(ids)
        line[len(begin) : end] = ids
        line[end] = special.eos
    return torch.from_numpy(padded)
