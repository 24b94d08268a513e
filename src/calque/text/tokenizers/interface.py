"""What every tokenizer can do, the ids that all of them share, and how a recipe asks for one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol, Self, runtime_checkable

from pydantic import Field

PAD, UNK, BOS, EOS = range(4)
"""Padding, unknown, begin and end: the first four ids of every vocabulary learnt here."""


@dataclass(frozen=True)
class SpecialIds:
    """The ids with a meaning; vocabularies that were learnt elsewhere have others."""

    pad: int = PAD
    unk: int = UNK
    bos: int = BOS
    """May be `pad`: some models begin with that."""
    eos: int = EOS


SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
"""Names of the four, for a reader; the same characters in a user's text are mere text."""
UNKNOWN = "⁇"
"""What UNK is decoded to."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How text becomes tokens."""

    kind: str = "bpe"
    """A name in TOKENIZERS: bpe, unigram, wordpiece, characters or words."""
    vocab_size: Annotated[int, Field(gt=4, le=1_000_000)] = 8000
    """Entries of the vocabulary (of each of the two, where they are separate)."""
    vocabulary: Literal["joint", "separate", "shared"] = "joint"
    """One vocabulary for both languages, or one for each. With shared, it is one, but each language
    has its own way to cut text into it: so are models that were imported."""
    sampling: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Subword sampling in training, for bpe and unigram; 0 is off. With bpe the probability of
    leaving a merge out (BPE-dropout, arXiv:1910.13267); with unigram the smoothing alpha of
    arXiv:1804.10959 §3.3."""


@runtime_checkable
class Tokenizer(Protocol):
    """One language's (or both languages') text to ids and back."""

    suffix: ClassVar[str]
    """Ending of the file that `save` writes, with its dot."""

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int) -> Self:
        """Learn a vocabulary: the same lines give the same one.

        Raises CalqueError if there is no text in `lines`, or if it gives no vocabulary of that
        size (the message names the largest or the smallest possible).
        """
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` wrote. Raises CalqueError if the file is something else or is damaged."""
        ...

    def save(self, path: Path) -> None: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def special(self) -> SpecialIds: ...

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of each line, without BOS and EOS."""
        ...

    def ends(self, lines: Sequence[str]) -> list[list[int]]:
        """Where each of the tokens that `encode` gives ends, in characters of its line."""
        ...

    def sample(self, lines: Sequence[str], strength: float, seed: int) -> list[list[int]]:
        """Ids of one random segmentation of each line: a function of the arguments alone.

        `strength` is in (0, 1); see `TokenizerConfig.sampling`. Raises CalqueError if this kind
        knows only one segmentation.
        """
        ...

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Text of each row of ids; PAD, BOS and EOS are left out, and UNK is "⁇"."""
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each id as text for a reader to look at."""
        ...
