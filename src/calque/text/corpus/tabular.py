"""Files with a pair in each row: TSV, CSV, JSONL and Parquet."""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calque.config import CalqueError
from calque.text.corpus.pair import Pair, one_line
from calque.text.files import text_lines

NULL = "rows with a null instead of text"
BLANK = "blank lines"
BATCH = 4096  # rows
csv.field_size_limit(2**31 - 1)  # bytes; by default a long text is refused

Row = tuple[int, list[str]]
"""The line at which a row begins, and its fields."""


def read_tsv(path: Path, source: str, target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of a TSV file, whose first line names the columns; a quote is only a character."""
    rows = ((number, line.split("\t")) for number, line in enumerate(text_lines(path), start=1))
    return _columns(path, rows, source, target, left_out)


def read_csv(path: Path, source: str, target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of a CSV file (RFC 4180, so with commas), whose first row names the columns."""
    return _columns(path, _csv_rows(path), source, target, left_out)


def _csv_rows(path: Path) -> Iterator[Row]:
    # Strict, or else a quote that is never closed swallows the rest of the file.
    reader = csv.reader((line + "\n" for line in text_lines(path)), strict=True)
    while True:
        first_line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise CalqueError(f"{path}:{first_line}: not CSV: {error}") from None
        if row is None:
            return
        yield first_line, row


def _columns(
    path: Path, rows: Iterator[Row], source: str, target: str, left_out: Counter[str]
) -> Iterator[Pair]:
    _, header = next(rows, (1, []))
    _require(f"{path}", "column", header, source, target)
    source_index, target_index = header.index(source), header.index(target)
    for line, row in rows:
        if not any(row) and len(row) < 2:
            left_out[BLANK] += 1
            continue
        if len(row) != len(header):
            raise CalqueError(
                f"{path}:{line}: {len(row)} columns where the first line has {len(header)}"
            )
        yield Pair(one_line(row[source_index]), one_line(row[target_index]), str(path), line)


def _require(where: str, kind: str, present: Iterable[str], *wanted: str) -> None:
    names = list(present)
    for name in wanted:
        if name not in names:
            there = ", ".join(names) or "none"
            raise CalqueError(f"{where}: no {kind} {name!r}; there are: {there}")
        if names.count(name) > 1:
            raise CalqueError(f"{where}: {names.count(name)} {kind}s are called {name!r}")


def read_jsonl(path: Path, source: str, target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of a file with a JSON object on each line; a row with a null is left out."""
    for line, text in enumerate(text_lines(path), start=1):
        where = f"{path}:{line}"
        if not text.strip():
            left_out[BLANK] += 1
            continue
        row = _json_object(text, where)
        _require(where, "key", row, source, target)
        pair = row[source], row[target]
        if None in pair:
            left_out[NULL] += 1
            continue
        for key, value in zip((source, target), pair, strict=True):
            _require_text(value, f"{where}: {key!r}")
        yield Pair(one_line(pair[0]), one_line(pair[1]), str(path), line)


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CalqueError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise CalqueError(f"{where}: not a JSON object")
    return row


def _require_text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise CalqueError(f"{where} is not text (given: {value!r})")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair
        raise CalqueError(f"{where} is not valid Unicode (given: {value!a})") from None


def read_parquet(path: Path, source: str, target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of a Parquet file, a batch at a time; a row with a null is left out."""
    row = 0
    for batch in _batches(path, source, target):
        for pair in zip(*batch, strict=True):
            row += 1
            if None in pair:
                left_out[NULL] += 1
            else:
                yield Pair(one_line(pair[0]), one_line(pair[1]), str(path), row)


def _batches(path: Path, source: str, target: str) -> Iterator[tuple[list[Any], list[Any]]]:
    rows = 0
    try:
        with pq.ParquetFile(path) as file:
            _require(f"{path}", "column", file.schema_arrow.names, source, target)
            for name in (source, target):
                _require_text_column(file.schema_arrow.field(name), path)
            for batch in file.iter_batches(batch_size=BATCH, columns=[source, target]):
                yield batch.column(source).to_pylist(), batch.column(target).to_pylist()
                rows += len(batch)
    except UnicodeDecodeError as error:
        place = f"between rows {rows + 1:,} and {rows + BATCH:,}"
        raise CalqueError(f"{path}: {place}: not UTF-8: {error.object!r}") from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise CalqueError(f"{path}: not a Parquet file that can be read: {reason}") from None


def _require_text_column(field: Any, path: Path) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if kind not in (pa.string(), pa.large_string(), pa.string_view()):
        raise CalqueError(f"{path}: column {field.name!r} holds {field.type}, not text")
