"""Each part by itself: against its formula, against PyTorch's own, and against chance."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from calque.config import CalqueError
from calque.models.build import ATTENTIONS, ModelConfig, build
from calque.models.fast_training import FastDropout, use_fast_layers
from calque.models.parts.embeddings import EMBEDDINGS
from calque.models.parts.feed_forwards import FEED_FORWARDS
from calque.models.parts.heads import HEADS
from calque.models.parts.outputs import OUTPUTS
from calque.models.parts.positions import (
    LEARNED,
    POSITIONS,
    HalfSplitPositions,
    LearnedPositions,
)
from calque.models.parts.relative_attention import CLIP, RelativeAttention
from calque.models.parts.residuals import RESIDUALS
from calque.models.transformer import (
    LayerNorm,
    MultiHeadAttention,
    SinusoidalPositions,
    TransformerConfig,
)

CONFIG = TransformerConfig(
    d_model=16, d_ff=24, num_heads=4, dropout=0.0, source_vocab_size=9, target_vocab_size=9
)


# Positions


@pytest.mark.parametrize("pos", [0, 1, 2, 17, 255, 1000])
@pytest.mark.parametrize("i", [0, 1, 3, 7])
def test_sinusoids_are_those_of_section_3_5(pos: int, i: int) -> None:
    positions = SinusoidalPositions(CONFIG)(pos + 1)
    angle = pos / 10000 ** (2 * i / CONFIG.d_model)
    assert positions[pos, 2 * i] == pytest.approx(math.sin(angle), abs=1e-4)
    assert positions[pos, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-4)


@pytest.mark.parametrize("name", POSITIONS)
@given(start=st.integers(0, 300), length=st.integers(0, 20))
def test_positions_may_start_anywhere(name: str, start: int, length: int) -> None:
    torch.manual_seed(3)
    positions = POSITIONS[name].added(CONFIG)
    assert torch.equal(positions(length, start=start), positions(start + length)[start:])


@pytest.mark.parametrize("pos", [0, 1, 2, 17, 1000])
@pytest.mark.parametrize("i", [0, 1, 3, 7])
def test_in_halves_all_sines_come_before_all_cosines(pos: int, i: int) -> None:
    positions = HalfSplitPositions(CONFIG)(pos + 1)
    angle = pos / 10000 ** (2 * i / CONFIG.d_model)
    assert positions[pos, i] == pytest.approx(math.sin(angle), abs=1e-4)
    assert positions[pos, 8 + i] == pytest.approx(math.cos(angle), abs=1e-4)


def test_learned_positions_are_a_table_with_an_end() -> None:
    positions = LearnedPositions(CONFIG)
    assert torch.equal(positions(LEARNED), positions.table.weight)
    assert torch.equal(positions(1, start=LEARNED - 1)[0], positions.table.weight[-1])
    for length, start in ((LEARNED + 1, 0), (1, LEARNED), (4, LEARNED - 3)):
        message = f"{start + length:,} tokens.* {LEARNED:,} positions"
        with pytest.raises(CalqueError, match=message):
            positions(length, start=start)


@pytest.mark.parametrize("k", [1, 2, 7, 50])
def test_a_shift_of_sinusoids_is_a_rotation(k: int) -> None:
    positions = SinusoidalPositions(CONFIG)
    sine, cosine = positions(50).unflatten(1, (-1, 2)).unbind(-1)
    angle = k * positions.frequency
    turned = torch.stack(
        [sine * angle.cos() + cosine * angle.sin(), cosine * angle.cos() - sine * angle.sin()], -1
    )
    assert_close(turned.flatten(1), positions(50, start=k), rtol=0, atol=5e-5)


# Attention


EVERY_ATTENTION = {**ATTENTIONS, "relative": RelativeAttention}


def attention(name: str, heads: str = "multi") -> MultiHeadAttention:
    torch.manual_seed(3)
    made = HEADS[heads](CONFIG, EVERY_ATTENTION[name])
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases too
    return made


@pytest.fixture
def mask() -> Tensor:
    """Each query may attend to some keys, and to at least one."""
    generator = torch.Generator().manual_seed(4)
    allowed = torch.rand(2, 1, 5, 7, generator=generator) < 0.5
    allowed[..., 2] = True
    return allowed


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("heads", ["multi", "biased"])
def test_attention_is_that_of_pytorch(name: str, heads: str, mask: Tensor) -> None:
    ours = attention(name, heads)
    inputs = ours.query, ours.key, ours.value
    peer = nn.MultiheadAttention(16, 4, bias=heads == "biased", batch_first=True)
    assert peer.in_proj_weight is not None
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([linear.weight for linear in inputs]))
        peer.out_proj.weight.copy_(ours.output.weight)
        if peer.in_proj_bias is not None:
            peer.in_proj_bias.copy_(torch.cat([linear.bias for linear in inputs]))
            peer.out_proj.bias.copy_(ours.output.bias)
    query, key = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    per_head = ~mask.expand(-1, 4, -1, -1).flatten(0, 1)
    expected, _ = peer(query, key, key, attn_mask=per_head, need_weights=False)
    assert_close(ours(query, ours.keys_values(key), mask), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("queries", [1, 3, 40], ids=lambda n: f"last-{n}")
def test_relative_attention_is_equations_3_and_4_of_its_paper(queries: int) -> None:
    torch.manual_seed(3)
    ours, heads, width, keys = RelativeAttention(CONFIG), 4, 4, 40  # beyond the clipping distance
    query = torch.randn(2, heads, queries, width)
    key, value = torch.randn(2, 2, heads, keys, width)
    mask = (torch.rand(2, 1, queries, keys) < 0.7).index_fill_(3, torch.tensor(0), True)
    expected = torch.zeros_like(query)
    for row, head, i in torch.cartesian_prod(*map(torch.arange, (2, heads, queries))).tolist():
        place = keys - queries + i  # the queries are the last positions
        clipped = [min(max(j - place, -CLIP), CLIP) + CLIP for j in range(keys)]
        to_key, to_value = ours.relative_key.weight[clipped], ours.relative_value.weight[clipped]
        allowed = [j for j in range(keys) if mask[row, 0, i, j]]
        scores = [  # eq. 4
            query[row, head, i] @ (key[row, head, j] + to_key[j]) / math.sqrt(width)
            for j in allowed
        ]
        for j, weight in zip(allowed, torch.stack(scores).softmax(dim=0), strict=True):  # eq. 3
            expected[row, head, i] += (weight * (value[row, head, j] + to_value[j])).detach()
    assert_close(ours(query, key, value, mask), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EVERY_ATTENTION)
def test_what_is_masked_has_no_influence(name: str, mask: Tensor) -> None:
    ours = attention(name)
    query, key = torch.randn(2, 5, 16), torch.randn(2, 7, 16, requires_grad=True)
    ours(query, ours.keys_values(key), mask)[:, 0].sum().backward()
    assert key.grad is not None
    assert torch.equal(key.grad.ne(0).any(dim=-1), mask[:, 0, 0])


@pytest.mark.parametrize("name", EVERY_ATTENTION)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_query_with_nothing_to_attend_to_is_not_nan(name: str, dtype: torch.dtype) -> None:
    ours = attention(name).to(dtype)
    x = torch.randn(2, 5, 16, dtype=dtype, requires_grad=True)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[0], mask[1, :, 3] = False, False
    y = ours(x, ours.keys_values(x), mask)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# Feed-forward layers and outputs


FORMULAS = {
    "relu": lambda x: max(0.0, x),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
}


def test_swiglu_is_its_formula() -> None:
    layer = FEED_FORWARDS["swiglu"](CONFIG)
    x = 3 * torch.randn(4, 6, 16)
    gate, widened = layer.gate(x), layer.widen(x)
    assert_close(layer(x), layer.narrow(gate * gate.sigmoid() * widened), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in layer.parameters()) == 3 * 16 * 24


def test_no_feed_forward_changes_nothing() -> None:
    x = torch.randn(4, 6, 16)
    assert torch.equal(FEED_FORWARDS["none"](CONFIG)(x), x)


@pytest.mark.parametrize("name", FORMULAS)
def test_feed_forward_is_two_linear_maps_around_its_formula(name: str) -> None:
    layer = FEED_FORWARDS[name](CONFIG)
    x = 3 * torch.randn(4, 6, 16)
    inside = layer[0](x).flatten().tolist()
    bent = torch.tensor([FORMULAS[name](number) for number in inside]).view(4, 6, 24)
    assert_close(layer(x), layer[2](bent), rtol=0, atol=1e-5)
    assert [tuple(p.shape) for p in layer.parameters()] == [(24, 16), (24,), (16, 24), (16,)]


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_a_product_with_the_embedding_and_perhaps_a_bias(name: str) -> None:
    output, features, weight = OUTPUTS[name](CONFIG), torch.randn(4, 6, 16), torch.randn(9, 16)
    assert torch.equal(output(features, weight), features @ weight.T)  # as it begins
    assert (output.bias is not None) == (name == "biased")
    if output.bias is not None:
        nn.init.normal_(output.bias)
        assert_close(output(features, weight), features @ weight.T + output.bias)


# Residuals and embeddings


@pytest.mark.parametrize("name", RESIDUALS)
def test_a_stack_of_residuals_ends_in_a_norm(name: str) -> None:
    residual = RESIDUALS[name](CONFIG, LayerNorm)
    stack_end = RESIDUALS[name].final_norm(CONFIG, LayerNorm)
    x = 5 + 3 * torch.randn(4, 6, 16)
    y = stack_end(residual(x, lambda x: 7 * x))
    assert_close(y.mean(dim=-1), torch.zeros(4, 6), rtol=0, atol=1e-5)
    assert_close(y.var(dim=-1, correction=0), torch.ones(4, 6), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["post", "pre"])
def test_a_residual_drops_only_what_the_sublayer_adds(name: str) -> None:
    torch.manual_seed(5)
    residual = RESIDUALS[name](CONFIG, LayerNorm)
    residual.dropout.p = 0.5
    x = torch.randn(4, 6, 16)
    nothing = residual.eval()(x, torch.zeros_like)
    assert torch.equal(residual.train()(x, torch.zeros_like), nothing)
    assert not torch.allclose(residual(x, torch.ones_like), residual.eval()(x, torch.ones_like))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings_are_scaled_and_the_target_predicts_the_output(name: str) -> None:
    embedding = EMBEDDINGS[name](CONFIG)
    ids = torch.arange(CONFIG.target_vocab_size)
    assert_close(embedding.target(ids[None])[0], embedding.output_weight * math.sqrt(16))
    assert embedding.source(ids[None]).shape == (1, 9, 16)


def test_a_joint_vocabulary_is_one_matrix_and_a_separate_one_is_two() -> None:
    ids = torch.arange(9)[None]
    shared, separate = EMBEDDINGS["joint"](CONFIG), EMBEDDINGS["separate"](CONFIG)
    assert torch.equal(shared.source(ids), shared.target(ids))
    assert not torch.isclose(separate.source(ids), separate.target(ids)).any(dim=-1).all()


# Dropout by random bits


NUMBERS = 200_003  # not a multiple of those that are drawn at once
PROBABILITIES = pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])


def dropped(dropout: nn.Dropout, x: Tensor, seed: int = 6) -> Tensor:
    torch.manual_seed(seed)
    return dropout(x)


@PROBABILITIES
@pytest.mark.parametrize("kind", [FastDropout, nn.Dropout])
def test_dropouts_statistics(kind: type[nn.Dropout], p: float) -> None:
    y = dropped(kind(p), torch.ones(NUMBERS))
    kept = y != 0
    spread = math.sqrt(p * (1 - p))
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=5 * spread / math.sqrt(NUMBERS))
    assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)), rtol=1e-4, atol=0)
    # Neighbours are dropped independently, and so are those that are drawn at once.
    apart = (kept.float() - (1 - p)) / spread
    for distance in (1, 2, 16, 32, 64, 128):
        correlation = (apart[distance:] * apart[:-distance]).mean().item()
        assert abs(correlation) < 5 / math.sqrt(NUMBERS)


def test_nothing_is_dropped_in_evaluation_or_at_p_0() -> None:
    x = torch.randn(5, 7)
    assert FastDropout(0.5).eval()(x) is x
    assert FastDropout(0.0)(x) is x


@PROBABILITIES
def test_gradients_are_dropped_where_values_are(p: float) -> None:
    x = torch.ones(31, 7, requires_grad=True)
    y = dropped(FastDropout(p), x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert y.eq(0).any()


@settings(deadline=None)
@given(shape=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_dropout_is_a_function_of_the_seed(shape: list[int]) -> None:
    x = torch.ones(*shape)
    dropout = FastDropout(0.5)
    assert dropped(dropout, x).shape == x.shape
    assert torch.equal(dropped(dropout, x), dropped(dropout, x))


def test_no_two_draws_are_alike() -> None:
    x, dropout = torch.ones(1000), FastDropout(0.5)
    draws = [dropped(dropout, x), dropout(x), dropped(dropout, x, seed=7)]
    assert len({tuple(draw.tolist()) for draw in draws}) == 3


def test_dropout_keeps_the_dtype_and_reads_any_layout() -> None:
    x = torch.arange(1.0, 36).view(5, 7).to(torch.bfloat16).T
    y = dropped(FastDropout(0.5), x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y[y != 0], 2 * x[y != 0])


@pytest.mark.parametrize("training", [True, False])
def test_fast_dropout_takes_the_place_of_every_dropout(training: bool) -> None:
    model = build(ModelConfig(dropout=0.25, d_model=16, d_ff=24), 9, 9).train(training)
    names = [name for name, module in model.named_modules() if type(module) is nn.Dropout]
    weights = list(model.state_dict())
    use_fast_layers(model)
    replaced = {
        name: module for name, module in model.named_modules() if isinstance(module, FastDropout)
    }
    assert list(replaced) == names
    assert len(names) > 30
    assert not any(type(module) is nn.Dropout for module in model.modules())
    found = {(module.p, module.training) for module in replaced.values()}
    assert found == {(0.25, training), (0.0, training)}
    assert list(model.state_dict()) == weights


def test_fast_layers_change_no_model_that_does_not_train() -> None:
    model = build(ModelConfig(dropout=0.25, d_model=16, d_ff=24), 9, 9).eval()
    source, target = torch.tensor([[4, 5, 6, 3]]), torch.tensor([[2, 7, 8]])
    before = model(source, target)
    use_fast_layers(model)
    assert torch.equal(model(source, target), before)
    model.train()
    assert not torch.equal(model(source, target), before)
