"""The tokenizers of both languages: learned from pairs, kept in a run folder."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from calque.config import CalqueError, choose
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import SpecialIds, Tokenizer, TokenizerConfig


@dataclass(frozen=True)
class Tokenizers:
    """One tokenizer for each language; with a joint vocabulary both are the same object."""

    source: Tokenizer
    target: Tokenizer

    @property
    def special(self) -> SpecialIds:
        """The ids with a meaning, the same in both."""
        return self.target.special

    @classmethod
    def train(cls, config: TokenizerConfig, pairs: Callable[[], Iterable[tuple[str, str]]]) -> Self:
        """Learn from (source, target) pairs; `pairs` is called for each pass over them.

        Raises CalqueError for an unknown kind, a vocabulary that cannot be learnt, a corpus without
        text, or a vocabulary of a size that the corpus does not give.
        """
        kind = choose("tokenizer.kind", config.kind, TOKENIZERS)
        if config.vocabulary == "shared":
            raise CalqueError(
                "tokenizer.vocabulary: shared cannot be learnt, only imported; choose joint or "
                "separate"
            )
        if config.vocabulary == "joint":
            both = kind.train((line for pair in pairs() for line in pair), config.vocab_size)
            return cls(both, both)
        return cls(
            kind.train((source for source, _ in pairs()), config.vocab_size),
            kind.train((target for _, target in pairs()), config.vocab_size),
        )

    @classmethod
    def load(cls, config: TokenizerConfig, folder: Path) -> Self:
        """What `save` wrote. Raises CalqueError if a file is missing or damaged."""
        kind = choose("tokenizer.kind", config.kind, TOKENIZERS)
        names = ["joint"] if config.vocabulary == "joint" else ["source", "target"]
        paths = [folder / f"{name}{kind.suffix}" for name in names]
        for path in paths:
            if not path.is_file():
                raise CalqueError(f"{path}: there is no such file")
        loaded = [kind.load(path) for path in paths]
        if loaded[0].special != loaded[-1].special:
            raise CalqueError(
                f"{paths[-1]}: its ids for padding, begin and end are not the source's"
            )
        return cls(loaded[0], loaded[-1])

    def save(self, folder: Path) -> list[Path]:
        """Write joint.*, or source.* and target.*, into `folder`; the paths written."""
        joint = self.source is self.target
        named = {"joint": self.source} if joint else {"source": self.source, "target": self.target}
        paths = [folder / f"{name}{tokenizer.suffix}" for name, tokenizer in named.items()]
        for path, tokenizer in zip(paths, named.values(), strict=True):
            tokenizer.save(path)
        return paths
