"""The convolutional family: how far it sees, what it remembers, and its initial variance."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from calque.config import CalqueError
from calque.models.convolutional import (
    Convolutional,
    ConvolutionalConfig,
    ConvolutionalSizes,
    interaction_distance,
)
from calque.models.parts.positions import LEARNED
from calque.models.transformer import SharedEmbedding

PAD, BOS = 0, 2
STACKS = [(1, 1), (1, 3), (2, 3), (3, 3), (2, 5)]  # layers, window


def make(**sizes: Any) -> Convolutional:
    torch.manual_seed(1)
    vocabularies = {"source_vocab_size": 2000, "target_vocab_size": 2000}
    config = ConvolutionalConfig(**{"d_model": 16, **sizes}, **vocabularies)
    return Convolutional(config, SharedEmbedding).eval()


@pytest.fixture
def source() -> Tensor:
    return torch.randint(4, 50, (1, 21), generator=torch.Generator().manual_seed(1))


# How far it sees


@pytest.mark.parametrize(("layers", "window"), STACKS)
def test_the_encoder_sees_as_far_as_computed(layers: int, window: int, source: Tensor) -> None:
    model = make(num_encoder_layers=layers, window=window)
    changed = source.clone()
    changed[0, 10] = source[0, 10] % 45 + 5  # some other word
    difference = (model.encode(source).keys - model.encode(changed).keys).abs().amax(dim=-1)[0, 0]
    far = interaction_distance(layers, window)
    assert far == model.config.interaction_distance
    assert difference.nonzero()[:, 0].tolist() == list(range(10 - far, 10 + far + 1))


@pytest.mark.parametrize(("layers", "window"), STACKS)
def test_the_decoder_sees_twice_as_far_back(layers: int, window: int, source: Tensor) -> None:
    model = make(num_decoder_layers=layers, window=window)
    target = source.clone()
    target[0, 4] = source[0, 4] % 45 + 5
    difference = (model(source, source) - model(source, target)).abs().amax(dim=-1)[0]
    far = 2 * interaction_distance(layers, window)
    assert difference.nonzero()[:, 0].tolist() == list(range(4, 4 + far + 1))


@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_past_is_the_last_inputs_of_each_layer(window: int, source: Tensor) -> None:
    model = make(window=window, num_decoder_layers=2)
    memory = model.encode(source)
    past = model.start(memory)
    for token in source.split(1, dim=1):
        model.decode(token, memory, past)
        assert [inputs.shape for inputs in past.layers] == [(1, window - 1, 16)] * 2
    assert past.length == source.size(1)


def test_texts_beyond_the_learned_positions_are_refused() -> None:
    model = make()
    longest = torch.full((1, LEARNED), 5)
    longer = torch.full((1, LEARNED + 1), 5)
    memory = model.encode(longest)
    past = model.start(memory)
    model.decode(longest, memory, past)
    for text in (lambda: model.encode(longer), lambda: model.decode(longer[:, :1], memory, past)):
        with pytest.raises(CalqueError, match=f"{LEARNED + 1:,} tokens.* {LEARNED:,} positions"):
            text()


# Attention


def test_each_decoder_layer_looks_back(source: Tensor) -> None:
    model = make(num_decoder_layers=3)
    source = torch.cat([source, torch.full((1, 4), PAD)], dim=1)
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: seen.update({name: output})

    for name, module in model.named_modules():
        if name.endswith("softmax"):
            module.register_forward_hook(keep(name))
    model(source, torch.tensor([[BOS, 5, 6]]))
    assert list(seen) == [f"decoder.{i}.attention.softmax" for i in range(3)]
    for weights in seen.values():
        assert_close(weights.sum(dim=-1), torch.ones(1, 1, 3))
        assert torch.equal(weights == 0, (source == PAD)[:, None, None].expand_as(weights))


# Initialisation


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_layers_keep_the_variance_of_words(dropout: float) -> None:
    model = make(d_model=256, dropout=dropout, num_encoder_layers=8).train()
    source = torch.randint(4, 2000, (8, 40))
    x = model.dropout(model.embedding.source(source))
    padding = torch.zeros(8, 40, 1, dtype=torch.bool)
    for layer in model.encoder:
        x = layer(x, padding)
    assert x.var().item() == pytest.approx(1 / (1 - dropout), rel=0.5)


def test_a_mean_over_the_source_varies_as_much_at_any_length() -> None:
    model = make(d_model=256, dropout=0.0)
    sources = (torch.randint(4, 2000, (16, length)) for length in (4, 64))
    short, long = (model.encode(source).values.mean(dim=2).var().item() for source in sources)
    assert long == pytest.approx(short, rel=0.5)


def test_weights_are_normalised() -> None:
    model = make()
    weight = model.encoder[0].windows.convolution.weight
    names = {name for name, _ in model.named_parameters() if name.startswith("encoder.0.")}
    assert names == {
        "encoder.0.windows.convolution.bias",
        "encoder.0.windows.convolution.parametrizations.weight.original0",
        "encoder.0.windows.convolution.parametrizations.weight.original1",
    }
    length = dict(model.named_parameters())[
        "encoder.0.windows.convolution.parametrizations.weight.original0"
    ]
    assert_close(weight.flatten(1).norm(dim=1), length.flatten())


# Sizes


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"num_encoder_layers": 0}, "num_encoder_layers 0 is not at least 1"),
        ({"num_decoder_layers": -1}, "num_decoder_layers -1 is not at least 1"),
        ({"d_model": 0}, "d_model 0 is not at least 1"),
        ({"window": 0}, "window 0 is not at least 1"),
        ({"window": 4}, "window 4 is even"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout nan is not in \[0, 1\)"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_named(sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ConvolutionalSizes(**sizes)
