"""What the vocabularies that are a plain list of entries share: their file, their ids."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NoReturn, Self

from calque.config import CalqueError
from calque.text.tokenizers.interface import SPECIALS, SpecialIds


class Listed:
    """A vocabulary kept as a JSON list of its entries, the special ones left out."""

    suffix: ClassVar[str] = ".json"

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = [*SPECIALS, *entries]
        # The names of the special ids are not in it: in a user's text they are mere text.
        self._ids = {entry: i for i, entry in enumerate(entries, start=len(SPECIALS))}

    @classmethod
    def load(cls, path: Path) -> Self:
        """See `Tokenizer.load`."""
        try:
            entries = json.loads(path.read_bytes())
        except ValueError:
            raise CalqueError(f"{path}: not a vocabulary in JSON, or damaged") from None
        if not isinstance(entries, list) or not all(isinstance(e, str) and e for e in entries):
            raise CalqueError(f"{path}: expected a JSON list of strings, none of them empty")
        if len(set(entries)) < len(entries):
            raise CalqueError(f"{path}: an entry occurs twice")
        return cls(entries)

    def save(self, path: Path) -> None:
        """Write one entry per line, in the order of the ids."""
        entries = self._entries[len(SPECIALS) :]
        path.write_text(json.dumps(entries, ensure_ascii=False, indent=0), encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        """Entries, with the four special ones."""
        return len(self._entries)

    @property
    def special(self) -> SpecialIds:
        """The first four ids."""
        return SpecialIds()

    def sample(self, lines: Sequence[str], strength: float, seed: int) -> NoReturn:  # noqa: ARG002
        """Always raises CalqueError: these vocabularies know one segmentation of a line."""
        raise CalqueError("tokenizer.sampling: needs kind bpe or unigram")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each id as text: "▁" is a space."""
        return [self._entries[i].replace(" ", "▁") for i in ids]
