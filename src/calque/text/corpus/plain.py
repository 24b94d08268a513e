"""Two plain text files that belong together line by line."""

from collections.abc import Iterator
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

from calque.config import CalqueError
from calque.text.corpus.pair import Pair
from calque.text.files import raw_lines, text_lines


def read_plain(source_path: Path, target_path: Path) -> Iterator[Pair]:
    """The pairs of two files. Raises CalqueError for unequal numbers of lines."""
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
