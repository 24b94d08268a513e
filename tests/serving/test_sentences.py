"""Texts cut into sentences and joined again."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from calque.serving.sentences import LINES, split

TEXTS = st.text(st.sampled_from("aZé. !?。！\n\r\t\u2028\xa0\u3000\"'()1狗😀")) | st.text()


def anything(_: str) -> bool:
    return True


@given(TEXTS, st.sampled_from(["en", "de", "zh", "hi", "pt-BR", "xx"]))
@example("\ufeff a.\u200b b", "en")
@example("Plan A\xa0. Plan B\u3000.\u3000C", "en")
def test_the_same_sentences_give_the_same_text(text: str, language: str):
    cut = split(text, language, anything)
    assert cut.join(cut.sentences, "zh") == text
    assert len(cut.spaces) == len(cut.sentences) + 1


@given(TEXTS)
def test_only_white_space_is_between_sentences(text: str):
    cut = split(text, "en", anything)
    assert all(not space.strip() for space in cut.spaces)
    assert all(sentence == sentence.strip() != "" for sentence in cut.sentences)
    assert all(LINES.fullmatch(sentence) for sentence in cut.sentences)


@given(TEXTS, st.integers(1, 5))
def test_what_is_too_long_is_cut_until_it_fits(text: str, longest: int):
    cut = split(text, "en", lambda sentence: len(sentence) <= longest)
    assert all(len(sentence) <= longest for sentence in cut.sentences)
    assert cut.join(cut.sentences, "zh") == text


def test_a_long_sentence_is_cut_at_spaces():
    cut = split("one two three four five", "en", lambda s: len(s.split()) <= 2)
    assert all(s in "one two three four five" for s in cut.sentences)
    assert " ".join(cut.sentences) == "one two three four five"
    assert all(re.fullmatch(r"\w+( \w+)?", sentence) for sentence in cut.sentences)


@pytest.mark.parametrize(
    "text, language, expected",
    [
        ("A dog. Two cats!", "en", ["A dog.", "Two cats!"]),
        ("Dr. Smith met Mr. Jones. They left.", "en", ["Dr. Smith met Mr. Jones.", "They left."]),
        ("It costs 3.50 euros. Really?", "en", ["It costs 3.50 euros.", "Really?"]),
        ("Er kam z.B. am Montag. Dann ging er.", "de", ["Er kam z.B. am Montag.", "Dann ging er."]),
        ("狗在跑。猫在睡觉。", "zh", ["狗在跑。", "猫在睡觉。"]),
        ("no end\nanother line", "en", ["no end", "another line"]),
        (" \n ", "en", []),
    ],
)
def test_sentences(text: str, language: str, expected: list[str]):
    assert split(text, language, anything).sentences == expected


def test_a_space_comes_between_sentences_of_a_language_that_has_them():
    cut = split("狗在跑。猫在睡觉。\n", "zh", anything)
    assert cut.join(["A dog runs.", "A cat sleeps."], "en") == "A dog runs. A cat sleeps.\n"
    assert cut.join(["犬。", "猫。"], "ja") == "犬。猫。\n"
