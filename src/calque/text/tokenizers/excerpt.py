"""A random part of a corpus, small enough to learn subwords from in bounded memory."""

import random
from collections.abc import Iterable, Iterator

from calque.text.tokenizers.errors import empty_corpus_error

MAX_BYTES = 25_000_000
"""About four million English words. SentencePiece takes up to 25 bytes of memory for each."""
MAX_LINE = 4000
"""In characters. Longer lines are cut: SentencePiece leaves out what is longer than its limit."""


def excerpt(lines: Iterable[str], max_bytes: int = MAX_BYTES) -> list[str]:
    """All lines if they have at most `max_bytes` as UTF-8, else a random part of about that size.

    The same lines give the same excerpt. Raises CalqueError if none of them has any text.
    """
    generator = random.Random(0)
    kept, size, share = [], 0, 1.0
    for line in _short(lines):
        if generator.random() < share:
            kept.append(line)
            size += len(line.encode())
        if size > max_bytes:
            # Every line read so far has had the same chance to stay, and so will all that follow.
            share /= 2
            kept = [line for line in kept if generator.random() < 0.5]
            size = sum(len(line.encode()) for line in kept)
    if not kept:
        raise empty_corpus_error()
    return kept


def _short(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if not line.isspace():
            yield from (line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE))
