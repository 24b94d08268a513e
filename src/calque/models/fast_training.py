"""The fast path of training on a CPU: the same sums from few kernels, in few passes over memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from calque.kernels.dropout import Dropout
from calque.kernels.library import library
from calque.kernels.residual import Norm, add_and_norm, add_and_norm_gradient
from calque.models.parts.residuals import PreNorm
from calque.models.precision import WIDTH
from calque.models.transformer import LayerNorm, Residual

ROWS = 128
AMX = torch.cpu.get_capabilities().get("amx_bf16", False)


class RoundedLinear(nn.Linear):
    """nn.Linear that, in training, multiplies a multiple of ROWS rows, the last of zeros.

    oneDNN compiles a bf16 kernel for each number of rows that it meets. Batches have as many
    numbers as there are batches, so that half of a small model's step went into compiling.
    """

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


class FastDropout(nn.Dropout):
    """nn.Dropout, see `kernels.dropout`.

    Under autocast it gives what autocast computes in: with the embeddings, which are dropped out
    first, all that is added to them then stays in half the bytes.
    """

    def forward(self, input: Tensor) -> Tensor:
        dropout = Dropout.drawn(self.p) if self.training else None
        if self.training and torch.is_autocast_enabled("cpu"):
            input = input.to(torch.get_autocast_dtype("cpu"))
        if dropout is None or not dropout.dropped:
            return input
        return _Dropped.apply(input, dropout)  # pyright: ignore[reportReturnType]


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, dropout: Dropout) -> Tensor:
        ctx.dropout = dropout
        return dropout(input.contiguous())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.dropout(grad.contiguous()), None


class FastResidual(Residual):
    """Residual, with dropout, addition and layer norm in one pass."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if not self.training or x.size(-1) % WIDTH:
            return super().forward(x, sublayer)
        if type(self.norm) is LayerNorm:
            return _add_and_norm(x, sublayer(x), self.dropout, self.norm)
        return self.norm(_add_and_norm(x, sublayer(x), self.dropout))


class FastPreNorm(PreNorm):
    """PreNorm, with dropout and addition in one pass."""

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if not self.training or x.size(-1) % WIDTH:
            return super().forward(x, sublayer)
        return _add_and_norm(x, sublayer(self.norm(x)), self.dropout)


def _add_and_norm(
    x: Tensor, made: Tensor, dropout: nn.Dropout, norm: LayerNorm | None = None
) -> Tensor:
    x_rows, made_rows = x.to(made.dtype).flatten(0, -2), made.flatten(0, -2)
    weight, bias, epsilon = (norm.weight, norm.bias, norm.eps) if norm else (None, None, 0.0)
    drawn = Dropout.drawn(dropout.p)
    out: Any = _AddAndNorm.apply(x_rows, made_rows, drawn, weight, bias, epsilon)
    return out.view_as(x)


class _AddAndNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        made: Tensor,
        dropout: Dropout,
        weight: Tensor | None,
        bias: Tensor | None,
        epsilon: float,
    ) -> Tensor:
        ctx.dropout = dropout
        ctx.norm = None if weight is None or bias is None else Norm(weight, bias, epsilon)
        total, out, moments = add_and_norm(x, made, dropout, ctx.norm)
        if out is None:
            return total
        ctx.save_for_backward(total, moments)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        total, moments = ctx.saved_tensors or (None, None)
        gradients = add_and_norm_gradient(grad, total, moments, ctx.dropout, ctx.norm)
        of_x, of_made, *learned = gradients
        return of_x, of_made, None, *learned, None


FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: FastDropout,
    Residual: FastResidual,
    PreNorm: FastPreNorm,
}
"""What stands in for what, where there are kernels."""


def use_fast_layers(model: nn.Module) -> None:
    """Make a model's plain layers fast ones, for a CPU: the modules stay, with all they hold."""
    fast = {nn.Linear: RoundedLinear, **(FAST if library() else {})}
    for module in model.modules():
        module.__class__ = fast.get(type(module), type(module))
