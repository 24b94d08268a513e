"""Reading a corpus to its end, whatever is wrong with it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from calque.config import CalqueError
from calque.text.check.findings import Findings, Line, excerpt
from calque.text.check.report import Example, Side
from calque.text.corpus import plain_files, read_pairs
from calque.text.data import CorpusConfig
from calque.text.files import expand, raw_lines


def read_all(
    corpus: CorpusConfig, findings: Findings, left_out: Counter[str]
) -> Iterator[tuple[Line, Line]]:
    """The pairs that can be read; what keeps others from being read goes to the findings.

    Two plain files are read past every error. In a file of pairs, nothing can be trusted after one;
    the next file is another matter.
    """
    with _noting(findings):
        for pairs in _files(corpus, findings, left_out):
            with _noting(findings):
                yield from pairs


@contextmanager
def _noting(findings: Findings) -> Iterator[None]:
    try:
        yield
    except CalqueError as error:
        findings.put("unreadable", None, 1, [Example("", excerpt(str(error), width=1000))])


def _files(
    corpus: CorpusConfig, findings: Findings, left_out: Counter[str]
) -> list[Iterator[tuple[Line, Line]]]:
    """The pairs of each file of pairs, or of each two plain files."""
    if corpus.file is None:
        return [_read_two(*paths, findings) for paths in plain_files(corpus)]
    alone = [replace(corpus, file=str(path), trees=None) for path in expand(corpus.file)]
    return [_read_pairs(of_file, left_out) for of_file in alone]


def _read_pairs(corpus: CorpusConfig, left_out: Counter[str]) -> Iterator[tuple[Line, Line]]:
    for pair in read_pairs(corpus, left_out):
        yield Line(pair.source, pair.file, pair.line), Line(pair.target, pair.file, pair.line)


def _read_two(
    source_path: Path, target_path: Path, findings: Findings
) -> Iterator[tuple[Line, Line]]:
    source_file, target_file = str(source_path), str(target_path)
    source_count = target_count = 0
    lines = zip_longest(raw_lines(source_path), raw_lines(target_path))
    for number, (raw_source, raw_target) in enumerate(lines, start=1):
        source = target = None
        if raw_source is not None:
            source_count = number
            source = _decode(raw_source, source_file, number, "source", findings)
        if raw_target is not None:
            target_count = number
            target = _decode(raw_target, target_file, number, "target", findings)
        if source is not None and target is not None:
            yield source, target
    if source_count != target_count:
        text = f"{source_file} has {source_count:,} lines, {target_file} {target_count:,}"
        findings.put("unequal_lines", None, abs(source_count - target_count), [Example("", text)])


def _decode(raw: bytes, file: str, number: int, side: Side, findings: Findings) -> Line | None:
    try:
        return Line(raw.decode(), file, number)
    except UnicodeDecodeError as error:
        before = len(raw[: error.start].decode())
        text = excerpt(raw.decode(errors="backslashreplace"), before)
        where = f"byte {error.start} of the line, counted from 0"
        example = Example(f"{file}:{number}", f"{where} (0x{raw[error.start]:02x}): {text}")
        findings.put("not_utf8", side, 1, [example])
        return None
