"""The traced tree is what the search did: its prefixes, their probabilities, its ends."""

import math
from collections.abc import Callable

import pytest
import torch

from calque.decoding import SEARCHES
from calque.inspection import look
from calque.inspection.tree import Tree
from calque.models.build import FAMILIES
from calque.translator import Translator

LINES = ["The small cat opens the door.", "Where is the old man", "a"]
Make = Callable[..., Translator]


def pieces_of(tree: Tree, node: int) -> list[str]:
    found: list[str] = []
    place: int | None = node
    while place:
        found.insert(0, tree.nodes[place].piece)
        place = tree.nodes[place].parent
    return found


@pytest.fixture(params=[(s, f) for s in SEARCHES for f in FAMILIES], ids="-".join)
def translator(make_translator: Make, request: pytest.FixtureRequest) -> Translator:
    search, family = request.param
    return make_translator(search=search, family=family)


@pytest.mark.parametrize("line", LINES)
def test_every_hypothesis_ends_a_path_with_its_score(translator: Translator, line: str) -> None:
    tree, found = look(translator, line).tree, translator.n_best([line])[0]
    pieces = translator.tokenizers.target.pieces
    assert [pieces_of(tree, end.node) for end in tree.ends] == [
        pieces(t.hypothesis.tokens) for t in found
    ]
    scores = [t.score for t in found]
    assert [end.score for end in tree.ends] == pytest.approx(scores, abs=1e-5)
    assert len(tree.winners()) == len(found[0].hypothesis.tokens) + 1


@pytest.mark.parametrize("line", LINES)
def test_log_probs_along_a_path_are_those_of_its_tokens(translator: Translator, line: str) -> None:
    tree, found = look(translator, line).tree, translator.n_best([line])[0]
    for end, translation in zip(tree.ends, found, strict=True):
        node = tree.nodes[end.node]
        expected = sum(translation.hypothesis.token_log_probs[:-1])
        assert node.log_prob == pytest.approx(expected, abs=1e-4)
        assert node.log_prob > end.log_prob


def test_a_beam_keeps_the_likeliest_of_each_step(make_translator: Make) -> None:
    tree = look(make_translator(beam_size=3), LINES[0]).tree
    steps = {node.step for node in tree.nodes}
    assert steps == set(range(max(steps) + 1))
    for step in steps:
        of_step = [node for node in tree.nodes if node.step == step]
        assert [node.rank for node in of_step] == list(range(3 if step else 1))
        log_probs = [node.log_prob for node in of_step]
        assert log_probs == sorted(log_probs, reverse=True)
        parents = [node.parent for node in of_step]
        assert all(tree.nodes[p].step == step - 1 for p in parents if p is not None)
    assert len(tree.nodes) > len(tree.winners())  # there are losers


def test_prefixes_are_all_different(make_translator: Make) -> None:
    tree = look(make_translator(beam_size=4), LINES[0]).tree
    places = [(node.parent, node.piece) for node in tree.nodes if node.piece != "<unk>"]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_scores_are_log_probs_over_the_length_penalty(make_translator: Make, alpha: float) -> None:
    tree = look(make_translator(length_penalty=alpha), LINES[0]).tree
    for node in tree.nodes[1:]:
        assert node.score == pytest.approx(node.log_prob / ((5 + node.step) / 6) ** alpha)


def test_greedy_search_is_a_single_path(make_translator: Make) -> None:
    tree = look(make_translator(search="greedy"), LINES[0]).tree
    assert [node.parent for node in tree.nodes] == [None, *range(len(tree.nodes) - 1)]
    assert tree.winners() == set(range(len(tree.nodes)))


def test_an_empty_line_has_no_tree(make_translator: Make) -> None:
    assert look(make_translator(), " ").tree == Tree([], [])


def test_probabilities_are_none_of_thin_air(make_translator: Make) -> None:
    """The likeliest first tokens, from the model itself."""
    translator = make_translator(beam_size=3)
    tree, model = look(translator, LINES[0]).tree, translator.model
    (ids,) = translator.tokenizers.source.encode(LINES[:1])
    source = torch.tensor([[*ids, model.config.eos_id]])
    logits = model(source, torch.tensor([[model.config.bos_id]]))[0, 0]
    best = logits.log_softmax(dim=-1).topk(6)
    never = {model.config.pad_id, model.config.bos_id, model.config.eos_id}
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    expected = [value for token, value in pairs if token not in never][:3]
    first = [node.log_prob for node in tree.nodes if node.step == 1]
    assert all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(first, expected, strict=True))
