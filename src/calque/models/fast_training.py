"""The fast path of training on a CPU: the same sums from few kernels, and few random draws."""

from typing import Any

import torch
from torch import Tensor, nn

from calque.models.parts.dropout import RandomBitsDropout

ROWS = 128
AMX = torch.cpu.get_capabilities().get("amx_bf16", False)


class RoundedLinear(nn.Linear):
    """nn.Linear that, in training, multiplies a multiple of ROWS rows, the last of zeros.

    oneDNN compiles a bf16 kernel for each number of rows that it meets. Batches have as many
    numbers as there are batches, so that half of a small model's step went into compiling.
    """

    @classmethod
    def like(cls, layer: nn.Linear) -> "RoundedLinear":
        """A layer with the very parameters of another."""
        made = cls(layer.in_features, layer.out_features, device="meta")
        made.weight, made.bias = layer.weight, layer.bias
        return made.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        return rounded_linear(input, self.weight, self.bias)


def rounded_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """nn.functional.linear, of a multiple of ROWS rows; in what autocast computes in."""
    return _RoundedLinear.apply(x, weight, bias)  # pyright: ignore[reportReturnType]


class _RoundedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        rows, weight_low = _rounded(x.flatten(0, -2), low), weight.to(low)
        ctx.save_for_backward(rows, weight_low)
        ctx.shape, ctx.bias = x.shape, bias is not None
        out = rows @ weight_low.T if bias is None else torch.addmm(bias.to(low), rows, weight_low.T)
        return out[: x.shape[:-1].numel()].unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, weight = ctx.saved_tensors
        grads = _rounded(grad.flatten(0, -2), rows.dtype)
        x_grad = (grads @ weight)[: ctx.shape[:-1].numel()].view(ctx.shape)
        return x_grad, transposed_product(grads, rows), grads.sum(dim=0) if ctx.bias else None


def transposed_product(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b: by AMX it is half as fast as other products, so there the narrower is turned first."""
    if not AMX or a.size(1) == b.size(1):
        return a.T @ b
    return a.T.contiguous() @ b if a.size(1) < b.size(1) else (b.T.contiguous() @ a).T


def _rounded(rows: Tensor, dtype: torch.dtype) -> Tensor:
    """With zeros behind, to a multiple of ROWS."""
    spare = -len(rows) % ROWS
    if not spare:
        return rows.to(dtype)
    rounded = rows.new_empty(len(rows) + spare, rows.size(1), dtype=dtype)
    rounded[: len(rows)] = rows
    rounded[len(rows) :] = 0
    return rounded


def use_fast_layers(model: nn.Module) -> None:
    """Put fast layers in the place of a model's plain ones, for a CPU, with the same parameters."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, RandomBitsDropout(child.p).train(child.training))
            elif type(child) is nn.Linear:
                setattr(module, name, RoundedLinear.like(child))
