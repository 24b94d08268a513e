"""Text files as bytes and as lines, compressed or not, and the paths that a pattern stands for."""

import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from calque.config import CalqueError


def _open_zstandard(path: Path) -> Any:
    return pa.input_stream(path, compression="zstd")


COMPRESSIONS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}
"""How to open a compressed file, by the last suffix of its name."""


def inner_suffix(path: Path) -> str:
    """The last suffix of a file's name, or the one before it if that is a compression's."""
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path).suffix


def open_bytes(path: Path) -> BinaryIO:
    """The content of a file as a stream of bytes; .gz, .xz and .zst are decompressed on the way.

    Raises CalqueError, here or at a later read, if the file is missing, unreadable or damaged.
    """
    decompress = COMPRESSIONS.get(path.suffix.lower())
    try:
        if decompress is None:
            return path.open("rb")
        return io.BufferedReader(_Decompressed(path, decompress(path)), io.DEFAULT_BUFFER_SIZE * 16)
    except FileNotFoundError:
        raise CalqueError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CalqueError(f"{path}: cannot be read: {error.strerror or error}") from None


class _Decompressed(io.RawIOBase):
    """A decompressing stream whose errors name the file, whichever library it comes from."""

    def __init__(self, path: Path, stream: Any) -> None:
        self.path = path
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return self.stream.readinto(buffer)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise CalqueError(f"{self.path}: damaged or cut short: {error}") from None

    def close(self) -> None:
        self.stream.close()
        super().close()


def raw_lines(path: Path) -> Iterator[bytes]:
    r"""The lines of a file without their endings, in bounded memory; a UTF-8 BOM is left out.

    Only \n and \r\n end a line: U+2028, U+0085, a form feed or a lone \r may stand inside one, as
    they do in real corpora, and must not shift one side of a corpus against the other.
    """
    with open_bytes(path) as stream:
        first = stream.readline().removeprefix(codecs.BOM_UTF8)
        for line in chain([first] if first else [], stream):
            yield line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")


def text_lines(path: Path) -> Generator[str, None, None]:
    """The lines of a UTF-8 file as `raw_lines` gives them, decoded.

    Raises CalqueError with file, line and byte where the text is not UTF-8.
    """
    for number, line in enumerate(raw_lines(path), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise CalqueError(
                f"{path}:{number}: not UTF-8 at byte {error.start} of the line, counted from 0 "
                f"(0x{line[error.start]:02x})"
            ) from None
        yield text


def expand(patterns: str | tuple[str, ...]) -> list[Path]:
    """The files that paths and globs stand for: patterns in their order, each one's files sorted.

    They are sorted by the text that the wildcards stand for. A `~` is the home folder. Raises
    CalqueError for a pattern without any file.
    """
    return [path for path, _ in _expanded(patterns)]


def expand_pair(
    sources: str | tuple[str, ...], targets: str | tuple[str, ...]
) -> list[tuple[Path, Path]]:
    """The files that two sides stand for, two by two.

    Raises CalqueError where their numbers differ, or what the wildcards of two globs stand for.
    """
    found = _expanded(sources), _expanded(targets)
    if len(found[0]) != len(found[1]):
        numbers = f"{len(found[0])} source but {len(found[1])} target files"
        raise CalqueError(f"{sources} and {targets}: {numbers}")
    pairs = list(zip(*found, strict=True))
    for (source, source_text), (target, target_text) in pairs:
        if len(pairs) > 1 and source_text and target_text and source_text != target_text:
            raise CalqueError(
                f"{source} and {target}: do they belong together? The wildcards stand for "
                f"{'…'.join(source_text)!r} and for {'…'.join(target_text)!r}; where they do not "
                "stand for the same, name the files in lists"
            )
    return [(source, target) for (source, _), (target, _) in pairs]


def _expanded(patterns: str | tuple[str, ...]) -> list[tuple[Path, tuple[str, ...]]]:
    """Each file, and the text that wildcards stand for in its path."""
    paths: list[tuple[Path, tuple[str, ...]]] = []
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        try:
            found = _matches(Path(pattern).expanduser())
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise CalqueError(f"{pattern}: not a path or pattern: {error}") from None
        if not found:
            raise CalqueError(f"{pattern}: there is no such file")
        if not all(path.is_file() for path, _ in found):
            raise CalqueError(f"{pattern}: not a file, which can be read more than once")
        paths += found
    return paths


def _matches(path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    if path.exists():  # first, for a file whose own name has a bracket in it
        return [(path, ())]
    anchor = Path(path.anchor)
    pattern = str(path.relative_to(anchor))
    found = (p for p in anchor.glob(pattern) if p.is_file())
    texts = re.compile(_expression(pattern))
    matched = ((p, texts.fullmatch(str(p.relative_to(anchor)))) for p in found)
    return sorted(((p, m.groups() if m else ()) for p, m in matched), key=lambda m: (m[1], m[0]))


def _expression(pattern: str) -> str:
    """A glob as a regular expression, with each wildcard a group."""
    wildcards = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    for number in range(1, len(parts), 2):
        parts[number] = wildcards.get(parts[number]) or f"({parts[number].replace('[!', '[^', 1)})"
    parts[::2] = map(re.escape, parts[::2])
    return "".join(parts)
