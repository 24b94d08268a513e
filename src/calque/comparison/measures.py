"""What a comparison may measure besides: a number for each part of the test set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from calque.evaluation.metrics import bleu

BUCKETS = (5, 10, 15, 20, 25, 30, 50)
"""Longest sources of each bucket, in words."""


@dataclass(frozen=True)
class Answers:
    """What one run made of the test set, line by line."""

    sources: Sequence[str]
    references: Sequence[str]
    hypotheses: Sequence[str]
    files: Sequence[str]
    """Of each line, the name of the corpus that it is from."""
    language: str | None


Lines = list[tuple[str, str]]  # reference and hypothesis


@dataclass(frozen=True)
class Measure:
    """A number, in percent or of 100, for each part that lines can be divided into."""

    title: str
    parts: Callable[[Answers], dict[str, Lines]]
    number: Callable[[Lines, str | None], float]

    def __call__(self, answers: Answers) -> dict[str, float]:
        """The number of each part, in order, and how many lines that is of."""
        return {
            f"{name} ({len(lines):,})": self.number(lines, answers.language)
            for name, lines in self.parts(answers).items()
        }


def by_length(answers: Answers) -> dict[str, Lines]:
    """By words of the source, between spaces."""
    found: dict[str, Lines] = {name: [] for name, _ in _buckets()}
    for source, *line in zip(answers.sources, answers.references, answers.hypotheses, strict=True):
        words = len(source.split())
        name = next(name for name, last in _buckets() if last is None or words <= last)
        found[name].append((line[0], line[1]))
    return {name: lines for name, lines in found.items() if lines}


def by_file(answers: Answers) -> dict[str, Lines]:
    """By the corpora of the test set."""
    found: dict[str, Lines] = {}
    for name, *line in zip(answers.files, answers.references, answers.hypotheses, strict=True):
        found.setdefault(name, []).append((line[0], line[1]))
    return found


def bleu_of(lines: Lines, language: str | None) -> float:
    """BLEU of these lines alone."""
    references, hypotheses = zip(*lines, strict=True)
    return bleu(hypotheses, references, language)


def accuracy(lines: Lines, _: str | None) -> float:
    """Percentage of lines that are right from their first word to their last."""
    return 100 * sum(found.split() == wanted.split() for wanted, found in lines) / len(lines)


def token_accuracy(lines: Lines, _: str | None) -> float:
    """Percentage of the references' words that stand at their place."""
    pairs = [(wanted.split(), found.split()) for wanted, found in lines]
    right = sum(a == b for wanted, found in pairs for a, b in zip(wanted, found, strict=False))
    return 100 * right / sum(len(wanted) for wanted, _ in pairs)


def _buckets() -> Iterator[tuple[str, int | None]]:
    first = 1
    for last in BUCKETS:
        yield f"{first}–{last}", last
        first = last + 1
    yield f"{first}+", None


MEASURES: dict[str, Measure] = {
    "bleu_by_length": Measure("BLEU by words of the source", by_length, bleu_of),
    "accuracy_by_file": Measure("Lines that are right, %, by test file", by_file, accuracy),
    "token_accuracy_by_file": Measure(
        "Words at their place, %, by test file", by_file, token_accuracy
    ),
}
