"""Fast layers: the plain ones' results, from numbers of rows that come again and again."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from calque.models.build import FAMILIES, build
from calque.models.fast_training import ROWS, RoundedLinear, use_fast_layers


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, ROWS // 2), (ROWS + 1,), (2, 3, 50)], ids=str)
def test_a_rounded_layer_is_the_plain_one(shape: tuple[int, ...], bias: bool) -> None:
    plain = nn.Linear(6, 4, bias=bias)
    rounded = RoundedLinear(6, 4, bias=bias)
    rounded.load_state_dict(plain.state_dict())
    x = torch.randn(*shape, 6, requires_grad=True)
    weights = torch.randn(*shape, 4)
    expected = torch.autograd.grad((plain(x) * weights).sum(), [x, *plain.parameters()])
    found = torch.autograd.grad((rounded(x) * weights).sum(), [x, *rounded.parameters()])
    assert_close(rounded(x), plain(x))
    assert_close(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_fast_layers_take_the_place_of_plain_ones(family: str) -> None:
    model = build(FAMILIES[family].config(), 9, 9).eval()
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    source, target = torch.tensor([[4, 5, 6, 3]]), torch.tensor([[2, 7, 8]])
    logits = model(source, target)
    use_fast_layers(model)
    assert {type(m) for m in model.modules()}.isdisjoint({nn.Linear, nn.Dropout})
    assert {name: id(parameter) for name, parameter in model.named_parameters()} == before
    assert torch.equal(model(source, target), logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_train_in_bf16_with_fast_layers(family: str) -> None:
    model = build(FAMILIES[family].config(), 9, 9).train()
    use_fast_layers(model)
    source, target = (
        torch.tensor([[4, 5, 6, 3], [4, 3, 0, 0]]),
        torch.tensor([[2, 7, 8], [2, 4, 0]]),
    )
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(source, target).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
