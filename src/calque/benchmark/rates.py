"""What a machine can do, and how much of it a model asks for."""

import platform
from pathlib import Path

import torch
from torch import nn
from torch.utils.benchmark import Timer

from calque.models.transformer import Transformer
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


def training_operations(model: Transformer, batch: Batch) -> float:
    """Additions and multiplications of one pass forwards and backwards over a batch.

    6 x parameters in matrix products x tokens (arXiv:2001.08361, §2.1), and the products of
    attention, of all keys. Padding is not counted: to compute with it is no use.
    """
    d_model = model.config.d_model
    source = (batch.source != batch.pad_id).sum(dim=1).double()
    target = (batch.target[:, 1:] != batch.pad_id).sum(dim=1).double()
    # The decoder's keys and values of the memory are made once for each source token.
    looking_back = [layer.cross_attention for layer in model.decoder]
    of_memory = sum(a.key.weight.numel() + a.value.weight.numel() for a in looking_back)
    on_source = _linear(model.encoder) + of_memory
    on_target = _linear(model.decoder) - of_memory + model.output_weights[0].numel()
    products = on_source * source.sum() + on_target * target.sum()
    scores = len(model.encoder) * (source * source).sum()
    scores += len(model.decoder) * (target * target + target * source).sum()
    return float(6 * products + 12 * d_model * scores)


def _linear(stack: list) -> int:  # type: ignore[type-arg]
    modules = (module for layer in stack for module in layer.modules())
    return sum(m.weight.numel() for m in modules if isinstance(m, nn.Linear))
