"""Heads whose habits are known have them; words are linked as their pieces are."""

import math

import pytest
import torch
from torch import Tensor

from calque.inspection.measures import align, measure
from calque.inspection.words import Word

SIZE = 6


def one_hot(keys: list[int]) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(keys), SIZE).float()


@pytest.mark.parametrize(
    ("weights", "entropy", "distance"),
    [
        (torch.eye(SIZE), 0, 0),
        (one_hot([0, 0, 1, 2, 3, 4]), 0, 5 / 6),  # the token before
        (torch.full((SIZE, SIZE), 1 / SIZE), math.log(SIZE), 35 / 18),
        (one_hot([0] * SIZE), 0, 2.5),
        ((torch.eye(SIZE) + one_hot([5] * SIZE)) / 2, math.log(2) * 5 / 6, 1.25),
    ],
    ids=["itself", "previous", "all alike", "first", "itself and last"],
)
def test_habits_of_known_heads(weights: Tensor, entropy: float, distance: float) -> None:
    (head,) = measure("encoder", 3, weights[None])
    assert (head.attention, head.layer, head.head) == ("encoder", 3, 0)
    assert head.entropy == pytest.approx(entropy, abs=1e-6)
    assert head.distance == pytest.approx(distance, abs=1e-6)


def test_heads_are_measured_one_by_one() -> None:
    weights = torch.rand(3, SIZE, SIZE).softmax(dim=-1)
    together = measure("cross", 0, weights)
    apart = [measure("cross", 0, weights[i : i + 1])[0] for i in range(3)]
    assert [(h.entropy, h.distance) for h in together] == [(h.entropy, h.distance) for h in apart]


SOURCE = [
    Word(*word, spaced=True)
    for word in [("the", 0, 1), ("dogs", 1, 3), (".", 3, 4), ("</s>", 4, 5)]
]
TARGET = [
    Word(*word, spaced=True)
    for word in [("die", 0, 1), ("Hunde", 1, 3), (".", 3, 4), ("</s>", 4, 5)]
]


def test_words_are_linked_where_a_piece_is() -> None:
    looks_at = [0, 2, 0, 3, 4]  # the second piece of Hunde looks at "the"
    weights = torch.nn.functional.one_hot(torch.tensor(looks_at), 5).float()
    alignment = align([weights[None]], TARGET, SOURCE)
    assert alignment is not None
    assert alignment.links == [(0, 0), (1, 0), (1, 1), (2, 2)]
    assert alignment.weights[1].tolist() == [0.5, 0.5, 0, 0]


def test_the_end_of_the_source_is_never_linked_though_it_draws_most() -> None:
    weights = torch.tensor([0.1, 0.0, 0.2, 0.0, 0.7]).repeat(5, 1)
    alignment = align([weights[None]], TARGET, SOURCE)
    assert alignment is not None
    assert alignment.links == [(0, 1), (1, 1), (2, 1)]
    torch.testing.assert_close(alignment.weights[0], torch.tensor([0.1, 0.2, 0.0, 0.7]))


@pytest.mark.parametrize(("number", "chosen"), [(1, 0), (2, 0), (6, 4)])
def test_the_penultimate_layer_is_read(number: int, chosen: int) -> None:
    layers = [torch.rand(2, 5, 5).softmax(dim=-1) for _ in range(number)]
    alignment = align(layers, TARGET, SOURCE)
    only = align([layers[chosen]], TARGET, SOURCE)
    assert alignment is not None and only is not None
    assert alignment.layer == chosen
    assert torch.equal(alignment.weights, only.weights)


def test_weights_of_words_still_sum_to_one() -> None:
    alignment = align([torch.randn(2, 5, 5).softmax(dim=-1)], TARGET, SOURCE)
    assert alignment is not None
    torch.testing.assert_close(alignment.weights.sum(dim=1), torch.ones(4))


def test_nothing_is_linked_where_there_is_nothing_to_link() -> None:
    end = [Word("</s>", 0, 1, spaced=False)]
    alignment = align([torch.ones(1, 1, 1)], end, end)
    assert alignment is not None
    assert alignment.links == []
    assert align([], TARGET, SOURCE) is None
