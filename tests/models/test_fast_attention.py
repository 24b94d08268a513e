"""The fast attention of training: what the plain one gives, forwards and backwards."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from calque.models.build import ModelConfig, build
from calque.models.fast_attention import MULTIPLE, FastAttention
from calque.models.transformer import Attention, TransformerConfig

CONFIG = TransformerConfig(d_model=12, num_heads=2, source_vocab_size=9, target_vocab_size=9)
BATCH, HEADS, QUERIES, WIDTH = 3, 2, 4, 6


def inputs(dtype: torch.dtype, keys: int) -> list[torch.Tensor]:
    shapes = [(BATCH, HEADS, length, WIDTH) for length in (QUERIES, keys, keys)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def masks(keys: int) -> dict[str, torch.Tensor]:
    padding = torch.ones(BATCH, 1, 1, keys, dtype=torch.bool)
    padding[1, :, :, 2:] = False
    causal = torch.ones(1, 1, QUERIES, keys, dtype=torch.bool).tril()
    return {"padding": padding, "causal": causal, "both": padding & causal}


@pytest.mark.parametrize("keys", [5, MULTIPLE, MULTIPLE + 1])
@pytest.mark.parametrize("mask", masks(5))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_plain_one(mask: str, dtype: torch.dtype, keys: int) -> None:
    plain = Attention(CONFIG).train()
    fast, given = FastAttention(plain), inputs(dtype, keys)
    expected, found = plain(*given, masks(keys)[mask]), fast(*given, masks(keys)[mask])
    assert found.dtype == dtype
    weights = torch.randn(found.shape, dtype=dtype)
    gradients = [torch.autograd.grad((y * weights).sum(), given) for y in (expected, found)]
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.05}
    assert_close(found, expected, **tolerance)
    assert_close(gradients[1], gradients[0], **tolerance)


def test_with_nothing_to_attend_to_it_attends_to_all_alike() -> None:
    query, key, value = inputs(torch.float32, keys=5)
    mask = torch.zeros(BATCH, 1, 1, 5, dtype=torch.bool)
    found = FastAttention(Attention(CONFIG).train())(query, key, value, mask)
    assert_close(found, value.mean(dim=2, keepdim=True).expand_as(found))


def test_it_takes_the_place_of_the_papers_attention_alone() -> None:
    assert FastAttention.can_take(Attention(CONFIG))
    dropping = TransformerConfig(
        d_model=12, source_vocab_size=9, target_vocab_size=9, num_heads=2, attention_dropout=0.1
    )
    assert not FastAttention.can_take(Attention(dropping))
    assert not FastAttention.can_take(nn.Softmax(dim=-1))
    additive = build(ModelConfig(score="additive"), 9, 9)
    assert not any(map(FastAttention.can_take, additive.modules()))
