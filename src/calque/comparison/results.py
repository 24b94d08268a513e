"""From measured runs to a row for each change: means, spreads, and the difference from the base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from calque.comparison.measures import Answers, Measure
from calque.comparison.measuring import EvaluationSet, Measured
from calque.evaluation.metrics import Comparison, Metric, bleu, compare, evaluate

Value = str | float | None


@dataclass(frozen=True)
class Number:
    """A mean over seeds, and their standard deviation where there are several."""

    mean: float
    spread: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Number | None":
        """Of the values that there are."""
        found = [value for value in values if value is not None]
        if not found:
            return None
        return cls(mean(found), stdev(found) if len(found) > 1 else None)

    def shown(self, digits: int) -> str:
        """For a reader."""
        spread = "" if self.spread is None else f" ± {self.spread:,.{digits}f}"
        return f"{self.mean:,.{digits}f}{spread}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of the base or of one change."""

    name: str
    seeds: tuple[int, ...]
    parameters: int | None = None
    training_rate: Number | None = None
    decoding_rate: Number | None = None
    peak_memory: Number | None = None
    """In MB."""
    perplexity: Number | None = None
    bleu: Number | None = None
    by_seed: tuple[float, ...] = ()
    """BLEU."""
    metric: Metric | None = None
    """BLEU of all seeds' translations, one after the other, with its interval."""
    comparison: Comparison | None = None
    """With the base's, in the same way; none for the base itself."""
    problem: str = ""

    @property
    def difference(self) -> float | None:
        """From the base's BLEU."""
        return self.comparison and self.comparison.other.score - self.comparison.baseline.score

    @property
    def verdict(self) -> str:
        """About the difference."""
        return self.comparison.verdict if self.comparison else ""

    def flat(self) -> dict[str, Value]:
        """As a row of results.csv."""
        numbers = {
            "training_tokens_per_second": self.training_rate,
            "decoding_sentences_per_second": self.decoding_rate,
            "peak_memory_mb": self.peak_memory,
            "validation_perplexity": self.perplexity,
            "bleu": self.bleu,
        }
        found: dict[str, Value] = {"change": self.name, "seeds": " ".join(map(str, self.seeds))}
        found["parameters"] = self.parameters
        for name, number in numbers.items():
            found[name] = number and number.mean
            found[f"{name}_spread"] = number and number.spread
        return found | {
            "bleu_by_seed": " ".join(f"{score:.2f}" for score in self.by_seed),
            "bleu_low": self.metric and self.metric.low,
            "bleu_high": self.metric and self.metric.high,
            "difference": self.difference,
            "p_value": self.comparison and self.comparison.p_value,
            "verdict": self.verdict,
            "problem": self.problem,
        }

    def cells(self) -> list[str]:
        """As a row of a table for a reader; see HEADERS."""

        def shown(number: Number | None, digits: int) -> str:
            return number.shown(digits) if number else ""

        metric, comparison = self.metric, self.comparison
        return [
            self.name,
            "" if self.parameters is None else f"{self.parameters:,}",
            shown(self.training_rate, 0),
            shown(self.decoding_rate, 1),
            shown(self.peak_memory, 0),
            shown(self.perplexity, 2),
            shown(self.bleu, 2),
            f"{metric.low:.2f}–{metric.high:.2f}" if metric else "",
            f"{self.difference:+.2f}" if comparison else "",
            f"{comparison.p_value:.3f}" if comparison else "",
            self.verdict or ("failed" if self.problem else ""),
        ]


HEADERS = (
    "change",
    "parameters",
    "training tokens/s",
    "decoding sentences/s",
    "peak memory, MB",
    "validation perplexity",
    "BLEU",
    "95 %",
    "difference",
    "p",
    "verdict",
)


def make_row(
    name: str,
    found: Sequence[Measured],
    base: Sequence[Measured] | None,
    test: EvaluationSet,
    language: str | None,
    problem: str,
) -> Row:
    """The row of one change, from its runs and those of the base; of the base itself, with None.

    Translations of all seeds are put one after the other, those of one seed against those of the
    base with the same seed, and so are the resamples of interval and p-value drawn.
    """
    if not found:
        return Row(name=name, seeds=(), problem=problem)
    metric, comparison = _scored(found, base or (), test.references, language)
    scores = tuple(bleu(m.hypotheses, test.references, language) for m in found)
    memory = [None if m.peak_memory is None else m.peak_memory / 1e6 for m in found]
    return Row(
        name=name,
        seeds=tuple(m.seed for m in found),
        parameters=found[0].parameters,
        training_rate=Number.of([m.training_rate for m in found]),
        decoding_rate=Number.of([m.decoding_rate for m in found]),
        peak_memory=Number.of(memory),
        perplexity=Number.of([m.perplexity for m in found]),
        bleu=Number.of(scores),
        by_seed=scores,
        metric=metric,
        comparison=comparison,
        problem=problem,
    )


def _scored(
    found: Sequence[Measured], base: Sequence[Measured], references: list[str], language: str | None
) -> tuple[Metric, Comparison | None]:
    """BLEU of all, and how it compares with that of the base, if there is the same seed in both."""
    paired = {b.seed: b for b in base}
    both = [m for m in found if m.seed in paired]
    comparison = None
    if both:
        others = [line for m in both for line in m.hypotheses]
        bases = [line for m in both for line in paired[m.seed].hypotheses]
        comparison = compare(bases, others, references * len(both), language, ["BLEU"])[0]
        if len(both) == len(found):
            return comparison.other, comparison
    lines = [line for m in found for line in m.hypotheses]
    return evaluate(lines, references * len(found), language, ["BLEU"])[0], comparison


@dataclass(frozen=True)
class Breakdown:
    """A measure's number for each row and each part of the test set; means over seeds."""

    name: str
    title: str
    values: Mapping[str, Mapping[str, float]]

    @property
    def parts(self) -> list[str]:
        """In order; the same for all rows."""
        return list(next(iter(self.values.values())))

    def flat(self) -> list[dict[str, Value]]:
        """As rows of a CSV file."""
        return [{"change": row, **values} for row, values in self.values.items()]


def break_down(
    name: str,
    measure: Measure,
    measured: Mapping[str, Sequence[Measured]],
    test: EvaluationSet,
    language: str | None,
) -> Breakdown:
    """One of MEASURES, of all rows that have a run."""
    values = {}
    for row, runs in measured.items():
        if not runs:
            continue
        of_runs = [
            measure(Answers(test.sources, test.references, m.hypotheses, test.files, language))
            for m in runs
        ]
        values[row] = {part: mean(found[part] for found in of_runs) for part in of_runs[0]}
    return Breakdown(name, measure.title, values)
