"""Two plain text files that belong together line by line."""

from collections.abc import Iterator
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

from calque.config import CalqueError
from calque.text.corpus.pair import Pair
from calque.text.files import expand_pair, raw_lines, text_lines


def read_plain(source: str | tuple[str, ...], target: str | tuple[str, ...]) -> Iterator[Pair]:
    """The pairs of the first source and first target file, then of the second ones, and so on.

    Raises CalqueError for what `expand_pair` refuses, and for unequal numbers of lines.
    """
    for source_path, target_path in expand_pair(source, target):
        yield from _read_two(source_path, target_path)


def _read_two(source_path: Path, target_path: Path) -> Iterator[Pair]:
    file = str(source_path)
    # Closed with the last pair or the error, whoever holds on to that.
    with closing(text_lines(source_path)) as sources, closing(text_lines(target_path)) as targets:
        for number, (source, target) in enumerate(zip_longest(sources, targets), start=1):
            if source is None or target is None:
                counts = [sum(1 for _ in raw_lines(path)) for path in (source_path, target_path)]
                raise CalqueError(
                    f"{source_path} has {counts[0]} lines but {target_path} has {counts[1]}: "
                    "they do not belong together line by line"
                )
            yield Pair(source, target, file, number)
