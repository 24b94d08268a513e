"""Which arithmetic, and what sizes, a processor is good at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WIDTH = 16
"""float32 numbers in the widest vector register. A softmax over fewer is ten times slower, and
PyTorch's attention over no multiple of so many keys up to three times: keys are filled up to a
multiple, with some that are masked."""


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether matrix products run in bf16: asked for, or auto where the hardware is quick at it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if has_tiles():
        return True
    processor = torch.cpu.get_capabilities()
    # AMD's AVX512-BF16 is two to five times as fast as float32; Intel's alone, as in a virtual
    # machine that hides AMX, half as fast.
    intel = str(processor.get("cpu_name", "")).startswith("Intel")
    return bool(processor.get("avx512_bf16")) and not intel


def has_tiles() -> bool:
    """Whether the processor computes products of bf16 by the tile, eight times as fast or more."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


@contextmanager
def products(precision: str) -> Iterator[None]:
    """While the block runs, float32 matrix products on a CPU are computed from bf16 or from
    float32 numbers: `precision` is "bf16" or "ieee". What they take and give is float32.
    """
    mkldnn: Any = torch.backends.mkldnn  # whose settings have no types
    settings = mkldnn.matmul
    before, settings.fp32_precision = settings.fp32_precision, precision
    try:
        yield
    finally:
        settings.fp32_precision = before
