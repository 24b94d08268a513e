"""Dropout that draws each number's bits from its place: gradients draw them again."""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from calque.kernels.library import Arguments, run

STEPS = 65536
"""Of probability: one for each value of 16 random bits."""
BLOCK = 4096
"""Numbers, as in dropout.c."""


class DropoutArguments(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("dropped", ctypes.c_int32),
        ("scale", ctypes.c_float),
    ]


class _Arguments(Arguments):
    _fields_ = [  # noqa: RUF012
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("number", ctypes.c_int64),
        ("low", ctypes.c_int64),
        ("dropout", DropoutArguments),
    ]


@dataclass(frozen=True)
class Dropout:
    """Which numbers of a tensor are dropped; the others are divided by their share."""

    seed: int
    dropped: int
    """Of STEPS."""

    @classmethod
    def drawn(cls, p: float) -> "Dropout":
        """With a seed from PyTorch's generator; the probability is kept to within 1/131,072."""
        dropped = round(p * STEPS)
        return cls(int(torch.empty((), dtype=torch.int64).random_()) if dropped else 0, dropped)

    @property
    def arguments(self) -> DropoutArguments:
        """For the kernels."""
        left = STEPS - self.dropped
        return DropoutArguments(self.seed, self.dropped, STEPS / left if left else 0.0)

    def __call__(self, x: Tensor) -> Tensor:
        """What is left of x, float32 or bf16 without gaps."""
        out = torch.empty_like(x)
        low = x.dtype == torch.bfloat16
        arguments = _Arguments(x=x, out=out, number=x.numel(), low=low, dropout=self.arguments)
        run("drop", arguments, -(-x.numel() // BLOCK))
        return out
