"""Training on a GPU: calque compiled, under bf16 autocast, against MarianMTModel under the same.

    python benchmarks/gpu_speed.py

The compiled layers see lengths that are multiples of 16, and are not compiled anew for each. Exit
code 2 where there is no CUDA.
"""

import argparse
import sys

import torch
from apart import in_turn
from contenders import Setting, contenders, preset
from machine import measure, use_threads
from report import add_options, add_pair, publish, require
from train_speed import operations_per_token, read, rows_of

from calque.recipe import PRESETS

PEER = "MarianMTModel, bf16 autocast"
NAMES = ["calque, compiled", "calque, one process", PEER]
WARM_UP = 20  # steps, compilation with them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=PRESETS, default=["base", "big"])
    parser.add_argument("--vocab-size", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--batch-tokens", type=int, default=25_000, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=30, help="of a round; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    add_pair(parser, "train", "train")
    add_pair(parser, "valid", "val")
    add_options(parser)
    options = parser.parse_args()
    require(parser, *options.train, *options.valid)
    if not torch.cuda.is_available():
        print("gpu_speed: there is no CUDA device here; not run", file=sys.stderr)
        sys.exit(2)
    use_threads(options.threads)
    device = torch.device("cuda")
    number = WARM_UP + options.steps * options.rounds
    corpus = read(options.train, options.valid, options.vocab_size, number, options.batch_tokens)
    warm_up, counted = corpus.batches[:WARM_UP], corpus.batches[WARM_UP:]
    works = [counted[i : i + options.steps] for i in range(0, len(counted), options.steps)]
    machine, rows = measure(device), []
    for size in options.sizes:
        setting = Setting(
            model=preset(size),
            vocab_size=corpus.vocab_size,
            longest=corpus.longest,
            device=device,
        )
        results = in_turn(contenders(setting, NAMES), works, warm_up)
        per_token = operations_per_token(setting, counted)
        rows += rows_of(results, PEER, size, per_token, machine)
    tables = {"": rows, "The machine, in the same run:": machine.rows()}
    publish("gpu_speed", machine.description, tables, options.out)


if __name__ == "__main__":
    main()
