"""Words are whole, in order, and each piece is in one of them."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calque.inspection.words import words
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.pair import Tokenizers

TEXT = st.text(st.sampled_from("The oldmancß'-.,?中文かn0☃ "), max_size=30)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizers(request: pytest.FixtureRequest, train_tokenizers: Callable) -> Tokenizers:
    return train_tokenizers(request.param)


@given(TEXT)
def test_each_piece_is_in_one_word(tokenizers: Tokenizers, line: str) -> None:
    (ids,) = tokenizers.source.encode([line])
    found = words(tokenizers.source, ids, "</s>")
    inside = [piece for word in found for piece in range(word.first, word.end)]
    assert inside == list(range(len(ids) + 1))
    assert all(word.first < word.end for word in found)
    assert found[-1].text == "</s>"


@given(TEXT)
def test_words_together_are_the_text(tokenizers: Tokenizers, line: str) -> None:
    (ids,) = tokenizers.source.encode([line])
    found = words(tokenizers.source, ids, "")
    text = "".join(" " * word.spaced + word.text for word in found)
    assert text.split() == tokenizers.source.decode([ids])[0].split()


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("The old man.", ["The", "old", "man", "."]),
        ("the door's old-man", ["the", "door's", "old-man"]),
        ("a (the) b", ["a", "(", "the", ")", "b"]),
        ("  the  old ", ["the", "old"]),
        ("", []),
    ],
)
def test_subwords_are_joined_to_words(
    train_tokenizers: Callable, kind: str, line: str, expected: list[str]
) -> None:
    tokenizer = train_tokenizers(kind).source
    (ids,) = tokenizer.encode([line])
    assert [word.text for word in words(tokenizer, ids, "")[:-1] if word.text] == expected


def test_bytes_of_a_character_are_one_word(train_tokenizers: Callable) -> None:
    tokenizer = train_tokenizers("bpe").source
    (ids,) = tokenizer.encode(["a 中☃ b"])
    assert len(ids) > 6  # three bytes for each of the two
    assert [word.text for word in words(tokenizer, ids, "")[:-1]] == ["a", "中", "☃", "b"]
