"""Tensors and dataclasses as JSON has them, with no more digits than are of use."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

DIGITS = 4  # after the point


def numbers(tensor: Tensor, digits: int = DIGITS) -> Any:
    """A tensor as nested lists of rounded numbers, the digits counted after the point."""
    return np.round(tensor.detach().double().cpu().numpy(), digits).tolist()


def scaled_numbers(tensor: Tensor, digits: int) -> Any:
    """As `numbers`, but zeros that the largest number has behind the point do not count."""
    largest = float(tensor.detach().abs().max())
    zeros = -math.floor(math.log10(largest)) - 1 if largest else 0
    return numbers(tensor, digits + max(0, zeros))


def rounded(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Dataclasses as dicts of rounded numbers."""
    return [
        {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in asdict(row).items()}
        for row in rows
    ]
