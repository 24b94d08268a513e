"""Patterns: what is linked, block by block as all at once, and at a cost that is linear."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from calque.config import CalqueError
from calque.models.build import ModelConfig, build
from calque.models.parts.linformer import LinformerAttention
from calque.models.parts.patterns import CausalAttention
from calque.models.parts.sparse_attention import Links, SparseAttention
from calque.models.transformer import Attention, TransformerConfig

CONFIG = TransformerConfig(d_model=8, num_heads=2, source_vocab_size=9, target_vocab_size=9)
LINKS = {
    "local": Links(block=4, window=4, begin=0, random=0),
    "global": Links(block=4, window=0, begin=6, random=0),
    "random": Links(block=4, window=0, begin=0, random=2),
    "bigbird": Links(block=4, window=4, begin=3, random=2),
    "narrow": Links(block=4, window=1, begin=1, random=1),
    "wide": Links(block=4, window=10, begin=0, random=1),
}


def heads(length: int, batch: int = 3) -> list[Tensor]:
    torch.manual_seed(length)
    return [torch.randn(batch, 2, length, 4, requires_grad=True) for _ in range(3)]


def present(length: int) -> Tensor:
    """Rows of full length, of one token, and in between."""
    lengths = torch.tensor([length, 1, max(1, 2 * length // 3)])
    return (torch.arange(length) < lengths[:, None])[:, None, None]


@pytest.mark.parametrize("length", [1, 4, 5, 17, 40, 61])
@pytest.mark.parametrize("name", LINKS)
def test_block_by_block_equals_all_at_once(name: str, length: int) -> None:
    attention = SparseAttention(CONFIG, Attention, LINKS[name])
    mask, parts = present(length), heads(length)
    quick, plain = (way(*parts, mask) for way in (attention.by_blocks, attention.dense))
    real = mask[:, 0, 0, :, None].expand(-1, -1, 4)[:, None].expand(-1, 2, -1, -1)
    assert_close(quick[real], plain[real], rtol=0, atol=1e-5)
    weights = torch.randn(quick.shape)
    gradients = [
        torch.autograd.grad((found * weights)[real].sum(), parts, retain_graph=True)
        for found in (quick, plain)
    ]
    assert_close(*gradients, rtol=0, atol=1e-5)


def linked(name: str, length: int) -> Tensor:
    """Which keys reach which queries: [query, key], by the gradient of one row."""
    attention = SparseAttention(CONFIG, Attention, LINKS[name])
    query, key, value = heads(length, batch=1)
    mask = torch.ones(1, 1, 1, length, dtype=torch.bool)
    found = attention.by_blocks(query, key, value, mask).sum(dim=(0, 1, 3))
    rows = [torch.autograd.grad(one, value, retain_graph=True)[0] for one in found]
    return torch.stack([row.abs().sum(dim=(0, 1, 3)) > 0 for row in rows])


def test_windows_tokens_that_all_see_and_random_blocks_are_linked() -> None:
    position = torch.arange(64)
    distance = (position[:, None] - position).abs()
    assert torch.equal(linked("local", 64), distance <= 4)
    begin = (position < 6)[:, None] | (position < 6)
    assert torch.equal(linked("global", 64), begin | (distance == 0))
    by_block = linked("random", 64).unflatten(0, (16, 4)).unflatten(2, (16, 4))
    others = by_block[:, 0].all(dim=-1) & ~torch.eye(16, dtype=torch.bool)
    assert (others.sum(dim=1) <= 2).all()
    assert others.sum() > 16  # hardly any block draws only itself or one block twice
    union = linked("bigbird", 64)
    assert (union >= (distance <= 4)).all()
    assert (union[:, :3]).all()
    assert (union[:3]).all()
    assert union.float().mean() < 0.5


@pytest.mark.parametrize("name", LINKS)
def test_padding_changes_no_link(name: str) -> None:
    attention = SparseAttention(CONFIG, Attention, LINKS[name])
    query, key, value = heads(23, batch=1)
    mask = torch.ones(1, 1, 1, 23, dtype=torch.bool)
    alone = attention.by_blocks(query, key, value, mask)
    wider = [torch.cat([x, torch.randn(1, 2, 40, 4)], dim=2) for x in (query, key, value)]
    padded = torch.cat([mask, mask.new_zeros(1, 1, 1, 40)], dim=3)
    for way in (attention.by_blocks, attention.dense):
        assert_close(way(*wider, padded)[:, :, :23], alone, rtol=0, atol=1e-5)


def test_a_causal_pattern_hides_what_comes_after() -> None:
    attention = CausalAttention(CONFIG, Attention)
    query, key, value = heads(9)
    found = attention(query, key, value, present(9))
    later = value.detach().clone()
    later[:, :, 5:] += 1
    assert_close(attention(query, key, later, present(9))[:, :, :5], found[:, :, :5])


def test_linformer_is_attention_to_mixtures() -> None:
    attention = LinformerAttention(CONFIG, Attention, projected=5, longest=30)
    query, key, value = heads(17)
    mask = present(17)
    zeroed = [x * mask.transpose(-2, -1) for x in (key, value)]
    mixed = [attention.mix[:, :17] @ x for x in zeroed]
    expected = (query @ mixed[0].transpose(-2, -1) / 2).softmax(dim=-1) @ mixed[1]
    assert_close(attention(query, key, value, mask), expected)
    with pytest.raises(CalqueError, match=r"31 tokens.*model\.longest = 30"):
        attention(*heads(31), present(31))


COSTS = {"full": 4, "local": 2, "global": 2, "random": 2, "bigbird": 2, "linformer": 2}


@pytest.mark.parametrize("pattern", COSTS)
def test_twice_the_length_costs_as_promised(pattern: str) -> None:
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "num_heads": 2}
    config = ModelConfig(**sizes, d_ff=1, pattern=pattern, window=16, longest=8192)
    model = build(config, 9, 9).encoder[0].self_attention
    mask = torch.ones(1, 1, 1, 8192, dtype=torch.bool)

    def cost(length: int) -> int:
        x = torch.randn(1, length, 16)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            keys_values = model.keys_values(x)
            heads = model.attention(keys_values[0], *keys_values, mask[..., :length])
        linear = 2 * 2 * length * 16 * 16
        assert heads.isfinite().all()
        return counter.get_total_flops() - linear

    # Blocks are whole, so a little more or less than twice.
    assert cost(4096) / cost(2048) == pytest.approx(COSTS[pattern], rel=0.1)
