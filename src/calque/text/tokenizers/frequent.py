"""Vocabularies of whole words and of single characters: the most frequent ones."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import ClassVar, Self

from calque.text.tokenizers.errors import empty_corpus_error, vocab_size_error
from calque.text.tokenizers.interface import BOS, EOS, PAD, SPECIALS, UNK, UNKNOWN
from calque.text.tokenizers.listed import Listed


class Frequent(Listed):
    """What words and characters share: the most frequent have an id, the others are unknown."""

    separator: ClassVar[str]

    @staticmethod
    @abstractmethod
    def split(line: str) -> Iterable[str]:
        """The words, or the characters, of a line."""

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int) -> Self:
        """Count all lines; among equally frequent entries the lower code points come first."""
        counts = Counter(entry for line in lines for entry in cls.split(line))
        if not counts:
            raise empty_corpus_error()
        largest = len(counts) + len(SPECIALS)
        if vocab_size > largest:
            raise vocab_size_error(vocab_size, largest)
        ranked = sorted(counts, key=lambda entry: (-counts[entry], entry))
        return cls(ranked[: vocab_size - len(SPECIALS)])

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        return [[self._ids.get(entry, UNK) for entry in self.split(line)] for line in lines]

    def ends(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.ends`."""
        found = []
        for line in lines:
            end, ends = 0, []
            for entry in self.split(line):
                end = line.index(entry, end) + len(entry)
                ends.append(end)
            found.append(ends)
        return found

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """See `Tokenizer.decode`."""
        return [self.separator.join(self._texts(row)) for row in ids]

    def _texts(self, ids: Sequence[int]) -> Iterable[str]:
        return (UNKNOWN if i == UNK else self._entries[i] for i in ids if i not in (PAD, BOS, EOS))


class Characters(Frequent):
    """Single characters (Unicode code points), the space among them."""

    separator = ""

    @staticmethod
    def split(line: str) -> Iterable[str]:
        """Each code point."""
        return line


class Words(Frequent):
    """What stands between white space; decoding puts one space between words."""

    separator = " "

    @staticmethod
    def split(line: str) -> Iterable[str]:
        """Each run of characters that are not white space."""
        return line.split()
