"""Our numbers are sacreBLEU's, and the significance test tells a damaged system from a copy."""

import io
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import sacrebleu
from rich.console import Console

from calque.config import CalqueError
from calque.evaluation.metrics import (
    Metric,
    bleu,
    compare,
    comparison_table,
    evaluate,
    score_table,
)

WORDS = ["the", "a", "dog", "river", "runs", "under", "old", "house", ",", ".", "sees", "12"]


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(6, 14))) for _ in range(count)]


def damaged(lines: Sequence[str], share: float, seed: int = 1) -> list[str]:
    """Each word replaced by another with probability `share`."""
    rng = random.Random(seed)
    return [
        " ".join("xyz" if rng.random() < share else word for word in line.split()) for line in lines
    ]


def by_name(metrics: Sequence[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


REFERENCES = sentences(200)
GOOD = damaged(REFERENCES, 0.1)
BAD = damaged(REFERENCES, 0.3)


def test_scores_are_those_of_sacrebleu() -> None:
    scores = by_name(evaluate(GOOD, REFERENCES, "en"))
    assert scores["BLEU"].score == sacrebleu.corpus_bleu(GOOD, [REFERENCES]).score
    assert scores["chrF2"].score == sacrebleu.corpus_chrf(GOOD, [REFERENCES]).score
    assert scores["TER"].score == sacrebleu.corpus_ter(GOOD, [REFERENCES]).score
    assert len(scores) == 3


@pytest.mark.parametrize("language", [None, "de", "zh", "ja"])
def test_training_and_evaluation_agree_on_bleu(language: str | None) -> None:
    scores = by_name(evaluate(GOOD, REFERENCES, language))
    assert bleu(GOOD, REFERENCES, language) == scores["BLEU"].score


def test_the_interval_is_around_the_score_and_narrows_with_more_lines() -> None:
    few = evaluate(GOOD[:50], REFERENCES[:50], "en")
    many = evaluate(GOOD, REFERENCES, "en")
    for metric in few + many:
        assert metric.low < metric.score < metric.high
    for small, large in zip(few, many, strict=True):
        assert large.high - large.low < small.high - small.low


def test_the_same_lines_give_the_same_intervals() -> None:
    assert evaluate(GOOD, REFERENCES, "en") == evaluate(GOOD, REFERENCES, "en")


def test_a_perfect_system_has_perfect_scores() -> None:
    scores = by_name(evaluate(REFERENCES, REFERENCES, None))
    assert scores["BLEU"].score == pytest.approx(100)
    assert scores["chrF2"].score == pytest.approx(100)
    assert scores["TER"].score == 0


def test_empty_hypotheses_score_nothing() -> None:
    scores = by_name(evaluate([""] * 3, REFERENCES[:3], "en"))
    assert scores["BLEU"].score == scores["chrF2"].score == 0
    assert scores["TER"].score == 100


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        (None, "13a"),
        ("de", "13a"),
        ("zh", "zh"),
        ("zh-Hant-TW", "zh"),
        ("ZH_cn", "zh"),
        ("zhx", "13a"),
        ("ja", "char"),
        ("ko-KR", "char"),
    ],
)
def test_the_language_chooses_the_words_of_bleu(language: str | None, tokenizer: str) -> None:
    scores = by_name(evaluate(GOOD[:5], REFERENCES[:5], language))
    assert f"tok:{tokenizer}|" in scores["BLEU"].signature


def test_chinese_is_scored_by_character() -> None:
    reference = ["我们昨天在公园里看见了一只白色的小狗。"]
    hypothesis = ["我们昨天在公园里看见了一只黑色的小狗。"]
    as_chinese, as_spaced = (
        by_name(evaluate(hypothesis, reference, language)) for language in ("zh", "en")
    )
    assert as_chinese["BLEU"].score > 60
    assert as_spaced["BLEU"].score < 10
    assert as_chinese["TER"].score == pytest.approx(100 / len(reference[0]))
    assert as_spaced["TER"].score == 100


def test_real_chinese_text_has_words(shared_data: Path) -> None:
    lines = (shared_data / "tatoeba-en-zh" / "test.zh").read_text(encoding="utf-8").splitlines()
    shortened = [line[:-2] for line in lines]
    assert bleu(shortened, lines, "zh") > bleu(shortened, lines, "en")


def test_a_system_does_not_differ_from_its_copy() -> None:
    for comparison in compare(GOOD, list(GOOD), REFERENCES, "en"):
        assert comparison.p_value == 1
        assert comparison.verdict == "not significant"
        assert comparison.baseline == comparison.other


def test_equally_good_systems_do_not_differ() -> None:
    twin = GOOD[:100] + damaged(REFERENCES, 0.1, seed=2)[100:]
    for comparison in compare(GOOD, twin, REFERENCES, "en"):
        assert comparison.verdict == "not significant"


def test_a_damaged_system_is_worse_and_its_original_better() -> None:
    for comparison in compare(GOOD, BAD, REFERENCES, "en"):
        assert comparison.p_value < 0.01
        assert comparison.verdict == "worse"
    for comparison in compare(BAD, GOOD, REFERENCES, "en"):
        assert comparison.verdict == "better"


def test_comparing_reports_what_evaluating_each_reports() -> None:
    comparisons = compare(GOOD, BAD, REFERENCES, "en")
    assert [c.baseline for c in comparisons] == evaluate(GOOD, REFERENCES, "en")
    assert [c.other for c in comparisons] == evaluate(BAD, REFERENCES, "en")


def test_one_metric_alone_is_what_it_is_among_all() -> None:
    whole = by_name(evaluate(GOOD, REFERENCES, "en"))
    assert evaluate(GOOD, REFERENCES, "en", ["BLEU"]) == [whole["BLEU"]]
    (alone,) = compare(GOOD, BAD, REFERENCES, "en", ["chrF2"])
    assert alone == compare(GOOD, BAD, REFERENCES, "en")[1]


def test_unequal_counts_are_refused_with_both_counts() -> None:
    for score in (bleu, evaluate):
        with pytest.raises(CalqueError, match="2 hypotheses but 3 references"):
            score(GOOD[:2], REFERENCES[:3], "en")
    with pytest.raises(CalqueError, match="2 hypotheses but 3 references"):
        compare(GOOD[:3], BAD[:2], REFERENCES[:3], "en")


def test_no_references_are_refused() -> None:
    with pytest.raises(CalqueError, match="no references"):
        bleu([], [], "en")


def test_scoring_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tokenised = [f"{line} ." for line in REFERENCES]
    with caplog.at_level(logging.WARNING):
        evaluate(tokenised, REFERENCES, "ja")
        compare(tokenised, GOOD, REFERENCES, "ko")
    assert caplog.records == []


def test_tables_show_scores_directions_and_verdicts() -> None:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(score_table(evaluate(GOOD, REFERENCES, "zh")))
    console.print(comparison_table(compare(GOOD, BAD, REFERENCES, "en")))
    shown = console.export_text()
    assert f"{bleu(GOOD, REFERENCES, 'zh'):.2f}" in shown
    assert f"{bleu(BAD, REFERENCES, 'en'):.2f}" in shown
    assert "tok:zh" in shown
    assert "TER ↓" in shown
    assert shown.count("worse") == 3
