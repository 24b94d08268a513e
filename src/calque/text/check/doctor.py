"""The check itself: one reading of the corpora, and another up to the last example wanted."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import get_args

from calque.text.check.findings import MAX_EXAMPLES, Findings, Line, excerpt
from calque.text.check.lengths import LengthRatios
from calque.text.check.lines import comparison_key, look_at
from calque.text.check.reading import read_all
from calque.text.check.repeats import Fingerprints
from calque.text.check.report import Example, Report, Side, Size, Split
from calque.text.data import CorpusConfig
from calque.text.scripts import main_script

OWN_SCRIPT = 0.2
"""Share of a side's lines, over all splits, from which on a script belongs to that side."""


def check(
    train: Sequence[CorpusConfig],
    valid: Sequence[CorpusConfig] = (),
    test: Sequence[CorpusConfig] = (),
) -> Report:
    """Look through corpora for all that spoils a training; nothing found stops the search.

    Memory: about 40 bytes per pair, and at its height, while comparing, about 120.
    """
    named = {"train": train, "valid": valid, "test": test}
    splits = [_SplitCheck(name, corpora) for name, corpora in named.items() if corpora]
    for number, split in enumerate(splits):
        split.compare(splits[:number])
    for side in get_args(Side):
        _find_other_scripts(splits, side)
    return Report(tuple(split.result() for split in splits))


class _SplitCheck:
    """What is known of one split."""

    def __init__(self, name: str, corpora: Sequence[CorpusConfig]) -> None:
        self.name = name
        self.corpora = corpora
        self.findings = Findings()
        self.scripts = Findings()
        self.fingerprints = Fingerprints()
        self.ratios = LengthRatios()
        self.left_out: Counter[str] = Counter()
        self.pairs = self.usable_pairs = 0
        self.words: Counter[Side] = Counter()
        self.characters: Counter[Side] = Counter()
        for source, target in self._read(self.findings, self.left_out):
            self._look_at_pair(source, target)
        if not self.usable_pairs:
            self.findings.put("no_pairs", None, 1, [])

    def _read(self, findings: Findings, left_out: Counter[str]) -> Iterator[tuple[Line, Line]]:
        for corpus in self.corpora:
            yield from read_all(corpus, findings, left_out)

    def _look_at_pair(self, source: Line, target: Line) -> None:
        self.pairs += 1
        source_key = self._look_at_side("source", source)
        target_key = self._look_at_side("target", target)
        if not _usable(source, target):
            self._find_empty("source", source, target)
            self._find_empty("target", target, source)
            return
        self.usable_pairs += 1
        if source.text == target.text:
            self.findings.add("identical_sides", None, source)
        if target_key and not source_key:
            self.findings.add("no_letter_or_digit", "source", source)
        if source_key and not target_key:
            self.findings.add("no_letter_or_digit", "target", target)
        self.ratios.add(source.text, target.text)
        self.fingerprints.add(source.text, target.text, source_key, target_key)

    def _look_at_side(self, side: Side, line: Line) -> str:
        text = line.text
        self.words[side] += len(text.split())
        self.characters[side] += len(text)
        for kind, count, at in look_at(text):
            self.findings.add(kind, side, line, at, count)
        key = comparison_key(text)
        if (script := main_script(key)) is not None:
            self.scripts.add(script, side, line)
        return key

    def _find_empty(self, side: Side, line: Line, other: Line) -> None:
        if not line.text.strip():
            self.findings.add("empty_side", side, line._replace(text=other.text))

    def compare(self, earlier: Sequence["_SplitCheck"]) -> None:
        """Find the pairs that are odd only beside other pairs, of this or of an earlier split."""
        found = {"length_ratio": self.ratios.outliers(), **self.fingerprints.repeats()}
        for other in earlier:
            found |= self.fingerprints.overlap(other.fingerprints, other.name)
        first = {kind: indices[:MAX_EXAMPLES].tolist() for kind, indices in found.items()}
        examples = self._examples({index for indices in first.values() for index in indices})
        for kind, indices in found.items():
            shown = [examples[i] for i in first[kind]]
            self.findings.put(kind, None, len(indices), shown)

    def _examples(self, wanted: set[int]) -> dict[int, Example]:
        """The usable pairs of these numbers, out of a second reading that ends at the last one."""
        pairs = (pair for pair in self._read(Findings(), Counter()) if _usable(*pair))
        numbered = enumerate(islice(pairs, max(wanted, default=-1) + 1))
        return {number: _example(*pair) for number, pair in numbered if number in wanted}

    def result(self) -> Split:
        """All that was found, as plain values."""
        source, target = (Size(self.words[s], self.characters[s]) for s in get_args(Side))
        left_out, findings = dict(self.left_out), self.findings.all()
        return Split(self.name, self.pairs, source, target, left_out, findings)


def _usable(source: Line, target: Line) -> bool:
    return bool(source.text.strip() and target.text.strip())


def _example(source: Line, target: Line) -> Example:
    text = f"{excerpt(source.text, width=30)} → {excerpt(target.text, width=30)}"
    return Example(source.example().place, text)


def _find_other_scripts(splits: Sequence[_SplitCheck], side: Side) -> None:
    """Find the lines in a script that too few lines of this side are written in to be its own."""
    lines = {script for split in splits for script, of in split.scripts.counts if of == side}
    count = {
        script: sum(split.scripts.counts[script, side] for split in splits) for script in lines
    }
    others = [script for script in count if count[script] < OWN_SCRIPT * sum(count.values())]
    for split in splits:
        for script in others:
            examples = split.scripts.examples[script, side]
            split.findings.put("other_script", side, split.scripts.counts[script, side], examples)
