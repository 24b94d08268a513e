"""Depths and relations in trees over tokens, against a walk from word to word."""

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from calque.config import CalqueError
from calque.inspection.attention import plain
from calque.models.build import ModelConfig, build
from calque.models.parts.relative_attention import CLIP
from calque.models.parts.structural_positions import (
    StructuralAttention,
    StructuralPositions,
    Told,
    ancestors,
    depths,
    needs_trees,
    relations,
)
from calque.models.transformer import SinusoidalPositions, TransformerConfig

CONFIG = TransformerConfig(
    d_model=16, d_ff=24, num_heads=4, dropout=0.0, source_vocab_size=9, target_vocab_size=9
)
SMALL: dict[str, Any] = {"num_encoder_layers": 2, "num_decoder_layers": 1, "d_model": 16}
SMALL |= {"d_ff": 24, "num_heads": 2}
NAMES = ["structural", "structural_relative"]


class Words:
    """A tree drawn word by word: heads, and how many tokens each word has; EOS is the last."""

    def __init__(self, heads: list[int], sizes: list[int]) -> None:
        self.heads, self.sizes = heads, sizes
        self.word_of = [w for w, size in enumerate([*sizes, 1]) for _ in range(size)]

    def tree(self, length: int) -> list[int]:
        """Over the tokens, padded to `length`."""
        first = [self.word_of.index(word) for word in range(len(self.sizes) + 1)]
        heads = [*self.heads, len(self.heads)]
        tree = [
            first[heads[word]] if first[word] == token else -1
            for token, word in enumerate(self.word_of)
        ]
        return tree + [-1] * (length - len(tree))

    def way(self, word: int) -> list[int]:
        """From a word up to the root, both included."""
        found = [word]
        while self.heads[found[-1]] != found[-1]:
            found.append(self.heads[found[-1]])
        return found

    def depth(self, word: int) -> int:
        if word == len(self.heads):  # EOS
            return 1 + max(len(self.way(other)) - 1 for other in range(word))
        return len(self.way(word)) - 1

    def relation(self, query: int, key: int) -> int:
        """§3.1 of the paper, rule by rule."""
        end = len(self.heads)
        one_way = query == key or (
            end not in (query, key) and (query in self.way(key) or key in self.way(query))
        )
        if one_way:
            return self.depth(query) - self.depth(key)
        order = 1 if query > key else -1
        return order * (self.depth(query) + self.depth(key))


@st.composite
def sentences(draw: st.DrawFn) -> Words:
    order = draw(st.permutations(range(draw(st.integers(1, 12)))))
    heads = [0] * len(order)
    for number, word in enumerate(order):  # each hangs on one that came before it in this order
        heads[word] = order[draw(st.integers(0, number - 1))] if number else word
    return Words(heads, [draw(st.integers(1, 3)) for _ in order])


@given(batch=st.lists(sentences(), min_size=1, max_size=4))
def test_depths_and_relations_are_those_of_a_walk(batch: list[Words]) -> None:
    length = max(len(one.word_of) for one in batch)
    tree = torch.tensor([one.tree(length) for one in batch])
    reached, word = ancestors(tree)
    depth, relation = depths(reached, word), relations(tree)
    for row, one in enumerate(batch):
        size = len(one.word_of)
        assert depth[row, :size].tolist() == [one.depth(w) for w in one.word_of]
        expected = [[one.relation(q, k) for k in one.word_of] for q in one.word_of]
        assert relation[row, :size, :size].tolist() == expected


@given(one=sentences(), more=st.integers(1, 9))
def test_padding_changes_no_relation(one: Words, more: int) -> None:
    size = len(one.word_of)
    alone, padded = (torch.tensor([one.tree(length)]) for length in (size, size + more))
    assert torch.equal(relations(padded)[:, :size, :size], relations(alone))


def test_a_chain_is_as_deep_as_it_is_long() -> None:
    for length in (1, 2, 3, 64, 65):
        tree = torch.tensor([[0, *range(length - 1), length]])
        assert depths(*ancestors(tree))[0].tolist() == list(range(length + 1))


@given(one=sentences())
def test_absolute_positions_are_the_tanh_of_two_sinusoids(one: Words) -> None:
    torch.manual_seed(3)
    ours, sinusoids = StructuralPositions(CONFIG), SinusoidalPositions(CONFIG)
    size = len(one.word_of)
    found = ours.source(torch.ones(1, size, dtype=torch.long), torch.tensor([one.tree(size)]))
    for token, word in enumerate(one.word_of):
        depth = one.depth(word)
        by_place, by_depth = sinusoids(1, start=token)[0], sinusoids(1, start=depth)[0]
        expected = torch.tanh(ours.sequence.weight @ by_place + ours.structure.weight @ by_depth)
        assert_close(found[0, token], expected, rtol=0, atol=1e-5)
    ids = torch.ones(1, 4, dtype=torch.long)
    assert torch.equal(ours.target(ids, start=2), sinusoids.target(ids, start=2))


@given(one=sentences())
def test_attention_adds_the_vector_of_each_relation(one: Words) -> None:
    torch.manual_seed(3)
    ours, heads, width, size = StructuralAttention(CONFIG), 4, 4, len(one.word_of)
    ours.told = Told()
    ours.told.relations = relations(torch.tensor([one.tree(size)]))
    query, key, value = torch.randn(3, 1, heads, size, width)
    found = ours(query, key, value, torch.ones(1, 1, 1, size, dtype=torch.bool))
    for i, word in enumerate(one.word_of):
        clipped = [min(max(one.relation(word, w), -CLIP), CLIP) + CLIP for w in one.word_of]
        to_key, to_value = ours.relative_key.weight[clipped], ours.relative_value.weight[clipped]
        for head in range(heads):
            scores = (key[0, head] + to_key) @ query[0, head, i] / math.sqrt(width)
            expected = scores.softmax(dim=0) @ (value[0, head] + to_value)
            assert_close(found[0, head, i], expected, rtol=0, atol=1e-5)


def example() -> tuple[Tensor, Tensor, Tensor]:
    """A source and two trees for it."""
    first, other = Words([2, 2, 2, 2], [1, 2, 1, 1]), Words([0, 0, 1, 2], [1, 2, 1, 1])
    source = torch.tensor([[5, 6, 7, 8, 4, 3]])
    return source, torch.tensor([first.tree(6)]), torch.tensor([other.tree(6)])


@pytest.fixture(params=NAMES)
def model(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    made = build(ModelConfig(**SMALL, positions=request.param), 9, 9)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def encoded(model: Any, *inputs: Tensor) -> Tensor:
    return model.encode(*inputs).keys_values[0][0]


def test_another_tree_is_another_memory(model: Any) -> None:
    source, first, other = example()
    assert not torch.isclose(encoded(model, source, first), encoded(model, source, other)).all()


def test_copies_listen_to_their_own_positions(model: Any) -> None:
    source, first, other = example()
    expected = encoded(model, source, first)
    for again in (copy.deepcopy(model), plain(model), pickle.loads(pickle.dumps(model))):
        encoded(model, source, other)
        assert torch.equal(encoded(again, source, first), expected)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_tree_they_say_what_is_missing(name: str, monkeypatch: Any) -> None:
    monkeypatch.undo()  # of the trees that all other tests get
    model = build(ModelConfig(**SMALL, positions=name), 9, 9)
    with pytest.raises(CalqueError, match="needs the dependency tree of each source"):
        model.encode(torch.tensor([[5, 6, 3]]))


def test_who_needs_trees_says_so() -> None:
    for name in ("sinusoidal", "relative", *NAMES):
        config = ModelConfig(**SMALL, positions=name)
        assert config.needs_trees is needs_trees(build(config, 9, 9)) is (name in NAMES)
