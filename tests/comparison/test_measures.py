"""The parts of a test set, and their numbers."""

import pytest

from calque.comparison.measures import MEASURES, Answers
from calque.evaluation.metrics import bleu

ANSWERS = Answers(
    sources=["a b", "a b c d e", "a b c d e f", "x " * 60],
    references=["one two", "one two three four five", "six words of a sentence here", "y y"],
    hypotheses=["one two", "one two four three five", "six words of a sentence here", ""],
    files=["near", "far", "far", "near"],
    language="de",
)


def test_every_line_is_in_one_part():
    for measure in MEASURES.values():
        parts = measure.parts(ANSWERS)
        lines = [line for of_part in parts.values() for line in of_part]
        assert sorted(lines) == sorted(zip(ANSWERS.references, ANSWERS.hypotheses, strict=True))
        assert [f"{name} ({len(of_part)})" for name, of_part in parts.items()] == list(
            measure(ANSWERS)
        )


def test_bleu_of_a_length_is_that_of_its_lines_alone():
    found = MEASURES["bleu_by_length"](ANSWERS)
    assert list(found) == ["1–5 (2)", "6–10 (1)", "51+ (1)"]
    first = bleu(ANSWERS.hypotheses[:2], ANSWERS.references[:2], "de")
    assert found == pytest.approx({"1–5 (2)": first, "6–10 (1)": 100.0, "51+ (1)": 0.0})


def test_accuracy_counts_whole_lines_and_token_accuracy_words_at_their_place():
    assert MEASURES["accuracy_by_file"](ANSWERS) == {"near (2)": 50.0, "far (2)": 50.0}
    found = MEASURES["token_accuracy_by_file"](ANSWERS)
    assert found == pytest.approx({"near (2)": 100 * 2 / 4, "far (2)": 100 * 9 / 11})
