"""What a check has found, as plain values: a report of splits, their findings and examples."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

Severity = Literal["error", "warning", "note"]
Side = Literal["source", "target"]

KINDS: dict[str, tuple[Severity, str]] = {
    "unreadable": ("error", "cannot be read"),
    "unequal_lines": ("error", "unequal numbers of lines"),
    "not_utf8": ("error", "not UTF-8"),
    "no_pairs": ("error", "no pair to learn from"),
    "empty_side": ("warning", "empty"),
    "no_letter_or_digit": ("warning", "no letter or digit"),
    "identical_sides": ("warning", "source and target identical"),
    "length_ratio": ("warning", "unusual ratio of lengths"),
    "other_script": ("warning", "mostly in another script"),
    "duplicate": ("warning", "pair occurred before"),
    "pair_in_train": ("warning", "pair also in train"),
    "source_in_train": ("warning", "source also in train"),
    "pair_in_valid": ("warning", "pair also in valid"),
    "source_in_valid": ("warning", "source also in valid"),
    "control": ("warning", "control characters"),
    "zero_width": ("warning", "invisible characters"),
    "replacement": ("warning", "U+FFFD in place of lost text"),
    "private_use": ("warning", "private-use characters"),
    "other_target": ("note", "source with another target before"),
    "other_source": ("note", "target with another source before"),
    "no_break_space": ("note", "no-break spaces"),
    "not_nfc": ("note", "not in Unicode's form NFC"),
    "html_entity": ("note", "HTML entities"),
    "outer_space": ("note", "white space around the line"),
    "double_space": ("note", "double spaces"),
}
"""Every kind of finding: how grave it is, and its name to read. An error: the data are refused, by
training or, in test data, by evaluation."""


@dataclass(frozen=True)
class Example:
    """One line on which something was found."""

    place: str
    """`file:line`; empty where the text names the files."""
    text: str
    """An excerpt in printable characters: others are shown as `<U+0009>`, stray spaces as ␣."""


@dataclass(frozen=True)
class Finding:
    """One kind of finding on one side of a split; a `side` of None means the pair."""

    kind: str
    """A key of KINDS."""
    severity: Severity
    side: Side | None
    count: int
    """Of the lines or pairs, or, for kinds of characters, of the characters."""
    examples: tuple[Example, ...]
    """At most three: the first ones, or for ratios of lengths the worst ones."""

    @property
    def rank(self) -> tuple[int, str]:
        """Where to list it: the gravest kinds first."""
        return list(KINDS).index(self.kind), self.side or ""


@dataclass(frozen=True)
class Size:
    """How much text there is on a side, before any tokenizer; words split on white space."""

    words: int
    characters: int


@dataclass(frozen=True)
class Split:
    """Training, validation or test data."""

    name: str
    pairs: int
    """All that could be read, those with an empty side among them."""
    source: Size
    target: Size
    left_out: dict[str, int] = field(default_factory=dict)
    """Units of pair files in which there is no pair of these languages, by reason."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that a check has found."""

    splits: tuple[Split, ...]

    @property
    def refused(self) -> bool:
        """Whether training would refuse the data, or evaluation those for the test."""
        return bool(self.refused_splits)

    @property
    def refused_splits(self) -> list[str]:
        """The names of the splits in which there are errors."""
        return [s.name for s in self.splits if any(f.severity == "error" for f in s.findings)]

    def to_json(self) -> dict[str, Any]:
        """The report as lists, dicts, strings and numbers."""
        return {"refused": self.refused, **TypeAdapter(Report).dump_python(self, mode="json")}
