"""How well a run translates a corpus; of two runs, whether they differ."""

from collections import Counter

from calque.config import CalqueError
from calque.evaluation.metrics import Comparison, Metric, compare, evaluate
from calque.text.corpus import read_pairs
from calque.text.data import CorpusConfig
from calque.translator import Translator


def evaluate_run(
    translator: Translator, corpus: CorpusConfig, language: str | None
) -> list[Metric]:
    """BLEU, chrF2 and TER of the translations of a corpus.

    `language` is the target's BCP 47 code. Raises CalqueError for what cannot be read.
    """
    sources, references = whole_pairs(corpus)
    return evaluate(translator.translate(sources), references, language)


def compare_runs(
    baseline: Translator, other: Translator, corpus: CorpusConfig, language: str | None
) -> list[Comparison]:
    """Both systems' metrics, and whether `other` differs from `baseline`; see `compare`."""
    sources, references = whole_pairs(corpus)
    return compare(baseline.translate(sources), other.translate(sources), references, language)


def whole_pairs(corpus: CorpusConfig) -> tuple[list[str], list[str]]:
    """Sources and references of a corpus; as in training, a pair with an empty side is no pair."""
    pairs = [
        (pair.source, pair.target)
        for pair in read_pairs(corpus, Counter())
        if pair.source.strip() and pair.target.strip()
    ]
    if not pairs:
        raise CalqueError(f"{corpus.source} and {corpus.target}: no pair to evaluate on")
    sources, references = zip(*pairs, strict=True)
    return list(sources), list(references)
