"""The token store: a corpus tokenised once into a memory-mapped Arrow file, kept for next time."""

import json
import mmap
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from jaxtyping import Float32, Int, Int32

from calque.config import CalqueError
from calque.text.corpus import Pair, read_pairs
from calque.text.data import CorpusConfig
from calque.text.fingerprint import files_of, fingerprint
from calque.text.parsers import Parser
from calque.text.tokenizers.pair import Tokenizers
from calque.text.trees import Sentence, Tree, token_trees

CHUNK = 10_000
"""Pairs that are read, tokenised and written at a time."""
MAPPED_ROWS = 64
"""Rows read before their pages are given back: each has up to megabytes mapped around it."""
MIN_TOKENS_FOR_RATIO = 10

SCHEMA = pa.schema(
    {
        "source_ids": pa.list_(pa.int32()),
        "target_ids": pa.list_(pa.int32()),
        "source": pa.string(),
        "target": pa.string(),
        "corpus": pa.uint16(),
        "file": pa.int32(),
        "line": pa.int64(),
    }
)
TREES = ("source_tree", "word_lengths", "word_heads")
"""Further columns, where all sources have trees: over the tokens, and of the words."""
WITH_TREES = pa.schema([*SCHEMA, *(pa.field(name, pa.list_(pa.int32())) for name in TREES)])
SIDES = ("source", "target")


@dataclass(frozen=True)
class Summary:
    """What a store knows beside its rows; it is written behind the last of them."""

    weights: list[float]
    """Of each corpus."""
    max_length: int | None
    max_ratio: float | None
    files: dict[str, int] = field(default_factory=dict)
    """Each file's number in the column `file`."""
    left_out: Counter[str] = field(default_factory=Counter)


class TokenStore:
    """Pairs of token ids, their texts and where they came from, by row; opened, not read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.py_buffer(self._map))
        self._table = reader.read_all()
        last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        summary = json.loads(last.custom_metadata[b"summary"])
        self.summary = Summary(**{**summary, "left_out": Counter(summary["left_out"])})
        self.left_out = self.summary.left_out
        """How many pairs were read but are not here, by reason."""
        self._rows_mapped = 0

    def __len__(self) -> int:
        return self._table.num_rows

    @cached_property
    def lengths(self) -> Int32[np.ndarray, "pairs 2"]:
        """Tokens of each source and target, without BOS and EOS."""
        counts = [pc.call_function("list_value_length", [ids]) for ids in self._table.columns[:2]]
        lengths = np.column_stack([count.to_numpy() for count in counts])
        del counts
        pa.default_memory_pool().release_unused()
        self._unmap()
        return lengths

    @property
    def weights(self) -> Float32[np.ndarray, " pairs"]:
        """How often each pair is to be seen per epoch."""
        return np.array(self.summary.weights, np.float32)[self._table["corpus"].to_numpy()]

    def rows(self, indices: Int[np.ndarray, " batch"]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Ids of sources and of targets, without BOS and EOS."""
        columns = self._table["source_ids"], self._table["target_ids"]
        sides: tuple[list[np.ndarray], list[np.ndarray]] = [], []
        for place in indices.tolist():
            for ids, column in zip(sides, columns, strict=True):
                ids.append(column[place].values.to_numpy().copy())
            self._rows_mapped += 1
            if self._rows_mapped > MAPPED_ROWS:
                self._unmap()
        return sides

    def texts(self, indices: Int[np.ndarray, " batch"]) -> list[tuple[str, str]]:
        """Source and target as they were read: sources that have trees are Sentences."""
        sources, targets = self._table["source"], self._table["target"]
        texts = [(sources[place].as_py(), targets[place].as_py()) for place in indices.tolist()]
        if "word_heads" not in self._table.column_names:
            return texts
        lengths, heads = self._table["word_lengths"], self._table["word_heads"]
        trees = [Tree(*(tuple(c[i].as_py()) for c in (lengths, heads))) for i in indices.tolist()]
        return [(Sentence(s, tree), t) for (s, t), tree in zip(texts, trees, strict=True)]

    def trees(self, indices: Int[np.ndarray, " batch"]) -> list[np.ndarray] | None:
        """The trees of the sources over their tokens, without EOS; None in a store without."""
        if "source_tree" not in self._table.column_names:
            return None
        trees = self._table["source_tree"]
        return [trees[place].values.to_numpy() for place in indices.tolist()]

    def origin(self, index: int) -> str:
        """Where the pair was read, as file:line."""
        file = list(self.summary.files)[self._table["file"][index].as_py()]
        return f"{file}:{self._table['line'][index]}"

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """The rows in their order, as they were written."""
        for chunk in self._table.to_batches():
            yield chunk
            self._unmap()

    def _unmap(self) -> None:
        # Pages once read count as this process's memory until the system takes them back; the
        # next look at one maps it again.
        self._rows_mapped = 0
        if sys.platform != "win32":
            self._map.madvise(mmap.MADV_DONTNEED)


def prepare(
    corpora: Sequence[CorpusConfig],
    tokenizers: Tokenizers,
    *,
    max_length: int | None,
    max_ratio: float | None,
    cache: Path,
    progress: Callable[[int], None] | None = None,
    parser: str | None = None,
) -> TokenStore:
    """The tokenised pairs of all corpora, from `cache` if nothing has changed since last time.

    A pair with an empty side, or beyond `max_length` (tokens of a side) or `max_ratio` (longer over
    shorter side), is left out and counted. `progress` is told the number of pairs read so far.
    `parser` makes the trees of sources without; see `Parser`.
    Raises CalqueError for what `read_pairs` refuses, and when no pair is left.
    """
    limits = {"max_length": max_length, "max_ratio": max_ratio}
    name = fingerprint(corpora, tokenizers, **limits, parser=parser)
    summary = Summary([corpus.weight for corpus in corpora], max_length, max_ratio)
    parse = Parser(parser) if parser else None
    chunks = _tokenised(corpora, tokenizers, summary, progress or (lambda _: None), parse)
    return write_once(cache / f"{name}.arrow", chunks, summary)


def write_once(path: Path, chunks: Iterable[pa.RecordBatch], summary: Summary) -> TokenStore:
    """The store at `path`, which holds `chunks` and, once they are through, `summary`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".arrow.part")
    # A second training on the same corpus waits here, then finds the file.
    with FileLock(path.with_suffix(".lock")):
        if (kept := _kept(path)) is not None:
            return kept
        try:
            _write(part, chunks, summary)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return TokenStore(path)


def _kept(path: Path) -> TokenStore | None:
    """The store at `path`; None if there is none, or one that has been cut short since."""
    try:
        return TokenStore(path)
    except (FileNotFoundError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, chunks: Iterable[pa.RecordBatch], summary: Summary) -> None:
    with path.open("wb") as file:
        chunks = iter(chunks)
        first = next(chunks)
        with pa.ipc.new_file(file, first.schema) as writer:
            for chunk in chain([first], chunks):
                writer.write_batch(chunk)
            # The schema comes before the rows and cannot tell their summary; an empty batch can.
            nothing = pa.RecordBatch.from_pylist([], first.schema)
            writer.write_batch(nothing, custom_metadata={"summary": json.dumps(vars(summary))})
        file.flush()
        os.fsync(file.fileno())


def _tokenised(
    corpora: Sequence[CorpusConfig],
    tokenizers: Tokenizers,
    summary: Summary,
    progress: Callable[[int], None],
    parse: Parser | None,
) -> Iterator[pa.RecordBatch]:
    num_read = num_kept = 0
    schema = WITH_TREES if parse or all(corpus.trees for corpus in corpora) else SCHEMA
    for number, corpus in enumerate(corpora):
        pairs = read_pairs(corpus, summary.left_out)
        while read := list(islice(pairs, CHUNK)):
            if parse:
                sources = parse([pair.source for pair in read])
                read = [p._replace(source=s) for p, s in zip(read, sources, strict=True)]
            chunk = _tokenise(number, read, tokenizers, summary, schema)
            yield chunk
            num_read += len(read)
            num_kept += len(chunk)
            progress(num_read)
    if not num_kept:
        raise CalqueError(_no_pairs(corpora, summary.left_out))


def _tokenise(
    corpus: int, pairs: list[Pair], tokenizers: Tokenizers, summary: Summary, schema: pa.Schema
) -> pa.RecordBatch:
    sources = tokenizers.source.encode([pair.source for pair in pairs])
    targets = tokenizers.target.encode([pair.target for pair in pairs])
    trees = token_trees([pair.source for pair in pairs], tokenizers.source)
    rows = []
    for pair, source, target, tree in zip(pairs, sources, targets, trees, strict=True):
        if reason := _reason_to_leave_out(pair, source, target, summary):
            summary.left_out[reason] += 1
        else:
            file = summary.files.setdefault(pair.file, len(summary.files))
            row = source, target, pair.source, pair.target, corpus, file, pair.line
            if schema is WITH_TREES and isinstance(pair.source, Sentence):
                row += tree, pair.source.tree.lengths, pair.source.tree.heads
            rows.append(row)
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(c, kind) for c, kind in zip(columns, schema.types, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def _reason_to_leave_out(
    pair: Pair, source: list[int], target: list[int], limits: Summary
) -> str | None:
    for side, text, ids in (("source", pair.source, source), ("target", pair.target, target)):
        if not text.strip():
            return f"empty {side}"
        if limits.max_length is not None and len(ids) > limits.max_length:
            return f"{side} over {limits.max_length} tokens"
    shorter, longer = sorted((len(source), len(target)))
    if limits.max_ratio is None or longer < MIN_TOKENS_FOR_RATIO:
        return None
    return f"ratio over {limits.max_ratio:g}" if longer > limits.max_ratio * shorter else None


def _no_pairs(corpora: Sequence[CorpusConfig], left_out: Counter[str]) -> str:
    names = ", ".join(str(path) for corpus in corpora for path in files_of(corpus))
    reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return f"{names}: no pair is left to use ({reasons or 'there are none in the files'})"
