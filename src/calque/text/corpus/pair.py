"""What every reader gives."""

from typing import NamedTuple


class Pair(NamedTuple):
    """A source and a target, and where they came from."""

    source: str
    target: str
    file: str
    """Of two plain files, the source's."""
    line: int
    """Counted from 1; in Parquet, the row."""


def one_line(text: str) -> str:
    """The text with a space for each line break, as one line of a plain file could hold it."""
    return text.replace("\r\n", " ").replace("\n", " ")
