"""Tensors and dataclasses as JSON has them, with no more digits than are of use."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

DIGITS = 4  # after the point


def numbers(tensor: Tensor, digits: int = DIGITS) -> Any:
    """A tensor as nested lists of rounded numbers."""
    return np.round(tensor.detach().double().cpu().numpy(), digits).tolist()


def rounded(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Dataclasses as dicts of rounded numbers."""
    return [
        {name: round(v, DIGITS) if isinstance(v, float) else v for name, v in asdict(row).items()}
        for row in rows
    ]
