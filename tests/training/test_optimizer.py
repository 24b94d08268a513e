"""Optimizers: their parameters, what decays, and their state as named tensors."""

import copy

import pytest
import torch
from torch import nn

from calque.models.build import FAMILIES, build
from calque.recipe import TrainingConfig
from calque.training.optimizer import (
    OPTIMIZERS,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)

CONFIG = TrainingConfig(weight_decay=0.1)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))


def step(model, optimizer):
    model(torch.linspace(-1, 1, 8).view(2, 4)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_betas_and_epsilon_are_the_papers(name, model):
    for group in OPTIMIZERS[name](model, CONFIG).param_groups:
        assert group["betas"] == (0.9, 0.98)
        assert group["eps"] == 1e-9


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_is_moved_once(name, model):
    groups = OPTIMIZERS[name](model, CONFIG).param_groups
    moved = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(moved) == sorted(map(id, model.parameters()))


def test_adam_moves_by_the_formula():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    module = nn.ParameterList([weight])
    optimizer = OPTIMIZERS["adam"](module, CONFIG)
    set_learning_rate(optimizer, 0.1)
    expected, first, second = weight.detach().clone(), 0, 0
    for number in (1, 2, 3):
        gradient = 3 * weight.detach() ** 2
        first = 0.9 * first + 0.1 * gradient
        second = 0.98 * second + 0.02 * gradient**2
        expected -= (
            0.1 * (first / (1 - 0.9**number)) / ((second / (1 - 0.98**number)).sqrt() + 1e-9)
        )
        (weight**3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.testing.assert_close(weight.detach(), expected)


def test_adamw_shrinks_matrices_and_leaves_vectors(model):
    before = copy.deepcopy(model.state_dict())
    optimizer = OPTIMIZERS["adamw"](model, CONFIG)
    set_learning_rate(optimizer, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        expected = before[name] * (1 - 0.5 * 0.1) if parameter.dim() > 1 else before[name]
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize(
    ("family", "parts"), [("transformer", {"score": "cosine"}), ("convolutional", {})]
)
def test_adamw_leaves_gains_of_rows_however_they_lie(family, parts):
    model = build(FAMILIES[family].config(d_model=32, **parts), 20, 20)
    *_, vectors = OPTIMIZERS["adamw"](model, CONFIG).param_groups
    left = {id(parameter) for parameter in vectors["params"]}
    gains = [p for n, p in model.named_parameters() if n.endswith(("log_strength", "original0"))]
    assert gains
    assert all(id(gain) in left for gain in gains)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_restored_goes_on_as_what_was_not_interrupted(name, model):
    optimizer = OPTIMIZERS[name](model, CONFIG)
    set_learning_rate(optimizer, 0.1)
    step(model, optimizer)
    other = copy.deepcopy(model)
    restored = OPTIMIZERS[name](other, CONFIG)
    restore_optimizer(other, restored, optimizer_tensors(model, optimizer))
    set_learning_rate(restored, 0.1)
    step(model, optimizer)
    step(other, restored)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
