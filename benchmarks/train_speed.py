"""Training: calque against MarianMTModel of transformers, on the same batches in the same run.

    python benchmarks/train_speed.py
    python benchmarks/train_speed.py --loss-check

Every contender has a process of its own for all its rounds: fast kernels are remembered per
process, and calque tells oneDNN how many to remember before the first. The rounds alternate.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import mean, median

import torch
from apart import in_turn
from contenders import Setting, Trained, contenders, preset
from machine import Machine, measure, use_threads
from plots import bars
from report import Row, add_options, add_pair, grouped, publish, ratio, require
from rich.console import Console

from calque.benchmark.rates import training_operations
from calque.models.build import build
from calque.recipe import PRESETS, TrainingConfig, make_recipe
from calque.text.batching import Batch, collate, plan
from calque.training.preparation import learn_tokenizers, prepare_corpora

OURS, FLOAT32, PEER, PEER_BF16 = (
    "calque",
    "calque, float32",
    "MarianMTModel, float32",
    "MarianMTModel, bf16 autocast",
)
STEPS = {"tiny": 10, "small": 3, "base": 3, "big": 2}
"""Of a round, where --steps does not say."""
WARM_UP = {"tiny": 20, "small": 5, "base": 5, "big": 2}
"""Steps that are not counted: in the first, kernels are compiled for the shapes of batches."""
BATCH_TOKENS = 4096
WINDOW = 50  # steps whose mean loss is shown
AGREE = 0.01  # of the loss


@dataclass(frozen=True)
class Corpus:
    """Batches of the training pairs, in the order of training."""

    batches: list[Batch]
    vocab_size: int

    @property
    def longest(self) -> int:
        return max(max(b.source.size(1), b.target.size(1)) for b in self.batches)


def read(
    train: Sequence[Path],
    valid: Sequence[Path],
    vocab_size: int,
    number: int,
    batch_tokens: int = BATCH_TOKENS,
) -> Corpus:
    """The first batches, over as many epochs as it takes, with a BPE vocabulary."""
    files = {"train": list(map(str, train)), "valid": list(map(str, valid))}
    values = {"data": files, "tokenizer": {"vocab_size": vocab_size}}
    recipe, console = make_recipe(values, "benchmark"), Console(quiet=True)
    tokenizers = learn_tokenizers(recipe, console)
    store = prepare_corpora(recipe, tokenizers, console).train
    batches: list[Batch] = []
    epoch = 0
    while len(batches) < number:
        rows = plan(store.lengths, batch_tokens, seed=1, epoch=epoch)
        collated = (collate(store, of_batch, tokenizers.special) for of_batch in rows)
        batches += islice(collated, number - len(batches))
        epoch += 1
    return Corpus(batches, tokenizers.source.vocab_size)


def compare(
    setting: Setting,
    names: list[str],
    batches: list[Batch],
    steps: int,
    rounds: int,
    warm_up: int,
) -> dict[str, list[Trained]]:
    """Rounds of `steps` batches each; the first `warm_up` batches go before, uncounted.

    Raises ValueError unless all have the same number of parameters.
    """
    counted = batches[warm_up:]
    works = [counted[i * steps : (i + 1) * steps] for i in range(rounds)]
    results = in_turn(contenders(setting, names), works, batches[:warm_up])
    sizes = {name: of_name[0].parameters for name, of_name in results.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"not the same model: {sizes} parameters")
    return results


def operations_per_token(setting: Setting, batches: list[Batch]) -> float:
    """What the model asks for in training, by target token."""
    with torch.device("meta"):
        model = build(setting.model, setting.vocab_size, setting.vocab_size)
    tokens = sum(batch.num_tokens for batch in batches)
    return sum(training_operations(model, batch) for batch in batches) / tokens


def rows_of(
    results: dict[str, list[Trained]], peer: str, size: str, per_token: float, machine: Machine
) -> list[Row]:
    """A row for each contender; how many times `peer` it is, and its share of the bf16 rate."""
    rates = {name: [r.rate for r in of_name] for name, of_name in results.items()}
    rows = []
    for name, of_name in results.items():
        reached = median(rates[name]) * per_token
        row: Row = {
            "model": f"{size} ({of_name[0].parameters / 1e6:.1f} M)",
            "contender": name,
            "target tokens/s": median(rates[name]),
            "least": min(rates[name]),
            "most": max(rates[name]),
            f"times {peer}": ratio(rates[name], rates[peer]),
            "GFLOP/s": reached / 1e9,
            "of the bf16 rate": f"{reached / machine.bf16_rate:.0%}",
        }
        rows.append(row)
    return rows


def measure_speed(options: argparse.Namespace) -> None:
    """The table of speeds."""
    steps = {size: options.steps or STEPS[size] for size in options.sizes}
    most = max(WARM_UP[size] + steps[size] * options.rounds for size in options.sizes)
    corpus = read(options.train, options.valid, options.vocab_size, most)
    machine = measure(torch.device("cpu"))
    rows: list[Row] = []
    for size in options.sizes:
        setting = Setting(model=preset(size), vocab_size=corpus.vocab_size, longest=corpus.longest)
        batches = corpus.batches[: WARM_UP[size] + steps[size] * options.rounds]
        names = [OURS, PEER, PEER_BF16]
        results = compare(setting, names, batches, steps[size], options.rounds, WARM_UP[size])
        per_token = operations_per_token(setting, batches[2:])
        rows += rows_of(results, PEER, size, per_token, machine)
    options.out.mkdir(parents=True, exist_ok=True)
    panels = grouped(rows, "model", "target tokens/s")
    bars(options.out / "train_speed.png", panels, "target tokens/s")
    tables = {"": rows, "The machine, in the same run:": machine.rows()}
    publish("train_speed", machine.description, tables, options.out, "train_speed.png")


def check_loss(options: argparse.Namespace) -> None:
    """The table of losses: do all learn the same?"""
    size, steps = options.sizes[0], options.steps or 300
    corpus = read(options.train, options.valid, options.vocab_size, steps)
    # Of 4,000 steps of warm-up, 300 would hardly learn.
    training = TrainingConfig(schedule="inverse_sqrt", learning_rate=1e-3, warmup_steps=100)
    setting = Setting(
        model=preset(size),
        vocab_size=corpus.vocab_size,
        longest=corpus.longest,
        training=training,
    )
    names = [FLOAT32, OURS, PEER]
    windows = [corpus.batches[i : i + WINDOW] for i in range(0, steps, WINDOW)]
    results = in_turn(contenders(setting, names), windows, [])
    rows = loss_rows({name: [r.losses for r in results[name]] for name in names})
    last = [row[f"{OURS} / {FLOAT32}"] for row in rows][-1]
    verdict = "agrees" if abs(float(last) - 1) <= AGREE else "DOES NOT AGREE"
    description = (
        f"{machine_of_loss()}; {size}, mean loss per token (nats, smoothing in it) of the steps "
        f"before; {OURS} {verdict} with {FLOAT32} within {AGREE:.0%}"
    )
    publish("loss_check", description, {"": rows}, options.out)


def machine_of_loss() -> str:
    """What computes; there is no rate to measure."""
    return measure(torch.device("cpu"), seconds=0.01).description


def loss_rows(losses: dict[str, list[list[float]]]) -> list[Row]:
    """The mean loss of each window, and its ratio to calque's in float32."""
    rows: list[Row] = []
    step = 0
    for number, window in enumerate(losses[FLOAT32]):
        step += len(window)
        means = {name: mean(of_name[number]) for name, of_name in losses.items()}
        others = [name for name in losses if name != FLOAT32]
        ratios = {f"{name} / {FLOAT32}": f"{means[name] / means[FLOAT32]:.4f}" for name in others}
        shown = {name: f"{value:.4f}" for name, value in means.items()}
        rows.append({"step": step, **shown, **ratios})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=PRESETS, default=["tiny", "small", "base"])
    parser.add_argument("--vocab-size", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--steps", type=int, help=f"of a round; default: {STEPS}")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--loss-check",
        action="store_true",
        help="instead: 300 steps (or --steps) of the first of --sizes, and what they end with",
    )
    add_pair(parser, "train", "train")
    add_pair(parser, "valid", "val")
    add_options(parser)
    options = parser.parse_args()
    require(parser, *options.train, *options.valid)
    use_threads(options.threads)
    if options.loss_check:
        check_loss(options)
    else:
        measure_speed(options)


if __name__ == "__main__":
    main()
