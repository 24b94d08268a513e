"""Counting findings while a corpus streams by, and keeping their first examples."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from calque.text.check.report import KINDS, Example, Finding, Side

MAX_EXAMPLES = 3
STRAY_SPACES = re.compile("^ +| +$|  +")


class Line(NamedTuple):
    """One side of a pair, and where it stands."""

    text: str
    file: str
    line: int

    def example(self, at: int = 0) -> Example:
        """This line as an example of what was found at the character `at`."""
        return Example(f"{self.file}:{self.line}", excerpt(self.text, at))


def excerpt(text: str, at: int = 0, width: int = 48) -> str:
    """At most `width` characters of a text, the one at `at` among them, all of them visible."""
    start = 0 if at < width // 2 else at - width // 2
    visible_spaces = STRAY_SPACES.sub(lambda spaces: "␣" * len(spaces[0]), text)
    shown = "".join(
        c if c.isprintable() else f"<U+{ord(c):04X}>" for c in visible_spaces[start : start + width]
    )
    return ("…" if start else "") + shown + ("…" if start + width < len(text) else "")


class Findings:
    """Counts and examples, by kind and side."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Side | None]] = Counter()
        self.examples: defaultdict[tuple[str, Side | None], list[Example]] = defaultdict(list)

    def add(self, kind: str, side: Side | None, line: Line, at: int = 0, count: int = 1) -> None:
        """Count what was found at the character `at` of a line."""
        found = kind, side
        self.counts[found] += count
        if len(self.examples[found]) < MAX_EXAMPLES:
            self.examples[found].append(line.example(at))

    def put(self, kind: str, side: Side | None, count: int, examples: Sequence[Example]) -> None:
        """Count something that was found `count` times, with all the examples there are of it."""
        if count:
            self.counts[kind, side] += count
            room = MAX_EXAMPLES - len(self.examples[kind, side])
            self.examples[kind, side] += examples[:room]

    def all(self) -> tuple[Finding, ...]:
        """What was found, the gravest kinds first."""
        found = (
            Finding(kind, KINDS[kind][0], side, count, tuple(self.examples[kind, side]))
            for (kind, side), count in self.counts.items()
        )
        return tuple(sorted(found, key=lambda finding: finding.rank))
