"""Time and memory from raw text to the first steps of training, for corpora of millions of pairs.

    python benchmarks/memory.py --pairs 1 3 10 --dir /a/folder/with/space

Writes random sentences of each size, prepares them stage by stage in one process and trains on
them in another, and prints a Markdown table. The peak is of that process so far, with the import
of torch in it.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from rich.console import Console

from calque.recipe import Recipe, make_recipe
from calque.text.batching import collate, padding_waste, plan
from calque.training.loop import train
from calque.training.preparation import learn_tokenizers, prepare_corpora

HEADER = """| pairs | stage | seconds | pairs/s | peak resident, MB |
| ---: | --- | ---: | ---: | ---: |"""
VOCAB_SIZE, BATCH_TOKENS, NUM_BATCHES, NUM_STEPS = 8000, 4096, 50, 20
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of getrusage's memory."""


def generate(folder: Path, num_pairs: int) -> None:
    """Two plain files of sentences of 6 to 18 words, out of 20,000 made-up ones."""
    random.seed(1)
    syllables = ["ka", "lo", "mi", "tu", "re", "sha", "no", "den", "vi", "gor", "pel", "as"]
    words = ["".join(random.choices(syllables, k=random.randint(1, 4))) for _ in range(20_000)]
    for side in ("source", "target"):
        with (folder / side).open("w") as file:
            for _ in range(num_pairs):
                file.write(" ".join(random.choices(words, k=random.randint(6, 18))) + "\n")


@contextmanager
def stage(num_pairs: int, name: str) -> Iterator[None]:
    """Print a row about the block."""
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT / 1e6
    rate = num_pairs / seconds
    print(f"| {num_pairs:,} | {name} | {seconds:.1f} | {rate:,.0f} | {peak:,.0f} |", flush=True)


def measure_preparation(folder: Path, num_pairs: int) -> None:
    """Stage by stage, as `calque train` does it."""
    recipe = _recipe(folder)
    console = Console(quiet=True)
    with stage(num_pairs, "learn the tokenizer"):
        tokenizers = learn_tokenizers(recipe, console)
    with stage(num_pairs, "tokenise"):
        store = prepare_corpora(recipe, tokenizers, console).train
    with stage(num_pairs, "open what is tokenised"):
        store = prepare_corpora(recipe, tokenizers, console).train
    with stage(num_pairs, "plan an epoch"):
        batches = plan(store.lengths, BATCH_TOKENS, seed=1, epoch=0)
    with stage(num_pairs, f"collate {NUM_BATCHES} batches"):
        for rows in batches[:NUM_BATCHES]:
            collate(store, rows, tokenizers.special)
    waste = padding_waste(store.lengths, batches)
    size = store.path.stat().st_size / 1e6
    print(f"| {num_pairs:,} | *file {size:,.0f} MB, {waste:.1%} padding* | | | |", flush=True)


def measure_training(folder: Path, num_pairs: int) -> None:
    """The whole of `calque train`, but that the pairs are tokenised already."""
    with stage(num_pairs, f"`calque train`, {NUM_STEPS} steps, of pairs tokenised before"):
        train(_recipe(folder), folder / "run", Console(quiet=True))


MEASUREMENTS = {"preparation": measure_preparation, "training": measure_training}


def _recipe(folder: Path) -> Recipe:
    """Preset tiny on the generated pairs; the first of them are also there to validate on."""
    for side in ("source", "target"):
        with (folder / side).open() as file:
            (folder / f"valid.{side}").write_text("".join(islice(file, 100)))
    values = {
        "preset": "tiny",
        "data": {
            "train": [str(folder / "source"), str(folder / "target")],
            "valid": [str(folder / "valid.source"), str(folder / "valid.target")],
        },
        "tokenizer": {"vocab_size": VOCAB_SIZE},
        "training": {"max_steps": NUM_STEPS, "batch_tokens": BATCH_TOKENS},
        "decoding": {"search": "greedy", "max_length": 20},
    }
    return make_recipe(values, "benchmark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=float, nargs="+", default=[1, 3, 10], help="in millions")
    parser.add_argument("--dir", type=Path, help="where to write; about 0.5 GB per million pairs")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [round(millions * 1e6) for millions in options.pairs]
    if options.measure:
        MEASUREMENTS[options.measure](options.dir, sizes[0])
        return
    print(HEADER, flush=True)
    for millions, num_pairs in zip(options.pairs, sizes, strict=True):
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            generate(Path(folder), num_pairs)
            command = [sys.executable, __file__, "--pairs", str(millions), "--dir", folder]
            environment = {**os.environ, "XDG_CACHE_HOME": folder}
            for name in MEASUREMENTS:
                subprocess.run([*command, "--measure", name], check=True, env=environment)


if __name__ == "__main__":
    main()
