"""How well a run translates a corpus; of two runs, whether they differ."""

from collections import Counter
from dataclasses import dataclass

from calque.config import CalqueError
from calque.evaluation.metrics import Comparison, Metric, compare, evaluate
from calque.text.corpus import read_pairs
from calque.text.data import CorpusConfig
from calque.translator import Translator


@dataclass(frozen=True)
class EvaluationPairs:
    """Sources and references to evaluate on, line by line."""

    sources: list[str]
    references: list[str]
    left_out: Counter[str]
    """Pairs that are none, by reason; training leaves out the same."""


def read_evaluation_pairs(corpus: CorpusConfig) -> EvaluationPairs:
    """The pairs of a corpus. Raises CalqueError for what cannot be read, or when there are none."""
    pairs = EvaluationPairs([], [], Counter())
    for pair in read_pairs(corpus, pairs.left_out):
        if not pair.source.strip():
            pairs.left_out["empty source"] += 1
        elif not pair.target.strip():
            pairs.left_out["empty target"] += 1
        else:
            pairs.sources.append(pair.source)
            pairs.references.append(pair.target)
    if not pairs.sources:
        where = corpus.file or f"{corpus.source} and {corpus.target}"
        raise CalqueError(f"{where}: no pair to evaluate on")
    return pairs


def evaluate_run(
    translator: Translator, pairs: EvaluationPairs, language: str | None
) -> list[Metric]:
    """BLEU, chrF2 and TER of the translations; `language` is the target's BCP 47 code."""
    hypotheses = translator.translate(pairs.sources)
    return evaluate(hypotheses, pairs.references, language)


def compare_runs(
    baseline: Translator, other: Translator, pairs: EvaluationPairs, language: str | None
) -> list[Comparison]:
    """Both systems' metrics, and whether `other` differs from `baseline`; see `compare`."""
    systems = baseline.translate(pairs.sources), other.translate(pairs.sources)
    return compare(*systems, pairs.references, language)
