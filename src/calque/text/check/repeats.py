"""Repeats within a split and between splits, from 8 bytes for each text instead of the text."""

from hashlib import blake2b

import numpy as np
from jaxtyping import Int64, UInt64

Hashes = UInt64[np.ndarray, "pairs"]
Indices = Int64[np.ndarray, "found"]


class Fingerprints:
    """64-bit hashes of the texts of a split and of their comparison keys: 32 bytes per pair.

    Two different ones among n texts share a hash with a probability of about n² / 2⁶⁵: 3 in a
    million for 10 million pairs. That would add one to a count, and nothing else rests on it.
    """

    def __init__(self) -> None:
        self._source, self._target = bytearray(), bytearray()
        self._source_key, self._target_key = bytearray(), bytearray()

    def add(self, source: str, target: str, source_key: str, target_key: str) -> None:
        """Remember a pair."""
        self._source += _digest(source)
        self._target += _digest(target)
        self._source_key += _digest(source_key)
        self._target_key += _digest(target_key)

    def repeats(self) -> dict[str, Indices]:
        """The pairs of which the whole, or only one side, occurred before; exactly compared."""
        source, target = _hashes(self._source), _hashes(self._target)
        duplicate = _repeated(_pairs(source, target))
        different = np.delete(np.arange(len(source)), duplicate)
        return {
            "duplicate": duplicate,
            "other_target": different[_repeated(source[different])],
            "other_source": different[_repeated(target[different])],
        }

    def overlap(self, other: "Fingerprints", name: str) -> dict[str, Indices]:
        """The pairs that, wholly or with their source, are also in another split, called `name`.

        Compared by their keys; sources without a letter or digit are not compared.
        """
        source, other_source = _hashes(self._source_key), _hashes(other._source_key)
        pairs = _pairs(source, _hashes(self._target_key))
        other_pairs = _pairs(other_source, _hashes(other._target_key))
        comparable = source != _hashes(bytearray(_digest("")))
        return {
            f"pair_in_{name}": np.flatnonzero(comparable & np.isin(pairs, other_pairs)),
            f"source_in_{name}": np.flatnonzero(comparable & np.isin(source, other_source)),
        }


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8, usedforsecurity=False).digest()


def _hashes(digests: bytearray) -> Hashes:
    return np.frombuffer(digests, dtype=np.uint64)


def _pairs(source: Hashes, target: Hashes) -> Hashes:
    # An odd factor maps no two hashes to one, and tells (a, b) from (b, a).
    return source * np.uint64(0x9E3779B97F4A7C15) + target


def _repeated(hashes: Hashes) -> Indices:
    order = np.argsort(hashes, kind="stable")
    same_as_before = hashes[order[1:]] == hashes[order[:-1]]
    return np.sort(order[1:][same_as_before])
