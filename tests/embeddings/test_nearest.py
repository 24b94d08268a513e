"""Neighbours and analogies, on vectors whose angles are known."""

import pytest
import torch

from calque.config import CalqueError
from calque.embeddings.nearest import Neighbourhood
from calque.embeddings.vectors import Vectors
from calque.text.tokenizers.frequent import Characters, Words

ROWS = {
    "king": ([1.0, 1, 0, 0], 90),
    "queen": ([1.0, 0, 1, 0], 80),
    "man": ([0.0, 1, 0, 0.2], 70),
    "woman": ([0.0, 0, 1, 0.2], 60),
    "table": ([0.0, 0, 0, -1], 50),
    "!": ([1.0, 1, 0.1, 0], 99),
    "rare": ([1.0, 1, 0, 0], 0),
}


def neighbourhood(rows=ROWS, kind=Words):
    matrix = torch.zeros(4 + len(rows), 4)
    matrix[4:] = torch.tensor([vector for vector, _ in rows.values()])
    counts = torch.tensor([0] * 4 + [count for _, count in rows.values()])
    return Neighbourhood(Vectors(matrix, counts, "joint", "cbow", ""), kind(list(rows)))


def test_the_nearest_come_first_with_their_cosines():
    found = neighbourhood().near("king")
    assert [piece for piece, _ in found[:2]] == ["!", "man"]
    assert found[1][1] == pytest.approx(1 / (2 * 1.04) ** 0.5)
    assert [c for _, c in found] == sorted((c for _, c in found), reverse=True)


def test_lengths_of_vectors_do_not_matter():
    longer = {word: ([7 * x for x in row], count) for word, (row, count) in ROWS.items()}
    (one, other) = (neighbourhood(rows).near("king") for rows in (ROWS, longer))
    assert [piece for piece, _ in one] == [piece for piece, _ in other]
    assert [c for _, c in one] == pytest.approx([c for _, c in other])


def test_what_is_asked_about_and_what_was_not_seen_are_no_answers():
    asked = neighbourhood()
    assert {piece for piece, _ in asked.near("king")} == {"queen", "man", "woman", "table", "!"}
    assert {p for p, _ in asked.analogy("man", "king", "woman")} == {"queen", "table", "!"}


def test_an_analogy_is_an_offset():
    asked = neighbourhood()
    assert asked.analogy("man", "king", "woman")[0][0] == "queen"
    assert asked.analogy("queen", "woman", "king")[0][0] == "man"


def test_a_word_of_several_pieces_is_their_mean():
    rows = {"a": ([1.0, 0, 0, 0], 3), "b": ([0.0, 5, 0, 0], 2), "c": ([1.0, 1, 0, 0], 1)}
    asked = neighbourhood(rows, Characters)
    assert asked.pieces("ab") == ["a", "b"]
    assert asked.near("ab") == [("c", pytest.approx(1.0))]


@pytest.mark.parametrize("word", ["dragon", "rare", ""])
def test_a_word_that_has_no_vector_is_an_error(word):
    with pytest.raises(CalqueError, match=f"'{word}': the text did not have it"):
        neighbourhood().near(word)


def test_frequent_pieces_are_words_that_occur_the_most_frequent_first():
    shown = neighbourhood().of_frequent(10)
    assert list(shown) == ["king", "queen", "man", "woman", "table"]
    assert shown["king"] == neighbourhood().near("king")
    assert len(neighbourhood().of_frequent(2)) == 2
