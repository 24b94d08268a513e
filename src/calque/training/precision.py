"""Which arithmetic a processor is good at."""

import os

import torch


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether matrix products run in bf16: asked for, or auto where the hardware has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    processor = torch.cpu.get_capabilities()
    return bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))


def forget_old_kernels() -> None:
    """Let oneDNN keep the kernels of the step under way, before it has made any.

    It makes one for each shape, and by default keeps a thousand: with batches of all shapes that
    is a gigabyte, of which hardly anything is used again.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, "32")
