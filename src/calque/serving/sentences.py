"""Texts cut into sentences, and put together again with their white space."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sentencex

_LIBRARY: Any = sentencex  # which has no types
LINES = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
WITHOUT_SPACES = {"bo", "dz", "ja", "km", "lo", "my", "th", "yue", "zh"}
"""Languages that put no space between two sentences."""


@dataclass(frozen=True)
class Split:
    """The sentences of a text, and the white space around them."""

    sentences: list[str]
    """Without white space at their ends; none of them empty."""
    spaces: list[str]
    """Before each sentence, and after the last: one more than there are sentences."""

    def join(self, sentences: Sequence[str], language: str) -> str:
        """Other sentences in the place of these, in `language`.

        The white space is as it was; where sentences of a language without spaces met, and
        `language` has them, it is one.
        """
        return "".join(self.pieces(sentences, language))

    def pieces(self, sentences: Sequence[str], language: str) -> Iterator[str]:
        """What `join` joins: white space, sentence, white space and so on."""
        for number, (space, sentence) in enumerate(zip(self.spaces, sentences, strict=False)):
            yield space or (" " if number and base(language) not in WITHOUT_SPACES else "")
            yield sentence
        yield self.spaces[-1]


def base(language: str) -> str:
    """The language of a BCP 47 code, without script and region."""
    return language.lower().partition("-")[0]


def split(text: str, language: str, fits: Callable[[str], bool]) -> Split:
    """Cut a text at the ends of lines and of sentences.

    A sentence that does not fit is cut in two, at a space if it has one, until all fit.
    """
    sentences, spaces, end = [], [], 0
    for first, last in _spans(text, language, fits):
        spaces.append(text[end:first])
        sentences.append(text[first:last])
        end = last
    return Split(sentences, [*spaces, text[end:]])


def _spans(text: str, language: str, fits: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    # A space of several bytes before a full stop makes sentencex 1.0.32 panic.
    plain = re.sub(r"\s", " ", text)
    for line in LINES.finditer(text):
        place = line.start()
        for sentence in _LIBRARY.segment(base(language), plain[place : line.end()]):
            bare = sentence.strip()
            first = plain.find(bare, place, line.end())
            if bare and first >= 0:
                place = first + len(bare)
                yield from _fitting(text, first, place, fits)


def _fitting(
    text: str, first: int, last: int, fits: Callable[[str], bool]
) -> Iterator[tuple[int, int]]:
    if last - first < 2 or fits(text[first:last]):
        yield first, last
        return
    middle = (first + last) // 2
    inner = [m.span() for m in re.finditer(r"\s+", text[first:last])]
    if inner:
        before, after = min(inner, key=lambda gap: abs(first + gap[0] - middle))
        halves = (first, first + before), (first + after, last)
    else:
        halves = (first, middle), (middle, last)
    for half in halves:
        yield from _fitting(text, *half, fits)
