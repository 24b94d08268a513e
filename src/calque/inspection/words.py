"""Pieces joined to words, whatever the tokenizer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from calque.text.tokenizers.interface import Tokenizer

_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Kana and Han characters: where there are no spaces, each may begin a word."""
WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+(?:['’\-][^\W{_ALONE}]+)*|[^\w\s]")
"""Letters and digits, with apostrophes and hyphens among them; any other mark by itself."""


@dataclass(frozen=True)
class Word:
    """Some pieces in a row."""

    text: str
    first: int
    """Its first piece."""
    end: int
    """The piece after its last."""
    spaced: bool
    """Whether white space comes before it in the text."""


def words(tokenizer: Tokenizer, ids: Sequence[int], end: str) -> list[Word]:
    """The words that pieces make up, in order; the last is `end`, for the end of the sentence.

    Each piece belongs to one word: to one that begins within it, or else to the one before.
    """
    prefixes = tokenizer.decode([ids[:i] for i in range(len(ids) + 1)])
    text = prefixes[-1]
    begins = {match.start() for match in WORD.finditer(text)}
    # Some bytes of a character are no text yet: what a piece begins at is where prefixes differ.
    places = [_next(text, _shared(prefix, text)) for prefix in prefixes]
    firsts = [
        i for i in range(len(ids)) if not i or (places[i] in begins and places[i] != places[i - 1])
    ]
    found = [
        Word(
            text[places[first] : places[after]].strip(),
            first,
            after,
            spaced=text[: places[first]][-1:].isspace(),
        )
        for first, after in pairwise([*firsts, len(ids)])
    ]
    return [*found, Word(end, len(ids), len(ids) + 1, spaced=False)]


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _next(text: str, place: int) -> int:
    """The first character from `place` on that is no space."""
    rest = text[place:]
    return place + len(rest) - len(rest.lstrip())
