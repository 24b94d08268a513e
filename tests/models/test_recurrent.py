"""The recurrent family: its scores against their formulas, and what its decoder is given."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from calque.config import CalqueError
from calque.models.parts.recurrent_scores import LONGEST_SOURCE, RECURRENT_SCORES
from calque.models.recurrent import ATTENTIONS, CELLS, Recurrent, RecurrentConfig, RecurrentSizes
from calque.models.transformer import SharedEmbedding, TransformerConfig

PAD, BOS = 0, 2
VOCABULARIES = {"source_vocab_size": 20, "target_vocab_size": 20}
WIDTH = TransformerConfig(num_heads=1, d_model=8, **VOCABULARIES)


def make(**sizes: Any) -> Recurrent:
    torch.manual_seed(1)
    config = RecurrentConfig(**{"d_model": 16, **sizes}, **VOCABULARIES)
    return Recurrent(config, SharedEmbedding).eval()


@pytest.fixture
def source() -> Tensor:
    return torch.tensor([[5, 6, 7, 8, 3], [9, 4, 3, PAD, PAD]])


@pytest.fixture
def target() -> Tensor:
    return torch.tensor([[BOS, 5, 6, 7], [BOS, 8, 9, 4]])


# Scores


def cosine(score: Any, s: Tensor, h: Tensor) -> Tensor:
    strength = (1 + (score.strength.weight[0] @ s + score.strength.bias[0]).exp()).log()
    return math.sqrt(8) * strength * (s @ h) / (s.norm() * h.norm())


def additive(score: Any, s: Tensor, h: Tensor) -> Tensor:
    hidden = score.query.weight @ s + score.query.bias + score.key.weight @ h
    return score.score.weight[0] @ hidden.tanh()


FORMULAS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "additive": additive,
    "cosine": cosine,
    "dot": lambda _, s, h: s @ h,
    "general": lambda score, s, h: s @ score.key.weight @ h,
    "scaled_dot": lambda _, s, h: s @ h / math.sqrt(8),
}


@pytest.mark.parametrize("name", [name for name in RECURRENT_SCORES if name != "location"])
def test_a_score_is_its_formula(name: str) -> None:
    torch.manual_seed(2)
    score = RECURRENT_SCORES[name](WIDTH)
    states, encoded = torch.randn(2, 1, 3, 8), torch.randn(2, 5, 8)
    found = score(states, score.keys(encoded)[:, None])
    for b, i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(5)):
        expected = FORMULAS[name](score, states[b, 0, i], encoded[b, j])
        assert_close(found[b, 0, i, j], expected, rtol=1e-4, atol=1e-5)


def test_location_depends_on_the_decoders_state_alone() -> None:
    score: Any = RECURRENT_SCORES["location"](WIDTH)
    states = torch.randn(2, 1, 3, 8)
    found = score(states, torch.randn(2, 1, 5, 8))
    assert_close(found, (states @ score.positions.weight.T)[..., :5])
    assert torch.equal(score(states, torch.randn(2, 1, 5, 8)), found)


def test_location_ignores_the_end_of_a_source_that_is_too_long() -> None:
    model = make(attention="location")
    source = torch.randint(4, 20, (2, LONGEST_SOURCE + 7))
    weights = attention_weights(model, source, torch.tensor([[BOS, 5], [BOS, 6]]))
    assert (weights[..., :LONGEST_SOURCE] > 0).all()
    assert (weights[..., LONGEST_SOURCE:] == 0).all()


# Attention


def attention_weights(model: Recurrent, source: Tensor, target: Tensor) -> Tensor:
    (softmax,) = (m for name, m in model.named_modules() if name.endswith("softmax"))
    seen: list[Tensor] = []
    handle = softmax.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model(source, target)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("attention", RECURRENT_SCORES)
def test_what_the_softmax_gives_is_attention(
    attention: str, source: Tensor, target: Tensor
) -> None:
    weights = attention_weights(make(attention=attention), source, target)
    assert weights.shape == (2, 1, 4, 5)
    assert_close(weights.sum(dim=-1), torch.ones(2, 1, 4))
    assert torch.equal(weights == 0, (source == PAD)[:, None, None].expand_as(weights))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_without_attention_the_last_states_are_all_the_decoder_gets(
    cell: str, attention: str, source: Tensor, target: Tensor
) -> None:
    model = make(cell=cell, attention=attention)
    memory = model.encode(source)
    changed = replace(memory, keys=-memory.keys, values=memory.values + 1)
    before, after = (model.decode(target, m, model.start(m)) for m in (memory, changed))
    assert torch.equal(before, after) == (attention == "none")


# Sizes


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("depths", [(1, 3), (3, 1)])
def test_encoder_and_decoder_may_differ_in_depth(cell: str, depths: tuple[int, int]) -> None:
    model = make(cell=cell, num_encoder_layers=depths[0], num_decoder_layers=depths[1])
    assert (model.encoder.num_layers, model.decoder.num_layers) == depths
    assert (model.encoder.hidden_size, model.decoder.hidden_size) == (8, 16)
    assert model.encoder.bidirectional


def test_dropout_reaches_every_part() -> None:
    model = make(dropout=0.4, num_encoder_layers=2, num_decoder_layers=2)
    assert {m.p for m in model.modules() if type(m) is nn.Dropout} >= {0.4}
    assert (model.encoder.dropout, model.decoder.dropout) == (0.4, 0.4)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"cell": "gnu"}, "cell: no 'gnu'; did you mean 'gru'?"),
        ({"attention": "addictive"}, "attention: no 'addictive'; did you mean 'additive'?"),
        ({"num_encoder_layers": 0}, "num_encoder_layers 0 is not at least 1"),
        ({"num_decoder_layers": -1}, "num_decoder_layers -1 is not at least 1"),
        ({"d_model": 0}, "d_model 0 is not at least 1"),
        ({"d_model": 15}, "d_model 15 is odd"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout nan is not in \[0, 1\)"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_named(sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RecurrentSizes(**sizes)


def test_a_misspelt_name_is_the_users_error() -> None:
    with pytest.raises(CalqueError):
        RecurrentSizes(cell="gnu")
