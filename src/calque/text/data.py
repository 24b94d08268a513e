"""The `data` section of a recipe: which corpora, and which of their pairs to leave out."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field


def is_language_code(text: str) -> bool:
    """Whether text has the form of a BCP 47 code, such as `en`, `nds` or `zh-Hans`."""
    return bool(re.fullmatch("[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*", text))


def _language_code(text: str) -> str:
    if not is_language_code(text):
        raise ValueError("not a language's code (BCP 47), such as en, nds or zh-Hans")
    return text


LanguageCode = Annotated[str, AfterValidator(_language_code)]


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """One corpus: two plain text files that belong together line by line, or files of pairs.

    Without `file`, `source` and `target` are paths (each may be a glob or several files, read one
    after the other). With `file` (TSV, CSV, JSONL, Parquet, TMX, XLIFF or PO; a glob or several
    files), `source` and `target` are the names of its columns, or its language codes.
    """

    source: str | tuple[str, ...]
    target: str | tuple[str, ...]
    file: str | tuple[str, ...] | None = None
    weight: Annotated[float, Field(ge=1e-6, le=1000)] = 1.0
    """How often each pair is seen per epoch; 0.5 is every other epoch, 3 is three times."""
    trees: str | tuple[str, ...] | None = None
    """CoNLL-U files with the dependency trees of the sources, for structural positions: one tree
    for each source with text, in their order."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Corpora for training, validation and test, and the limits that a training pair must keep."""

    train: tuple[CorpusConfig, ...] = ()
    valid: tuple[CorpusConfig, ...] = ()
    test: tuple[CorpusConfig, ...] = ()
    source_language: LanguageCode | None = None
    """BCP 47 code, such as "en"."""
    target_language: LanguageCode | None = None
    """BCP 47 code; it chooses how BLEU splits the text into words ("zh", "ja" and "ko" differ)."""
    parser: str | None = None
    """What makes the trees of sources that come without: "spacy:" or "stanza:" and what the library
    calls the model, such as "spacy:en_core_web_sm" or "stanza:en"; the user installs both."""
    max_length: Annotated[int, Field(gt=0, lt=2**31)] = 256
    """Longest side of a training pair, in tokens; longer pairs are left out and counted."""
    max_ratio: Annotated[float, Field(ge=1)] = 9.0
    """Longer side over shorter side of a training pair, in tokens; beyond it the pair is left out.
    Pairs of fewer than 10 tokens on both sides are never left out for their ratio."""
