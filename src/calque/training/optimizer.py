"""Optimizers by name, and their state as named tensors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from calque.recipe import TrainingConfig

BETAS, EPSILON = (0.9, 0.98), 1e-9  # arXiv:1706.03762, §5.3


def adam(model: nn.Module, _: TrainingConfig) -> Optimizer:
    """Adam as in §5.3 of the paper."""
    return Adam(model.parameters(), betas=BETAS, eps=EPSILON, fused=True)


def adamw(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """Adam with decoupled weight decay (arXiv:1711.05101), of matrices alone."""
    # By the axes that are longer than 1: a gain of each row is a vector, however it lies.
    matrices = [p for p in model.parameters() if p.squeeze().dim() > 1]
    vectors = [p for p in model.parameters() if p.squeeze().dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return AdamW(groups, betas=BETAS, eps=EPSILON, fused=True)


OPTIMIZERS: dict[str, Callable[[nn.Module, TrainingConfig], Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
}


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use `rate` for every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as `parameter/quantity` tensors."""
    return {
        f"{name}/{quantity}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for quantity, value in optimizer.state[parameter].items()
    }


def restore_optimizer(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give the optimizer the state that `optimizer_tensors` took."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, quantity = key.split("/")
        parameter = parameters[name]
        # A copy, for what comes from a file is a view of it and would hold on to it.
        optimizer.state[parameter][quantity] = value.to(parameter.device, copy=True)
