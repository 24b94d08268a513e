"""What each attention pattern costs by the length of a text: time and memory of one layer.

    python benchmarks/pattern_cost.py

One layer of an encoder, forwards and backwards, on one text of random vectors, in float32. Every
point is measured in a fresh process. Memory is the most that it held at any time, less what it held
before the first pass. Where the weights of all pairs would not fit into the memory that is free,
there is no point.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from statistics import median

import torch
from apart import once
from machine import measure, use_threads
from plots import Panel, curves
from report import Row, add_options, publish
from rich.console import Console

from calque.models.build import ModelConfig, build
from calque.models.parts.patterns import PATTERNS

LENGTHS = [256, 512, 1024, 2048, 4096, 8192, 16384]
NAMES = ["full", "local", "bigbird", "linformer"]
COPIES = 4
"""Of the weights of all pairs, that a pass of the full pattern holds at its peak, rounded up."""


def passes(config: ModelConfig, length: int, number: int, threads: int) -> tuple[float, float]:
    """Median seconds of a pass forwards and backwards, the first left out, and bytes held."""
    use_threads(threads)
    torch.manual_seed(1)
    layer = build(config, 8, 8).encoder[0]
    x = torch.randn(1, length, config.d_model, requires_grad=True)
    mask = torch.ones(1, 1, 1, length, dtype=torch.bool)
    before, seconds = peak(), []
    for _ in range(number + 1):
        start = time.perf_counter()
        layer(x, mask).square().mean().backward()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:]), peak() - before


def peak() -> float:
    """The most bytes that this process has held so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage there counts what the process was forked from
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return 1024 * float(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def fits(config: ModelConfig, length: int) -> bool:
    """Whether a pass of this pattern will find the memory that it needs."""
    pairs = length**2 if config.pattern in ("full", "causal") else 0
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return COPIES * 4 * config.num_heads * pairs < free


def measured(options: argparse.Namespace) -> list[Row]:
    """A row of the table for each length and pattern."""
    rows: list[Row] = []
    with Console(stderr=True).status("starting") as shown:
        for length in options.lengths:
            for name in options.patterns:
                config = ModelConfig(
                    d_model=options.d_model,
                    d_ff=4 * options.d_model,
                    num_heads=options.num_heads,
                    num_encoder_layers=1,
                    num_decoder_layers=1,
                    dropout=0.0,
                    pattern=name,
                    longest=length,
                )
                if not fits(config, length):
                    continue
                shown.update(f"{name}, {length:,} tokens")
                seconds, memory = once(passes, config, length, options.passes, options.threads)
                rows.append(
                    {
                        "tokens": length,
                        "contender": name,
                        "forwards and backwards, ms": 1000 * seconds,
                        "memory, MB": memory / 1e6,
                    }
                )
    return rows


def panels(rows: list[Row], names: list[str]) -> list[Panel]:
    """Time beside memory."""
    found = []
    for what in ("forwards and backwards, ms", "memory, MB"):
        lines = {
            name: [(row["tokens"], row[what]) for row in rows if row["contender"] == name]
            for name in names
        }
        kept = {name: points for name, points in lines.items() if points}
        found.append(Panel(what, "tokens of the text", kept, decades=True))  # type: ignore[arg-type]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=NAMES)
    parser.add_argument("--d-model", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--num-heads", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--passes", type=int, default=3, help="counted; default: %(default)s")
    add_options(parser)
    options = parser.parse_args()
    use_threads(options.threads)
    machine = measure(torch.device("cpu"))
    rows = measured(options)
    options.out.mkdir(parents=True, exist_ok=True)
    curves(options.out / "pattern_cost.png", panels(rows, options.patterns))
    description = (
        f"{machine.description}; one layer, d_model {options.d_model}, {options.num_heads} heads, "
        "with the pattern's default sizes"
    )
    publish("pattern_cost", description, {"": rows}, options.out, "pattern_cost.png")


if __name__ == "__main__":
    main()
