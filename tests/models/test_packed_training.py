"""Packed training: the features and gradients of the plain model, whatever the lengths are."""

from copy import deepcopy
from statistics import mean

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from calque.models.build import ModelConfig, build
from calque.models.fast_training import ROWS, use_fast_layers
from calque.models.packed_training import PackedTransformer
from calque.models.precision import WIDTH

SIZES = {"num_encoder_layers": 2, "num_decoder_layers": 2, "d_model": 32, "d_ff": 24}
TAKEN = [
    {},
    {"residual": "pre"},
    {"residual": "none", "norm": "rms"},
    {"norm": "none"},
    {"heads": "biased"},
    {"positions": "learned"},
    {"positions": "none"},
    {"positions": "rotary"},
    {"feed_forward": "swiglu"},
    {"num_encoder_layers": 1, "num_decoder_layers": 3},
]
LEFT = [
    {"norm": "batch"},
    {"heads": "shared_query_key"},
    {"score": "additive"},
    {"positions": "relative"},
    {"pattern": "local"},
    {"d_key": 4},
    {"attention_dropout": 0.1},
]
PAIRS = {
    "lengths that differ": [(5, 3), (1, 9), (WIDTH + 2, 1), (WIDTH, WIDTH + 1)],
    "no padding": [(4, 6)] * 3,
    "rows that are full": [(4, 8)] * (ROWS // 8),
    "one pair": [(1, 1)],
    "a long source": [(300, 40), (7, 30)],
    "a long target": [(5, 300), (3, 9)],
}
"""Tokens of source and target, with EOS."""


def models(changes: dict) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The same, plain and with fast layers."""
    model = build(ModelConfig(**{**SIZES, "num_heads": 4, "dropout": 0.0, **changes}), 50, 50)
    fast = deepcopy(model).train()
    use_fast_layers(fast)
    return model.train(), fast


def batch(pairs: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    sources = [torch.randint(4, 50, (length,)) for length, _ in pairs]
    targets = [torch.cat([torch.tensor([2]), torch.randint(4, 50, (n,))]) for _, n in pairs]
    return pad_sequence(sources, batch_first=True), pad_sequence(targets, batch_first=True)


def plain_features(model, source, target):
    memory = model.encode(source)
    return model.features(target[:, :-1], memory, model.start(memory))[target[:, 1:] != 0]


def gradients(features, model):
    # Of like size for all features, and in no column about nothing in sum.
    weights = 0.5 + torch.arange(features.numel()).cos().view_as(features)
    names, parameters = zip(*model.named_parameters(), strict=True)
    grads = torch.autograd.grad((features * weights).sum(), parameters, allow_unused=True)
    return dict(zip(names, grads, strict=True))


def apart(found, expected):
    """How far, for each of what has a name, measured by the size of what is expected."""
    sizes = {name: x.detach().norm() for name, x in expected.items()}
    least = max(sizes.values()) / 100
    return {
        name: float((x - expected[name]).detach().norm() / (sizes[name] + least))
        for name, x in found.items()
    }


@pytest.mark.parametrize("pairs", PAIRS)
@pytest.mark.parametrize("changes", TAKEN, ids=str)
def test_it_is_the_plain_transformer(changes, pairs):
    model, fast = models(changes)
    assert PackedTransformer.can_take(fast)
    source, target = batch(PAIRS[pairs])
    expected = plain_features(model, source, target)
    found = PackedTransformer(fast).features(source, target)
    assert found.shape == expected.shape
    assert apart({"features": found}, {"features": expected})["features"] < 1e-5
    errors = apart(gradients(found, fast), gradients(expected, model))
    assert max(errors.values()) < 1e-3, errors  # without residuals, sums all but cancel


@pytest.mark.parametrize("pairs", ["lengths that differ", "a long source", "a long target"])
def test_in_bf16_it_is_as_near_to_float32_as_the_plain_path(pairs):
    of_plain, of_packed = [], []
    for seed in range(8):  # the rounding of one model's numbers may be lucky
        torch.manual_seed(seed)
        model, fast = models({"residual": "pre"})
        source, target = batch(PAIRS[pairs])
        exact = plain_features(model, source, target)
        with torch.autocast("cpu", torch.bfloat16):
            plain = plain_features(fast, source, target)
            packed = PackedTransformer(fast).features(source, target)
        expected = {"features": exact, **gradients(exact, model)}
        for errors, x in ((of_plain, plain), (of_packed, packed)):
            errors.append(apart({"features": x, **gradients(x, fast)}, expected))
    nearness = [mean(e["features"] for e in errors) for errors in (of_packed, of_plain)]
    assert nearness[0] < 1.2 * nearness[1]
    # Of all: that of a single parameter varies with the way in which few numbers are rounded.
    nearness = [mean(mean(e.values()) for e in errors) for errors in (of_packed, of_plain)]
    assert nearness[0] < 1.5 * nearness[1]


def test_each_token_is_dropped_out_by_itself():
    _, fast = models({"dropout": 0.5})
    source, target = batch([(7, 9)] * 4)
    source, target = (ids[:1].expand_as(ids) for ids in (source, target))
    features = PackedTransformer(fast).features(source, target).unflatten(0, (4, -1))
    assert not any(torch.equal(features[0], other) for other in features[1:])


@pytest.mark.parametrize("changes", LEFT, ids=str)
def test_what_it_does_not_compute_is_left_to_the_plain_path(changes):
    assert not PackedTransformer.can_take(models(changes)[1])


def test_plain_layers_and_other_families_are_left_to_the_plain_path():
    model, fast = models({})
    assert not PackedTransformer.can_take(model)
    assert not PackedTransformer.can_take(fast.encoder[0])
