"""Pairs of sequences, one after the other, out of whatever files the user keeps them in."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, tee
from pathlib import Path

from calque.config import CalqueError, choose
from calque.text.corpus.pair import Pair
from calque.text.corpus.plain import read_plain
from calque.text.corpus.po import read_po
from calque.text.corpus.tabular import read_csv, read_jsonl, read_parquet, read_tsv
from calque.text.corpus.xml import read_tmx, read_xliff
from calque.text.data import CorpusConfig
from calque.text.files import COMPRESSIONS, expand, expand_pair, inner_suffix
from calque.text.trees import beside

__all__ = ["READERS", "Pair", "plain_files", "read_pairs", "refuse_pairs"]

Reader = Callable[[Path, str, str, Counter[str]], Iterator[Pair]]

READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".po": read_po,
    ".tmx": read_tmx,
    ".tsv": read_tsv,
    ".xlf": read_xliff,
    ".xliff": read_xliff,
}
"""How to read a file of pairs, by the suffix of its name beneath a compression's (`a.tmx.gz`)."""


def read_pairs(corpus: CorpusConfig, left_out: Counter[str]) -> Iterator[Pair]:
    """Every pair of a corpus in its order, in bounded memory; an empty side is still a pair.

    With `trees`, the sources are Sentences. `left_out` counts, by reason, the units that hold no
    pair in these languages. Raises CalqueError for a file that is missing, unreadable or not what
    its name says, and for trees that are not those of the sources.
    """
    pairs = _read(corpus, left_out)
    if corpus.trees is None:
        yield from pairs
        return
    pairs, again = tee(pairs)
    places = ((pair.source, f"{pair.file}:{pair.line}") for pair in again)
    for pair, source in zip(pairs, beside(places, expand(corpus.trees)), strict=True):
        yield pair._replace(source=source)


def _read(corpus: CorpusConfig, left_out: Counter[str]) -> Iterator[Pair]:
    if corpus.file is None:
        for source_path, target_path in plain_files(corpus):
            yield from read_plain(source_path, target_path)
        return
    if not (isinstance(corpus.source, str) and isinstance(corpus.target, str)):
        raise CalqueError(
            "source and target: with `file`, each is one column name or language code "
            f"(given: {corpus.source!r} and {corpus.target!r})"
        )
    # All of them before the first pair: a misspelt name must not wait for hours of reading.
    readers = [(path, _reader(path)) for path in expand(corpus.file)]
    for path, read in readers:
        yield from read(path, corpus.source, corpus.target, left_out)


def refuse_pairs(path: Path, instead: str) -> None:
    """Raise CalqueError for a file that holds both sides; `instead` is what can be done."""
    if inner_suffix(path).lower() in READERS:
        raise CalqueError(f"{path}: is a file of pairs, and not plain text; {instead}")


def plain_files(corpus: CorpusConfig) -> list[tuple[Path, Path]]:
    """The files of a corpus of plain text, two by two.

    Raises CalqueError for what `expand_pair` refuses, for a file of pairs, and for one file twice.
    """
    files = expand_pair(corpus.source, corpus.target)
    for path in chain.from_iterable(files):
        refuse_pairs(
            path,
            "write it in a recipe, with `file =`, `source` and `target`, or give it to check or "
            "evaluate with --names",
        )
    for source, target in files:
        if source == target:
            raise CalqueError(f"{source}: is given for both sides, the source and the target")
    return files


def _reader(path: Path) -> Reader:
    read = choose(f"{path}: file format", inner_suffix(path).lower(), READERS)
    if read is read_parquet and path.suffix.lower() in COMPRESSIONS:
        raise CalqueError(f"{path}: Parquet compresses its columns itself; decompress the file")
    return read
