"""What a machine can do, and how much of it a model asks for."""

import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.benchmark import Timer

from calque.models.build import Model
from calque.models.transformer import MultiHeadAttention
from calque.text.batching import Batch


def processor_name(device: torch.device) -> str:
    """The maker's name of what computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    described = Path("/proc/cpuinfo")  # Linux alone has it
    lines = described.read_text().splitlines() if described.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def product_rate(
    rows: int,
    inner: int,
    columns: int,
    dtype: torch.dtype,
    device: torch.device,
    seconds: float = 0.5,
) -> float:
    """Operations per second of [rows, inner] @ [inner, columns], as a linear layer has them.

    The median of repetitions over at least `seconds`, on all threads of this process.
    """
    x = torch.randn(rows, inner, device=device, dtype=dtype)
    weight = torch.randn(columns, inner, device=device, dtype=dtype)
    timer = Timer(
        "linear(x, weight)",
        globals={"x": x, "weight": weight, "linear": nn.functional.linear},
        num_threads=torch.get_num_threads(),
    )
    timer.timeit(2)  # kernels are made, threads started
    return 2 * rows * inner * columns / timer.blocked_autorange(min_run_time=seconds).median


def training_operations(model: Model, batch: Batch) -> float:
    """Additions and multiplications of one pass forwards and backwards over a batch.

    6 x parameters in matrix products x tokens (arXiv:2001.08361, §2.1), and the products of a
    Transformer's attention, of all keys. Padding is not counted: to compute with it is no use.
    """
    source = (batch.source != batch.pad_id).sum(dim=1).double()
    target = (batch.target[:, 1:] != batch.pad_id).sum(dim=1).double()
    on_source, on_target = _matrices(model.encoder), _matrices(model.decoder)
    scores = torch.zeros((), dtype=torch.double)
    for name, heads in model.named_modules():
        if not isinstance(heads, MultiHeadAttention):
            continue
        of_keys = getattr(heads, "key", heads.query).weight.numel() + heads.value.weight.numel()
        queries, keys = (source if name.startswith("encoder") else target), target
        if name.startswith("encoder") or name.endswith("cross_attention"):
            keys = source
        if name.endswith("cross_attention"):  # made once for each source token
            on_source, on_target = on_source + of_keys, on_target - of_keys
        scores += (queries * keys).sum() * (heads.query.out_features + heads.value.out_features)
    on_target += model.output_weights[0].numel()
    return float(6 * (on_source * source.sum() + on_target * target.sum() + scores))


def _matrices(stack: Any) -> int:
    return sum(p.numel() for p in stack.parameters() if p.dim() > 1)
