"""What a token store is made from, as one hash."""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from calque.config import CalqueError
from calque.text.data import CorpusConfig
from calque.text.files import expand
from calque.text.tokenizers.pair import Tokenizers

FORMAT = 1
"""Goes up when a store's columns, or the rules of what is left out, change: old files then rest."""


def fingerprint(
    corpora: Sequence[CorpusConfig],
    tokenizers: Tokenizers,
    *,
    max_length: int | None,
    max_ratio: float | None,
    parser: str | None = None,
) -> str:
    """SHA-256, in hex, of all that a store is made from: files, tokenizers and settings."""
    inputs = [path for corpus in corpora for path in files_of(corpus)]
    given = [{k: v for k, v in asdict(c).items() if k != "trees" or v} for c in corpora]
    settings = [FORMAT, max_length, max_ratio, given, list(map(str, inputs))]
    if parser:
        settings.append(parser)
    digest = hashlib.sha256(json.dumps(settings).encode())
    with tempfile.TemporaryDirectory() as folder:
        for path in [*tokenizers.save(Path(folder)), *inputs]:
            digest.update(digest_of(path))
    return digest.hexdigest()


def files_of(corpus: CorpusConfig) -> list[Path]:
    """All files of a corpus. Raises CalqueError where one is not there."""
    trees = expand(corpus.trees) if corpus.trees else []
    if corpus.file is not None:
        return expand(corpus.file) + trees
    return expand(corpus.source) + expand(corpus.target) + trees


def digest_of(path: Path) -> bytes:
    """SHA-256 of a file's content. Raises CalqueError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise CalqueError(f"{path}: cannot be read: {error.strerror}") from None
