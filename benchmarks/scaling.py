"""How speed and memory of training grow with the length of sentences and the size of the model.

    python benchmarks/scaling.py

Random tokens, in batches of the same budget: 64 pairs of 32 + 32 tokens, or one of 2,048 + 2,048.
Every point is measured in a fresh process. Memory is the most that it held at any time, less what
it held before it made the model.
"""

import argparse
from statistics import median
from typing import Any

import numpy as np
import torch
from contenders import Setting, Trained, contenders, preset
from machine import measure, use_threads
from plots import Panel, curves
from report import Row, add_options, publish
from rich.console import Console

from calque.benchmark.run import synthetic_batches
from calque.recipe import PRESETS
from calque.text.batching import Batch

NAMES = ["calque", "calque, float32", "MarianMTModel, float32"]
LENGTHS = [32, 64, 128, 256, 512, 1024, 2048]
PLAIN = 32  # tokens of a sentence, where the size of the model is what changes


def batches_of(length: int, budget: int, vocab_size: int, number: int) -> list[Batch]:
    """Full batches of pairs whose sides have `length` tokens, EOS counted."""
    rows = max(1, budget // length)
    lengths = np.full((number * rows, 2), length - 1, dtype=np.int32)
    return list(synthetic_batches(lengths, (vocab_size, vocab_size), rows * length))


def point(name: str, setting: Setting, batches: list[Batch]) -> list[Trained]:
    """Each batch but the first, which warms up, timed by itself."""
    with contenders(setting, [name])[name] as contender:
        contender(batches[:1])
        return [contender([batch]) for batch in batches[1:]]


def measured(name: str, size: str, length: int, options: argparse.Namespace, shown: Any) -> Row:
    """A row of the table."""
    shown.update(f"{size}, {length:,} tokens: {name}")
    setting = Setting(model=preset(size), vocab_size=options.vocab_size, longest=length + 1)
    number = options.steps + 1
    batches = batches_of(length, options.batch_tokens, options.vocab_size, number)
    done = point(name, setting, batches)
    return {
        "model": size,
        "parameters, M": done[0].parameters / 1e6,
        "tokens of a sentence": length,
        "contender": name,
        "target tokens/s": median(result.rate for result in done),
        "memory, MB": done[-1].memory / 1e6,
    }


def panels(by_length: list[Row], by_size: list[Row], size: str) -> list[Panel]:
    """Speed above memory, for what each of the two tables changes."""
    found = []
    for what in ("target tokens/s", "memory, MB"):
        for rows, key, title, decades in (
            (by_length, "tokens of a sentence", f"{what}: {size}", False),
            (by_size, "parameters, M", f"{what}: sentences of {PLAIN} tokens", True),
        ):
            lines = {
                name: [(row[key], row[what]) for row in rows if row["contender"] == name]
                for name in NAMES
            }
            kept = {name: sorted(points) for name, points in lines.items() if points}
            found.append(Panel(title, key, kept, decades))  # type: ignore[arg-type]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = ["tiny", "small", "base", "big"]
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--sizes", nargs="+", choices=PRESETS, default=sizes)
    parser.add_argument("--batch-tokens", type=int, default=2048, help="default: %(default)s")
    parser.add_argument("--vocab-size", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=3, help="counted; default: %(default)s")
    add_options(parser)
    options = parser.parse_args()
    use_threads(options.threads)
    machine = measure(torch.device("cpu"))
    size = options.sizes[0]
    with Console(stderr=True).status("starting") as shown:
        by_length, by_size = (
            [measured(name, *place, options, shown) for place in places for name in NAMES]
            for places in (
                [(size, length) for length in options.lengths],
                [(size, PLAIN) for size in options.sizes],
            )
        )
    options.out.mkdir(parents=True, exist_ok=True)
    curves(options.out / "scaling.png", panels(by_length, by_size, size))
    tables = {
        "": by_length,
        "By the size of the model:": by_size,
        "The machine, in the same run:": machine.rows(),
    }
    description = f"{machine.description}; batches of {options.batch_tokens:,} tokens a side"
    publish("scaling", description, tables, options.out, "scaling.png")


if __name__ == "__main__":
    main()
