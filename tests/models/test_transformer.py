"""What holds of every model, whatever its parts: each test runs over all names in build.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from calque.checkpoint import load_weights, save_tensors
from calque.inspection.attention import captured
from calque.models.build import ATTENTIONS, SLOTS, ModelConfig, build
from calque.models.interface import Memory, Past, Seq2Seq
from calque.models.parts.embeddings import EMBEDDINGS
from calque.models.parts.positions import NoPositions
from calque.models.transformer import (
    DecoderLayer,
    MultiHeadAttention,
    Parts,
    Transformer,
    TransformerConfig,
)

FIRST_WORD, LAST_WORD, SOURCE_WORDS, MORE_TARGET_WORDS = 4, 21, 23, 6
SIZES: dict[str, Any] = {
    "num_encoder_layers": 2,
    "num_decoder_layers": 3,
    "d_model": 16,
    "d_ff": 24,
}

Variant = dict[str, Any]
CHOICES = {"vocabulary": EMBEDDINGS, "attention": ATTENTIONS, **SLOTS}
IN_RECIPE = tuple(SLOTS)
PAPER = {"vocabulary": "joint", "attention": "plain"}
PAPER |= {name: getattr(ModelConfig(), name) for name in IN_RECIPE}
MARIAN = {
    "positions": "half_split",
    "heads": "biased",
    "feed_forward": "swish",
    "output": "biased",
    "attention": "fused",
    "pad_id": SOURCE_WORDS - 1,
    "bos_id": SOURCE_WORDS - 1,
    "eos_id": 0,
}
VARIANTS: list[Variant] = [
    {},
    *({slot: name} for slot, names in CHOICES.items() for name in names if name != PAPER[slot]),
    {"positions": "relative", "residual": "pre", "vocabulary": "separate", "attention": "fused"},
    MARIAN,
]
"""What each has in the place of the paper's parts."""


def told(variant: Variant) -> str:
    return "-".join(map(str, variant.values())) or "paper"


def make(variant: Variant, dropout: float = 0.3, seed: int = 1) -> Transformer:
    """A model whose parameters are all as if trained: no bias is 0, no norm's gain is 1."""
    chosen = {**PAPER, **variant}
    names = {name: chosen.pop(name) for name in IN_RECIPE}
    config = ModelConfig(dropout=dropout, num_heads=4, **SIZES, **names)
    target_words = SOURCE_WORDS + MORE_TARGET_WORDS * (chosen["vocabulary"] == "separate")
    torch.manual_seed(seed)
    model = build(config, SOURCE_WORDS, target_words, **chosen)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if variant.get("residual") == "none" and parameter.ndim == 2:
                parameter.mul_(3)  # words get through sharp attention only: there is no way around
    return model.eval()


@pytest.fixture(params=VARIANTS, ids=told)
def variant(request: pytest.FixtureRequest) -> Variant:
    return request.param


@pytest.fixture
def model(variant: Variant) -> Transformer:
    return make(variant)


@pytest.fixture
def pad(variant: Variant) -> int:
    return variant.get("pad_id", 0)


@pytest.fixture
def bos(variant: Variant) -> int:
    return variant.get("bos_id", 2)


@pytest.fixture
def source(pad: int, variant: Variant) -> Tensor:
    """Three sources of 7, 4 and 1 tokens, padded."""
    ids = words((3, 7))
    # Looking at one token alone, all see the same: without a residual nothing else gets through.
    least = 3 if variant.get("residual") == "none" else 1
    ids[1, 4:], ids[2, least:] = pad, pad
    return ids


@pytest.fixture
def target(bos: int) -> Tensor:
    return torch.cat([torch.full((3, 1), bos), words((3, 5), seed=1)], dim=1)


def words(shape: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(FIRST_WORD, LAST_WORD + 1, shape, generator=generator)


def other(ids: Tensor) -> Tensor:
    """At each place some other word."""
    return FIRST_WORD + (ids - FIRST_WORD + 1) % (LAST_WORD + 1 - FIRST_WORD)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    missing = [name for name, gradient in found.items() if gradient is None]
    assert not missing
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def scale(numbers: Tensor) -> float:
    return max(1.0, float(numbers.detach().abs().max()))


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal but for rounding, which grows with the numbers: not every norm keeps them small."""
    assert_close(found, expected, rtol=0, atol=1e-5 * scale(expected))


def randomly_weighted(logits: Tensor) -> Tensor:
    """A number that depends on every logit, and on each in another way."""
    generator = torch.Generator().manual_seed(2)
    return (logits * torch.randn(logits.shape, generator=generator)).sum()


# What is seen and what is not


def test_the_future_is_unseen(
    model: Transformer, variant: Variant, source: Tensor, target: Tensor
) -> None:
    logits = model(source, target)
    # Without a residual, sharp attention may see the same in two words.
    always = "all" if variant.get("residual") == "none" else "any"
    for i in range(1, target.size(1)):
        changed = target.clone()
        changed[:, i:] = other(target[:, i:])
        after = model(source, changed)
        assert_close(after[:, :i], logits[:, :i], rtol=0, atol=1e-6)
        same = torch.isclose(after[:, i:], logits[:, i:], atol=1e-4).all(dim=-1)
        assert not getattr(same, always)()


def test_all_of_the_past_is_seen(model: Transformer, source: Tensor, target: Tensor) -> None:
    for i in range(target.size(1)):
        changed = target.clone()
        changed[:, i] = other(target[:, i])
        difference = model(source, changed)[:, -1] - model(source, target)[:, -1]
        assert (difference.abs().amax(dim=-1) > 1e-4).all()


def test_all_of_the_source_is_seen(
    model: Transformer, source: Tensor, target: Tensor, pad: int
) -> None:
    logits = model(source, target)
    for j in range(source.size(1)):
        changed = torch.where(source == pad, source, other(source))
        changed = torch.where(torch.arange(source.size(1)) == j, changed, source)
        after = model(changed, target)
        there = source[:, j] != pad
        assert ((after - logits)[there].abs().amax(dim=-1) > 1e-4).all()
        assert_close(after[~there], logits[~there])


def test_source_padding_changes_nothing(
    model: Transformer, source: Tensor, target: Tensor, pad: int
) -> None:
    logits = model(source, target)
    wider = nn.functional.pad(source, (0, 5), value=pad)
    assert_same(model(wider, target), logits)
    for row, length in enumerate((source != pad).sum(dim=1)):
        alone = model(source[row : row + 1, :length], target[row : row + 1])
        assert_same(alone[0], logits[row])


def test_the_order_of_words_matters(
    model: Transformer, variant: Variant, target: Tensor, bos: int
) -> None:
    source = words((3, 7))
    logits = model(source, target)
    if variant.get("positions") == "none":  # it does not see the order
        assert_same(model(source.flip(1), target), logits)
        return
    assert not torch.isclose(model(source.flip(1), target), logits, atol=1e-3).any(dim=-1).all()
    later = [bos, 7, 7, 7]  # one word again and again: only its position differs
    repeated = model(source[:1], torch.tensor([later]))[0]
    assert not torch.isclose(repeated[2], repeated[3], atol=1e-3).all()


# Decoding


def test_a_family_is_what_search_asks_for(model: Transformer, source: Tensor) -> None:
    memory = model.encode(source)
    assert isinstance(model, Seq2Seq)
    assert isinstance(memory, Memory)
    assert isinstance(model.start(memory), Past)


@pytest.mark.parametrize("steps", [[1] * 6, [6], [2, 1, 3]], ids=str)
def test_step_by_step_equals_all_at_once(
    model: Transformer, source: Tensor, target: Tensor, steps: list[int]
) -> None:
    memory = model.encode(source)
    past = model.start(memory)
    logits = [model.decode(new, memory, past) for new in target.split(steps, dim=1)]
    assert_same(torch.cat(logits, dim=1), model(source, target))


def test_a_past_belongs_to_one_decoding(model: Transformer, source: Tensor, target: Tensor) -> None:
    memory = model.encode(source)
    first = model.decode(target, memory, model.start(memory))
    assert torch.equal(model.decode(target, memory, model.start(memory)), first)


def test_hypotheses_share_memory_and_rows_move(
    model: Transformer, source: Tensor, bos: int
) -> None:
    k = 4
    tokens = words((3 * k, 4))  # of each row: what it goes on with
    memory = model.encode(source)
    past = model.start(memory)
    model.decode(torch.full((3, 1), bos), memory, past)
    past.select(torch.arange(3).repeat_interleave(k))  # rows i*k to i*k+k-1 belong to source i
    model.decode(tokens[:, :1], memory, past)
    # Source 1 is done; of the others, a hypothesis may go on twice and another not at all.
    memory = memory.select(torch.tensor([2, 0]))
    rows = torch.tensor([11, 8, 8, 10, 2, 0, 0, 1])
    past.select(rows)
    model.decode(tokens[:8, 1:2], memory, past)
    logits = model.decode(tokens[:8, 2:4], memory, past)

    begin = torch.full((8, 1), bos)
    whole = torch.cat([begin, tokens[rows, :1], tokens[:8, 1:4]], dim=1)
    of_row = source[[2] * k + [0] * k]
    assert_same(logits, model(of_row, whole)[:, -2:])


# Training


def test_every_parameter_gets_a_gradient(
    model: Transformer, source: Tensor, target: Tensor
) -> None:
    randomly_weighted(model(source, target)).backward()
    largest = {name: float(gradient.abs().max()) for name, gradient in gradients(model).items()}
    # What is added to all keys alike changes no softmax.
    free = {name for name in largest if name.endswith("key.bias")}
    assert {name for name, size in largest.items() if size < 1e-3} == free


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
def test_rows_that_are_all_padding_never_make_nan(
    model: Transformer, source: Tensor, target: Tensor, pad: int, bf16: bool
) -> None:
    source = torch.cat([source, torch.full((1, 7), pad)])
    target = torch.cat([target, torch.full((1, 6), pad)])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(source, target)
        loss = randomly_weighted(logits)
    loss.backward()
    assert logits.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_it_learns_a_batch(variant: Variant, source: Tensor, target: Tensor) -> None:
    model = make(variant, dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        logits = model(source, target[:, :-1])
        losses.append(F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1].item() < 0.6 * losses[0].item()


def test_dropout_is_drawn_from_the_seed_and_only_in_training(
    model: Transformer, source: Tensor, target: Tensor
) -> None:
    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(source, target)

    assert torch.equal(run(1), run(2))
    model.train()
    assert torch.equal(run(1), run(1))
    assert not torch.isclose(run(1), run(2)).all(dim=-1).any()


# Weights


def test_save_and_load_change_nothing(
    model: Transformer, variant: Variant, source: Tensor, target: Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    save_tensors(file, model.state_dict())
    again = make(variant, seed=2)
    assert not torch.allclose(again(source, target), model(source, target))
    load_weights(again, file)
    assert torch.equal(again(source, target), model(source, target))


@pytest.mark.parametrize("attention", [name for name in ATTENTIONS if name != "plain"])
def test_every_attention_has_the_plain_ones_result(
    variant: Variant, attention: str, source: Tensor, target: Tensor
) -> None:
    model = make({**variant, "attention": attention})
    plain = make({**variant, "attention": "plain"}, seed=2)
    plain.load_state_dict(model.state_dict())
    logits, expected = model(source, target), plain(source, target)
    assert_same(logits, expected)
    randomly_weighted(logits).backward()
    randomly_weighted(expected).backward()
    for name, gradient in gradients(plain).items():
        found = gradients(model)[name]
        assert_close(found, gradient, rtol=0, atol=1e-3 * scale(gradient), msg=name)


def test_what_is_captured_is_attention(
    variant: Variant, source: Tensor, target: Tensor, pad: int
) -> None:
    model = make({**variant, "attention": "plain"})
    with captured(model) as weights:
        model(source, target)
    assert len(weights) == 2 + 2 * 3
    for name, (tensor,) in weights.items():
        assert_close(tensor.sum(dim=-1), torch.ones(tensor.shape[:-1]))
        if name.startswith("encoder") and variant.get("pattern", "full") != "full":
            continue  # what more it hides is a matter of its own
        hidden = (source == pad)[:, None, None, :]
        if name.startswith("decoder") and name.endswith("self_attention"):
            hidden = torch.ones(6, 6, dtype=torch.bool).triu(1)
        hidden = hidden.expand_as(tensor)
        assert (tensor[hidden] == 0).all()
        # Numbers that no norm keeps small make softmax hard.
        hard = variant.get("norm") in ("batch", "padded_batch", "none")
        assert hard or variant.get("residual") == "none" or (tensor[~hidden] > 0).all()


def test_every_tensor_is_made_on_the_models_device(model: Transformer) -> None:
    model = model.to("meta")
    ids = torch.zeros(2, 5, dtype=torch.long, device="meta")
    memory = model.encode(ids)
    past = model.start(memory)
    assert model.decode(ids, memory, past).device.type == "meta"
    assert model.decode(ids[:, :1], memory, past).device.type == "meta"


# A peer: PyTorch's own layers with the same weights


def as_torch_attention(ours: MultiHeadAttention, peer: nn.MultiheadAttention) -> None:
    assert peer.in_proj_weight is not None
    peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
    peer.out_proj.weight.copy_(ours.output.weight)
    nn.init.zeros_(peer.in_proj_bias)
    nn.init.zeros_(peer.out_proj.bias)
    if ours.bias:
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        peer.out_proj.bias.copy_(ours.output.bias)


ACTIVATIONS = {"relu": F.relu, "swish": F.silu, "gelu": F.gelu}


@torch.no_grad()
def as_torch(layer: Any, variant: Variant) -> nn.Module:
    """One of our layers as PyTorch's."""
    is_decoder = isinstance(layer, DecoderLayer)
    kind = nn.TransformerDecoderLayer if is_decoder else nn.TransformerEncoderLayer
    activation = ACTIVATIONS[variant.get("feed_forward", "relu")]
    norm_first = variant.get("residual") == "pre"
    peer = kind(16, 4, 24, activation=activation, batch_first=True, norm_first=norm_first).eval()
    as_torch_attention(layer.self_attention, peer.self_attn)
    if isinstance(peer, nn.TransformerDecoderLayer):
        as_torch_attention(layer.cross_attention, peer.multihead_attn)
    peer.linear1.load_state_dict(layer.feed_forward[0].state_dict())
    peer.linear2.load_state_dict(layer.feed_forward[2].state_dict())
    for number, residual in enumerate(layer.residuals, start=1):
        getattr(peer, f"norm{number}").load_state_dict(residual.norm.state_dict())
    return peer


NOT_IN_PYTORCH = {
    "positions": {"relative", "structural_relative", "rotary", "alibi"},
    "score": set(SLOTS["score"]) - {"scaled_dot"},
    "pattern": set(SLOTS["pattern"]) - {"full"},
    "heads": {"shared_query_key"},
    "feed_forward": {"swiglu", "none"},
    "norm": set(SLOTS["norm"]) - {"layer"},
    "residual": {"none"},
}
IN_PYTORCH = [
    variant
    for variant in VARIANTS
    if not any(variant.get(slot) in names for slot, names in NOT_IN_PYTORCH.items())
]


@pytest.mark.parametrize("variant", IN_PYTORCH, ids=told)
def test_logits_are_those_of_pytorchs_layers(
    model: Transformer, variant: Variant, source: Tensor, target: Tensor, pad: int
) -> None:
    padding, future = source == pad, torch.ones(6, 6, dtype=torch.bool).triu(1)
    x = model.embedding.source(source) + model.positions.source(source)
    for layer in model.encoder:
        x = as_torch(layer, variant)(x, src_key_padding_mask=padding)
    memory = model.encoder_norm(x)
    y = model.embedding.target(target) + model.positions.target(target, 0)
    for layer in model.decoder:
        peer = as_torch(layer, variant)
        y = peer(y, memory, tgt_mask=future, memory_key_padding_mask=padding)
    weight, bias = model.output_weights
    expected = F.linear(model.decoder_norm(y), weight, bias)
    assert (bias is not None) == (variant.get("output") == "biased")
    assert_close(model(source, target), expected, rtol=0, atol=2e-5)


# Parts


def test_a_shared_embedding_refuses_two_vocabularies() -> None:
    with pytest.raises(ValueError, match="one vocabulary"):
        Transformer(TransformerConfig(source_vocab_size=8, target_vocab_size=9))


def test_a_part_takes_the_place_of_the_papers() -> None:
    source, target = words((1, 7)), words((1, 5), seed=1)
    vocabularies = {"source_vocab_size": SOURCE_WORDS, "target_vocab_size": SOURCE_WORDS}
    config = TransformerConfig(num_heads=4, **SIZES, **vocabularies)
    model = Transformer(config, Parts(positions=NoPositions)).eval()
    assert_close(model(source.flip(1), target), model(source, target))
