"""Which arithmetic a processor is good at."""

import torch


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether matrix products run in bf16: asked for, or auto where the hardware has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    processor = torch.cpu.get_capabilities()
    return bool(processor.get("avx512_bf16") or processor.get("amx_bf16"))
