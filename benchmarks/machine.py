"""What the machine itself can do: matrix products and memory.

    python benchmarks/machine.py

The other benchmarks measure the same in the same run, and hold their results against it.
"""

import argparse
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from apart import once
from report import Row, add_options, publish
from torch.utils.benchmark import Timer

from calque.benchmark.rates import processor_name, product_rate

SQUARES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
SHAPES = {"tiny": (128, 256), "base": (512, 2048)}
"""d_model and d_ff of the models whose products are measured by themselves."""
ROWS, VOCAB_SIZE = 3500, 8000
COPIED = 2**29
"""Bytes; more than a processor's caches hold."""
PACKAGES = "calque", "torch", "transformers", "ctranslate2"


@dataclass(frozen=True)
class Machine:
    """Rates in operations, or bytes, per second."""

    description: str
    products: list[tuple[str, float, float]]
    """What is multiplied, in float32, in bf16."""
    copying: float
    """Bytes read and written."""

    @property
    def bf16_rate(self) -> float:
        """Of the square product at which the machine does best."""
        return max(bf16 for name, _, bf16 in self.products if name.startswith("square"))

    def rows(self) -> list[Row]:
        """A table of the rates."""
        rows: list[Row] = [
            {"product": name, "float32, GFLOP/s": float32 / 1e9, "bf16, GFLOP/s": bf16 / 1e9}
            for name, float32, bf16 in self.products
        ]
        return [*rows, {"product": f"memory, copying: {self.copying / 1e9:.1f} GB/s"}]


def use_threads(number: int) -> None:
    """Let this process, and those that it starts, compute on so many threads."""
    os.environ["OMP_NUM_THREADS"] = str(number)
    torch.set_num_threads(number)


def measure(device: torch.device, seconds: float = 0.5) -> Machine:
    """The rates of the device, each over `seconds`, in a process of its own."""
    return once(_measure, device, seconds)


def _measure(device: torch.device, seconds: float) -> Machine:
    products = []
    for name, shape in _shapes(device):
        rates = (
            product_rate(*shape, dtype, device, seconds)
            for dtype in (torch.float32, torch.bfloat16)
        )
        products.append((name, *rates))
    return Machine(_description(device), products, _copy_rate(device, seconds))


def _shapes(device: torch.device) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for size in SQUARES[device.type]:
        yield f"square, {size:,}", (size, size, size)
    for preset, (d_model, d_ff) in SHAPES.items():
        for what, inner, columns in (
            ("attention", d_model, d_model),
            ("feed-forward, in", d_model, d_ff),
            ("feed-forward, out", d_ff, d_model),
            ("vocabulary", d_model, VOCAB_SIZE),
        ):
            yield f"{preset}, {what}: {ROWS:,} x {inner:,} x {columns:,}", (ROWS, inner, columns)


def _copy_rate(device: torch.device, seconds: float) -> float:
    tensors = {side: torch.ones(COPIED // 4, device=device) for side in ("here", "there")}
    threads = torch.get_num_threads()
    timer = Timer("there.copy_(here)", globals=tensors, num_threads=threads)
    return 2 * COPIED / timer.blocked_autorange(min_run_time=seconds).median


def _description(device: torch.device) -> str:
    packages = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    able = torch.cpu.get_capabilities()
    names = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(name)]
    threads = torch.get_num_threads()
    return (
        f"{processor_name(device)} ({', '.join(names) or platform.machine()}), "
        f"{threads} thread{'s' if threads > 1 else ''}; Python {platform.python_version()}, "
        f"{packages}"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    options = parser.parse_args()
    use_threads(options.threads)
    found = measure(torch.device("cpu"))
    publish("machine", found.description, {"": found.rows()}, options.out)


if __name__ == "__main__":
    main()
