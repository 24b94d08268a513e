"""Captured attention is what the model attends with, and capturing changes nothing."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from calque.config import CalqueError
from calque.inspection.attention import by_heads, captured, kind_of, plain, scored
from calque.models.build import ATTENTIONS, FAMILIES, SLOTS
from calque.models.parts.fused_attention import FusedAttention
from calque.models.parts.patterns import PATTERNS
from calque.models.parts.positions import POSITIONS
from calque.models.parts.residuals import RESIDUALS
from calque.text.tokenizers.interface import PAD
from calque.text.tokenizers.pair import Tokenizers

HEADS, LAYERS = 4, 2
NAMES = [
    *(f"encoder.{layer}.self_attention" for layer in range(LAYERS)),
    *(
        f"decoder.{layer}.{kind}"
        for layer in range(LAYERS)
        for kind in ("self_attention", "cross_attention")
    ),
]
Make = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def tokenizers(train_tokenizers: Callable[..., Tokenizers]) -> Tokenizers:
    return train_tokenizers()


@pytest.fixture(params=RESIDUALS)
def model(tokenizers: Tokenizers, make_model: Make, request: pytest.FixtureRequest) -> nn.Module:
    return make_model(tokenizers, residual=request.param)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Sources of 6, 3 and 1 tokens, padded, and targets of 4."""
    source, target = torch.arange(4, 22).view(3, 6), torch.arange(22, 34).view(3, 4)
    source[1, 3:], source[2, 1:] = PAD, PAD
    return source, target


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_every_attention_is_captured(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    with captured(model) as weights:
        model(*batch)
    assert list(weights) == NAMES
    source, target = (ids.size(1) for ids in batch)
    for name, (tensor,) in weights.items():
        query = source if name.startswith("encoder") else target
        key = source if name.startswith("encoder") or name.endswith("cross_attention") else target
        assert tensor.shape == (3, HEADS, query, key)
        assert not tensor.requires_grad


def test_weights_sum_to_one_and_are_zero_where_masked(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with captured(model) as weights:
        model(*batch)
    padding = (batch[0] == PAD)[:, None, None, :]
    future = torch.ones(4, 4, dtype=torch.bool).triu(1)
    for name, (tensor,) in weights.items():
        in_decoder = name.startswith("decoder") and name.endswith("self_attention")
        hidden = (future if in_decoder else padding).expand_as(tensor)
        torch.testing.assert_close(tensor.sum(dim=-1), torch.ones(tensor.shape[:-1]))
        assert (tensor[hidden] == 0).all()
        assert (tensor[~hidden] > 0).all()


def test_weights_are_those_the_output_is_made_with(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    attention = model.get_submodule("encoder.0.self_attention")
    x = torch.randn(3, 6, 32)
    keys_values = attention.keys_values(x)
    mask = (batch[0] != PAD)[:, None, None, :]
    with captured(attention) as weights:
        y = attention(x, keys_values, mask)
    heads = (weights[""][0] @ keys_values[1]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.output(heads), y)


def test_scores_are_what_the_weights_are_made_of(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with captured(model) as weights, scored(model) as scores:
        model(*batch)
    for name in NAMES:
        torch.testing.assert_close(scores[name][0].softmax(dim=-1), weights[name][0])


def test_capture_changes_no_output_and_leaves_no_hook(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    before = model(*batch)
    with captured(model):
        during = model(*batch)
        assert hooks(model) == len(NAMES)
    assert torch.equal(during, before)
    assert torch.equal(model(*batch), before)
    assert hooks(model) == 0


def test_calls_are_kept_in_their_order(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    source, target = batch
    with captured(model) as weights:
        model(source, target)
        model(source[:1, :2], target[:1, :3])
    shapes = [tuple(call.shape) for call in weights["decoder.0.cross_attention"]]
    assert shapes == [(3, HEADS, 4, 6), (1, HEADS, 3, 2)]


def test_no_hook_is_left_by_an_error(model: nn.Module) -> None:
    with pytest.raises(KeyError), captured(model):
        raise KeyError
    assert hooks(model) == 0


def test_a_fused_model_is_refused(tokenizers: Tokenizers, make_model: Make) -> None:
    model = make_model(tokenizers, path="fused")
    with pytest.raises(CalqueError, match="plain path"), captured(model):
        pass


def test_one_fused_attention_is_enough_to_be_refused(model: nn.Module) -> None:
    layer = model.get_submodule("decoder.1.cross_attention")
    layer.attention = FusedAttention(model.config)
    with pytest.raises(CalqueError, match="plain path"), captured(model):
        pass
    assert hooks(model) == 0


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_whatever_the_positions_there_are_heads_by_tokens(
    tokenizers: Tokenizers,
    make_model: Make,
    batch: tuple[Tensor, Tensor],
    positions: str,
    attention: str,
) -> None:
    model = plain(make_model(tokenizers, path=attention, positions=positions))
    with captured(model) as weights:
        model(*batch)
    assert list(weights) == NAMES
    assert weights["encoder.0.self_attention"][0].shape == (3, HEADS, 6, 6)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_plain_copy_gives_the_same_and_shares_the_weights(
    tokenizers: Tokenizers, make_model: Make, batch: tuple[Tensor, Tensor], attention: str
) -> None:
    model = make_model(tokenizers, path=attention)
    copy = plain(model)
    torch.testing.assert_close(copy(*batch), model(*batch))
    assert [id(p) for p in copy.parameters()] == [id(p) for p in model.parameters()]
    with captured(copy):
        model(*batch)
        assert hooks(model) == 0


@pytest.mark.parametrize("pattern", [name for name in PATTERNS if name != "linformer"])
def test_the_plain_copy_of_a_pattern_shows_all_pairs(
    tokenizers: Tokenizers, make_model: Make, pattern: str
) -> None:
    length = 40  # more than a pattern of such small blocks lays side by side
    model = make_model(tokenizers, pattern=pattern, window=2, global_tokens=2)
    source, target = torch.arange(4, 4 + length)[None], torch.arange(4, 8)[None]
    copy = plain(model)
    with captured(copy) as weights:
        logits = copy(source, target)
    assert weights["encoder.0.self_attention"][0].shape == (1, HEADS, length, length)
    torch.testing.assert_close(logits, model(source, target), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("slot", "name"), [(s, n) for s, names in SLOTS.items() for n in names])
def test_every_part_leaves_the_names_as_they_are(
    tokenizers: Tokenizers, make_model: Make, slot: str, name: str
) -> None:
    with captured(plain(make_model(tokenizers, **{slot: name}))) as weights:
        pass
    assert weights == {}  # nothing was called; but all softmaxes were found


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_attention_is_found_if_they_have_any(
    tokenizers: Tokenizers, make_model: Make, batch: tuple[Tensor, Tensor], family: str
) -> None:
    model = make_model(tokenizers, family=family)
    with captured(model) as weights:
        model(*batch)
    assert weights
    for name, calls in weights.items():
        heads = by_heads(calls)
        sums = heads.sum(dim=-1)
        torch.testing.assert_close(sums, torch.ones_like(sums)), name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sentence_of_a_batch_is_attended_to_as_by_itself(
    tokenizers: Tokenizers, make_model: Make, batch: tuple[Tensor, Tensor], family: str
) -> None:
    model, (source, target) = make_model(tokenizers, family=family), batch
    with captured(model) as together:
        model(source, target)
    with captured(model) as alone:
        model(source[1:2, :3], target[1:2])
    for name in filter(lambda name: kind_of(name) == "cross", alone):
        of_one = by_heads(together[name], 1)[:, :, :3]
        torch.testing.assert_close(of_one, by_heads(alone[name]))


def test_calls_by_query_and_without_heads_are_put_together() -> None:
    steps = torch.rand(5, 2, 7).softmax(dim=-1)  # of five queries, a batch of two
    expected = steps[:, 0][None]
    torch.testing.assert_close(by_heads(list(steps)), expected)
    torch.testing.assert_close(by_heads(list(steps[:, :, None])), expected)
    torch.testing.assert_close(by_heads(list(steps[:, :, None, None])), expected)
