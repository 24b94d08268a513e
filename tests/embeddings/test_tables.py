"""From vectors to embedding tables, in every family and with every vocabulary."""

import pytest
import torch

from calque.config import CalqueError
from calque.embeddings.tables import TABLES, freeze, initial_weights, read_vectors
from calque.embeddings.vectors import Vectors, hash_of_pieces, sides
from calque.models.build import FAMILIES
from calque.recipe import make_recipe
from calque.text.tokenizers.pair import Tokenizers

PAIRS = [("the dog sees the cat", "der Hund sieht die Katze")] * 3
WIDTH = 64

each_family = pytest.mark.parametrize("family", FAMILIES)
each_vocabulary = pytest.mark.parametrize("vocabulary", ["joint", "separate"])


def make(family="transformer", vocabulary="joint", **training):
    return make_recipe(
        {
            "data": {"train": ["a", "b"], "valid": ["a", "b"]},
            "tokenizer": {"kind": "words", "vocab_size": 8, "vocabulary": vocabulary},
            "model": {
                "family": family,
                "num_encoder_layers": 1,
                "num_decoder_layers": 1,
                "d_model": WIDTH,
            },
            "training": training,
        },
        "recipe",
    )


def learnt(recipe):
    return Tokenizers.train(recipe.tokenizer, lambda: iter(PAIRS))


def vectors(tokenizers, side, width=WIDTH):
    """As if two of the eight pieces had not occurred, and beyond them the special ones."""
    counts = torch.tensor([0, 0, 0, 0, 5, 0, 2, 1])
    matrix = 0.3 + 5 * torch.randn(8, width, generator=torch.Generator().manual_seed(1))
    matrix *= (counts > 0)[:, None]
    return Vectors(matrix, counts, side, "cbow", hash_of_pieces(sides(tokenizers)[side]))


@each_family
@each_vocabulary
def test_tables_are_the_vectors_times_one_number(family, vocabulary):
    recipe = make(family, vocabulary)
    tokenizers = learnt(recipe)
    found = {side: vectors(tokenizers, side) for side in sides(tokenizers)}
    drawn, filled = (initial_weights(recipe, tokenizers, start) for start in ({}, found))
    for side, of_side in found.items():
        before, after = (w[f"embedding.{TABLES[side]}.weight"] for w in (drawn, filled))
        seen = of_side.seen
        assert torch.equal(after[~seen], before[~seen])
        torch.testing.assert_close(after[seen].std(), before.std())
        assert float(before.std()) == pytest.approx(WIDTH**-0.5, rel=0.1)
        ratios = after[seen] / of_side.matrix[seen]
        torch.testing.assert_close(ratios, ratios[:1, :1].expand_as(ratios))
    tables = {f"embedding.{TABLES[side]}.weight" for side in found}
    for name in drawn.keys() - tables:
        assert torch.equal(drawn[name], filled[name])


def test_one_side_may_start_from_vectors_and_the_other_not():
    recipe = make(vocabulary="separate")
    tokenizers = learnt(recipe)
    found = {"v": vectors(tokenizers, "target")}
    drawn, filled = (initial_weights(recipe, tokenizers, start) for start in ({}, found))
    differ = {name for name in drawn if not torch.equal(drawn[name], filled[name])}
    assert differ == {"embedding.target_table.weight"}


@each_family
@each_vocabulary
def test_what_is_frozen_gets_no_gradient(family, vocabulary):
    from calque.checkpoint import new_model

    recipe = make(family, vocabulary)
    tokenizers = learnt(recipe)
    side = next(iter(sides(tokenizers)))
    model = new_model(recipe, tokenizers)
    freeze(model, [side])
    model(torch.tensor([[4, 5, 3]]), torch.tensor([[2, 4, 6]])).square().sum().backward()
    still = {name for name, p in model.named_parameters() if p.grad is None}
    assert still == {f"embedding.{TABLES[side]}.weight"}


@pytest.mark.parametrize(
    ("vocabulary", "files", "message"),
    [
        ("joint", {"a": ("source", WIDTH)}, "a: its vectors are of a source vocabulary, and .* jo"),
        ("separate", {"a": ("joint", WIDTH)}, "a: its vectors are of a joint vocabulary, and .*se"),
        ("joint", {"a": ("joint", 32)}, "a: its vectors have a width of 32, .*model.d_model is 64"),
        (
            "separate",
            {"a": ("source", WIDTH), "b": ("source", WIDTH)},
            "a, b: are all of one side",
        ),
        ("separate", {"a": ("source", WIDTH), "nowhere": None}, "nowhere: missing"),
    ],
)
def test_files_that_do_not_fit_are_named(vocabulary, files, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, made in files.items():
        if made:
            side, width = made
            whose = "separate" if side != "joint" else "joint"
            vectors(learnt(make(vocabulary=whose)), side, width).save(tmp_path / name)
    recipe = make(vocabulary=vocabulary, embeddings=list(files))
    with pytest.raises(CalqueError, match=message):
        read_vectors(recipe)


def test_another_tokenizer_is_refused():
    recipe = make()
    other = Tokenizers.train(recipe.tokenizer, lambda: [("a b c d", "e f g h")])
    with pytest.raises(CalqueError, match=r"v\.st: its vectors are of another tokenizer's pieces"):
        initial_weights(recipe, learnt(recipe), {"v.st": vectors(other, "joint")})
    assert read_vectors(recipe) == {}
