"""BLEU, chrF and TER of detokenised text, with confidence intervals and a test of two systems.

All numbers come from sacreBLEU. Training and `calque evaluate` both score through this file, so a
BLEU seen while training is the BLEU that the same lines get afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Table
from rich.text import Text
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from calque.config import CalqueError

RESAMPLES = 1000
"""Bootstrap resamples behind every interval and p-value; memory is about 0.1 MB per line."""

NAMES = ("BLEU", "chrF2", "TER")

BLEU_TOKENIZERS = {
    "zh": "zh",
    "cmn": "zh",
    "yue": "zh",
    "ja": "char",
    "ko": "char",
    "th": "char",
    "lo": "char",
    "km": "char",
    "my": "char",
}
"""How sacreBLEU splits a language into the words of BLEU; "13a", on spaces and punctuation, for
every other language. Japanese and Korean go by characters: sacreBLEU's morphological splitting of
them needs packages that are not installed with calque, and gives other (lower) numbers."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of one system, from 0 to 100 (TER, the edits per 100 words, can exceed it)."""

    name: str
    """BLEU, chrF2 (higher is better) or TER (lower is better)."""
    score: float
    low: float
    high: float
    """Ends of the 95 % bootstrap confidence interval."""
    signature: str
    """How sacreBLEU computed it; numbers are comparable where this is the same."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of two systems on the same lines."""

    baseline: Metric
    other: Metric
    p_value: float
    """Chance of so large a difference between equal systems, in the direction seen (one-sided)."""

    @property
    def verdict(self) -> str:
        """Whether `other` is better or worse than the baseline, where that is significant."""
        if self.p_value >= 0.05:
            return "not significant"
        gain = self.other.score - self.baseline.score
        return "better" if (gain < 0) == (self.other.name == "TER") else "worse"


def bleu(hypotheses: Sequence[str], references: Sequence[str], language: str | None) -> float:
    """BLEU, 0 to 100 (Papineni et al. 2002, doi:10.3115/1073083.1073135).

    `language` is the BCP 47 code of the text. Raises CalqueError as `evaluate` does.
    """
    _check(hypotheses, references)
    return _bleu(language).corpus_score(hypotheses, [references]).score


def evaluate(
    hypotheses: Sequence[str],
    references: Sequence[str],
    language: str | None,
    names: Sequence[str] = NAMES,
) -> list[Metric]:
    """BLEU, chrF2 (doi:10.18653/v1/W15-3049) and TER, each with its 95 % confidence interval.

    Or those of them that `names` has: TER of long lines that are wrong takes minutes.

    `language` is the BCP 47 code of the text; it decides how BLEU and TER find words. The interval
    is sacreBLEU's: half the width between the 2.5 % and 97.5 % points of the bootstrap scores, on
    either side of their mean. The seed is fixed (SACREBLEU_SEED changes it, and the signature).

    Raises CalqueError without references, or if there are not as many as hypotheses.
    """
    return [metrics[0] for metrics, _ in _resample([hypotheses], references, language, names)]


def compare(
    baseline: Sequence[str],
    other: Sequence[str],
    references: Sequence[str],
    language: str | None,
    names: Sequence[str] = NAMES,
) -> list[Comparison]:
    """Each metric of two systems, and whether they differ: paired bootstrap resampling.

    Koehn 2004 (aclanthology.org/W04-3250), with p-values as sacreBLEU computes them. Raises
    CalqueError as `evaluate` does.
    """
    return [
        Comparison(baseline=metrics[0], other=metrics[1], p_value=p_value)
        for metrics, p_value in _resample([baseline, other], references, language, names)
    ]


def score_table(metrics: Sequence[Metric]) -> Group:
    """The metrics of one system for a terminal, and how each was computed."""
    table = Table("metric", "score (95 % interval)", box=SIMPLE)
    for metric in metrics:
        table.add_row(_label(metric), _score(metric))
    # A signature stays on one line, however narrow the terminal: it is there to be copied.
    signatures = [Text(m.signature, no_wrap=True, overflow="ignore") for m in metrics]
    return Group(table, *signatures)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Two systems side by side for a terminal; the verdict is about the second."""
    table = Table("metric", "baseline", "other", "p", "difference", box=SIMPLE, pad_edge=False)
    for comparison in comparisons:
        table.add_row(
            _label(comparison.baseline),
            _score(comparison.baseline),
            _score(comparison.other),
            f"{comparison.p_value:.3f}",
            comparison.verdict,
        )
    return table


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references):
        raise CalqueError(
            f"{len(hypotheses)} hypotheses but {len(references)} references: "
            "each hypothesis needs the one reference on its line"
        )
    if not references:
        raise CalqueError("no references: there is nothing to score against")


def _bleu(language: str | None) -> BLEU:
    # force only silences a warning about text that looks tokenised; it changes no number.
    return BLEU(tokenize=BLEU_TOKENIZERS.get(_primary(language), "13a"), force=True)


def _ter(language: str | None) -> TER:
    # TER counts words between spaces; where there are none, Han characters stand for words.
    han = _primary(language) in {"zh", "cmn", "yue", "ja"}
    return TER(normalized=han, asian_support=han)


def _primary(language: str | None) -> str:
    return (language or "").replace("_", "-").split("-")[0].lower()


def _resample(
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    language: str | None,
    names: Sequence[str],
) -> list[tuple[list[Metric], float]]:
    """For each metric, its value for each system, and the p-value of the last system."""
    for hypotheses in systems:
        _check(hypotheses, references)
    made = {"BLEU": _bleu, "chrF2": lambda _: CHRF(), "TER": _ter}
    signatures, results = PairedTest(
        [(str(number), hypotheses) for number, hypotheses in enumerate(systems)],
        {name: made[name](language) for name in names},
        [references],
        test_type="bs",
        n_samples=RESAMPLES,
    )()
    return [_collect(name, results, str(signatures[name])) for name in signatures]


def _collect(
    name: str, results: Mapping[str, Sequence[Any]], signature: str
) -> tuple[list[Metric], float]:
    first, last = results[name][0], results[name][-1]
    # sacreBLEU calls a system significantly different from its own copy: no resample of theirs
    # exceeds a difference of zero.
    p_value = 1.0 if last.score == first.score else last.p_value
    metrics = [
        Metric(
            name=name,
            score=float(result.score),
            low=float(result.mean - result.ci),
            high=float(result.mean + result.ci),
            signature=signature,
        )
        for result in results[name]
    ]
    return metrics, p_value


def _label(metric: Metric) -> str:
    return f"{metric.name} {'↓' if metric.name == 'TER' else '↑'}"


def _score(metric: Metric) -> str:
    return f"{metric.score:.2f} ({metric.low:.2f}–{metric.high:.2f})"
