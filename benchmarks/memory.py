"""Time and memory from raw text to the first steps of training, for corpora of millions of pairs.

    python benchmarks/memory.py --pairs 1 3 10 --dir /a/folder/with/space

Writes random sentences, then walks through the stages in a process of its own for each size, and
prints a Markdown table. The peak is of the process so far, `import torch` included.
"""

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from rich.console import Console

from calque.recipe import Recipe, make_recipe
from calque.text.batching import collate, padding_waste, plan
from calque.text.corpus import read_pairs
from calque.text.data import CorpusConfig
from calque.text.store import TokenStore, prepare
from calque.text.tokenizers.interface import TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.training.loop import train
from calque.training.preparation import cache_folder

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


def measure(folder: Path, num_pairs: int) -> None:
    """Walk through the stages and print a row for each."""

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT / 1e6
        rate = num_pairs / seconds
        print(f"| {num_pairs:,} | {name} | {seconds:.1f} | {rate:,.0f} | {peak:,.0f} |", flush=True)

    corpus = CorpusConfig(source=str(folder / "source"), target=str(folder / "target"))

    def texts() -> Iterator[tuple[str, str]]:
        return ((pair.source, pair.target) for pair in read_pairs(corpus, Counter()))

    def prepared() -> TokenStore:
        cache = cache_folder()
        return prepare([corpus], tokenizers, max_length=256, max_ratio=9.0, cache=cache)

    with stage("learn the tokenizer"):
        tokenizers = Tokenizers.train(TokenizerConfig(vocab_size=VOCAB_SIZE), texts)
    with stage("tokenise"):
        store = prepared()
    with stage("open what is tokenised"):
        store = prepared()
    with stage("plan an epoch"):
        batches = plan(store.lengths, BATCH_TOKENS, seed=1, epoch=0, weights=store.weights)
    with stage(f"collate {NUM_BATCHES} batches"):
        for rows in batches[:NUM_BATCHES]:
            collate(store, rows)
    with stage(f"`calque train`, {NUM_STEPS} steps: learn, reuse what is tokenised, plan, train"):
        train(_recipe(folder), folder / "run", Console(quiet=True))
    waste = padding_waste(store.lengths, batches)
    size = store.path.stat().st_size / 1e6
    print(f"| {num_pairs:,} | *file {size:,.0f} MB, {waste:.1%} padding* | | | |", flush=True)


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
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [round(millions * 1e6) for millions in options.pairs]
    if options.measure:
        measure(options.measure, sizes[0])
        return
    print(HEADER, flush=True)
    for millions, num_pairs in zip(options.pairs, sizes, strict=True):
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            generate(Path(folder), num_pairs)
            command = [sys.executable, __file__, "--pairs", str(millions), "--measure", folder]
            subprocess.run(command, check=True, env={**os.environ, "XDG_CACHE_HOME": folder})


if __name__ == "__main__":
    main()
