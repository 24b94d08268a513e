"""Dropout, the residual connection and layer norm in one pass, and their gradients in another."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calque.kernels.dropout import Dropout, DropoutArguments
from calque.kernels.library import Arguments, run

BLOCK = 256
"""Rows, as in residual.c."""
POINTERS = "x made weight bias sum out moments grad of_x of_made of_weight of_bias"


class _Arguments(Arguments):
    _fields_ = [  # noqa: RUF012
        *((name, ctypes.c_void_p) for name in POINTERS.split()),
        *((name, ctypes.c_int64) for name in ["rows", "width", "low"]),
        ("dropout", DropoutArguments),
        ("epsilon", ctypes.c_float),
    ]


@dataclass(frozen=True)
class Norm:
    """Layer norm, arXiv:1607.06450."""

    weight: Float[Tensor, " width"]
    bias: Float[Tensor, " width"]
    epsilon: float


def add_and_norm(
    x: Float[Tensor, "rows width"],
    made: Float[Tensor, "rows width"],
    dropout: Dropout,
    norm: Norm | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x + dropout(made); with a norm also that normalised, and what its gradient needs.

    Rows are float32 or bf16, without gaps, and as wide as a multiple of WIDTH.
    """
    made = made.contiguous()
    total = torch.empty_like(made)
    out = torch.empty_like(made) if norm else None
    moments = made.new_empty(len(made), 2, dtype=torch.float32) if norm else None
    tensors = {"x": x.contiguous(), "made": made, "sum": total, "out": out, "moments": moments}
    _run("add_and_norm", dropout, norm, made, **tensors)
    return total, out, moments


def add_and_norm_gradient(
    grad: Float[Tensor, "rows width"],
    total: Tensor | None,
    moments: Tensor | None,
    dropout: Dropout,
    norm: Norm | None,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Those of x, of what was made, and of the norm's weight and bias."""
    grad = grad.contiguous()
    of_made = torch.empty_like(grad)
    tensors = {"grad": grad, "sum": total, "moments": moments, "of_made": of_made}
    if norm is None:
        _run("add_and_norm_gradient", dropout, norm, grad, **tensors)
        return grad, of_made, None, None
    of_x = torch.empty_like(grad)
    blocks = -(-len(grad) // BLOCK)
    sums = grad.new_zeros(2, blocks, grad.size(1), dtype=torch.float32)
    tensors |= {"of_x": of_x, "of_weight": sums[0], "of_bias": sums[1]}
    _run("add_and_norm_gradient", dropout, norm, grad, **tensors)
    of_weight, of_bias = sums.sum(dim=1)
    return of_x, of_made, of_weight, of_bias


def _run(
    kernel: str, dropout: Dropout, norm: Norm | None, like: Tensor, **tensors: Tensor | None
) -> None:
    (rows, width), low = like.shape, like.dtype == torch.bfloat16
    values: dict[str, Any] = {**tensors, "rows": rows, "width": width, "low": low}
    if norm:
        values |= {"weight": norm.weight, "bias": norm.bias, "epsilon": norm.epsilon}
    run(kernel, _Arguments(**values, dropout=dropout.arguments), -(-rows // BLOCK))
