"""How fast a run's model trains and translates on the machine at hand."""

import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import Int
from rich.box import SIMPLE
from rich.table import Table
from torch.nn.utils.rnn import pad_sequence

from calque.benchmark.rates import processor_name, product_rate, training_operations
from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.interchange.equivalence import validation_pairs
from calque.models.build import Model, attention_for
from calque.models.fast_training import use_fast_layers
from calque.models.precision import uses_bf16
from calque.recipe import TrainingConfig
from calque.text.batching import Batch, plan
from calque.training.distributed import Processes
from calque.training.memory import forget_old_kernels, keep_freed_memory
from calque.training.step import BatchTooLargeError, Stepper
from calque.translator import Translator

SQUARE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the product that a machine's rate is measured with."""
TYPICAL = 24
"""Tokens of a sentence, where a run knows no training data."""
SECONDS = 20.0
"""Of each measurement."""
WARM_UP, FIRST_LINES, SINGLE_LINES = 2, 64, 20


@dataclass(frozen=True, kw_only=True)
class Training:
    """How fast training goes; target tokens with EOS, without padding."""

    tokens_per_second: float
    seconds_per_step: float
    precision: str
    operations_per_second: float


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How fast translation goes."""

    sentences: str
    """What was translated."""
    beam_size: int
    sentences_per_second: float
    seconds_for_one: float
    """Median of sentences translated one by one."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What `calque bench` found; rates are operations per second."""

    processor: str
    threads: int
    parameters: int
    float32_rate: float
    bf16_rate: float
    training: Training
    decoding: Decoding
    share: float
    """Of the machine's product rate, in the precision of training, that training reaches."""


def benchmark(path: Path, seconds: float = SECONDS) -> Benchmark:
    """Measure the model of a run folder, for about `seconds` each in training and in decoding.

    Raises CalqueError when the folder holds no weights yet, or what memory does not hold.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    translator = Translator.load(path, device=device.type)
    size = SQUARE[device.type]
    float32, bf16 = (
        product_rate(size, size, size, dtype, device, seconds / SECONDS)
        for dtype in (torch.float32, torch.bfloat16)
    )
    decoding = _decode(translator, RunFolder(path), seconds)
    training = _in_own_process(path, device, seconds)
    return Benchmark(
        processor=processor_name(device),
        threads=torch.get_num_threads(),
        parameters=sum(p.numel() for p in translator.model.parameters()),
        float32_rate=float32,
        bf16_rate=bf16,
        training=training,
        decoding=decoding,
        share=training.operations_per_second / (bf16 if training.precision == "bf16" else float32),
    )


def make_stepper(model: Model, config: TrainingConfig, processes: Processes) -> Stepper:
    """What moves a model's weights in `calque train`, with the fast paths that it takes."""
    model = model.to(processes.device)
    if processes.device.type == "cpu":
        use_fast_layers(model)
    autocast = uses_bf16(config.precision, processes.device)
    return Stepper(model, config, processes, autocast=autocast)


def synthetic_batches(
    lengths: Int[np.ndarray, "pairs 2"], vocab_sizes: tuple[int, int], batch_tokens: int
) -> Iterator[Batch]:
    """Batches of random tokens, planned as training plans them; ids 0 to 3 are the special ones."""
    generator = np.random.default_rng(1)
    for rows in plan(lengths, batch_tokens, seed=1, epoch=0):
        sides = [
            [torch.from_numpy(generator.integers(4, size, length)) for length in of_side]
            for size, of_side in zip(vocab_sizes, lengths[rows].T, strict=True)
        ]
        bos, eos = torch.tensor([2]), torch.tensor([3])
        source = pad_sequence([torch.cat([ids, eos]) for ids in sides[0]], batch_first=True)
        target = pad_sequence([torch.cat([bos, ids, eos]) for ids in sides[1]], batch_first=True)
        yield Batch(source, target, rows, pad_id=0)


def _in_own_process(path: Path, device: torch.device, seconds: float) -> Training:
    """Training, where what oneDNN may remember is set before its first kernel; see `_train`."""
    # A child that dies of Ctrl-C says nothing: the parent hears it too.
    quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_DFL)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), **quiet) as apart:
        return apart.submit(_train, path, device, seconds).result()


def _train(path: Path, device: torch.device, seconds: float) -> Training:
    forget_old_kernels()
    keep_freed_memory()
    run = RunFolder(path)
    config = run.recipe.training
    model = run.new_model(attention_for(device))
    stepper = make_stepper(model, config, Processes(0, 1, device))
    batches = cycle(list(islice(_typical_batches(run), 50)))
    passes = 2 if config.r_drop else 1
    tokens = operations = 0.0
    step, start = 0, time.perf_counter()
    try:
        while step <= WARM_UP or time.perf_counter() - start < seconds:
            batch, step = next(batches), step + 1
            if step == WARM_UP + 1:
                tokens, operations, start = 0.0, 0.0, time.perf_counter()
            tokens += stepper(batch, step, stop=False).tokens
            operations += passes * training_operations(model, batch)
    except BatchTooLargeError:
        raise CalqueError("out of memory in training; lower training.batch_tokens") from None
    took = time.perf_counter() - start
    return Training(
        tokens_per_second=tokens / took,
        seconds_per_step=took / (step - WARM_UP),
        precision="bf16" if uses_bf16(config.precision, device) else "float32",
        operations_per_second=operations / took,
    )


def _typical_batches(run: RunFolder) -> Iterator[Batch]:
    """Synthetic, of lengths around the mean of what the run has been trained on."""
    counts = run.preparation.get("train", {})
    pairs = counts.get("pairs", 1)
    means = [counts.get(f"{side}_tokens", TYPICAL * pairs) / pairs for side in ("source", "target")]
    spread = np.random.default_rng(1).uniform(0.5, 1.5, size=(20_000, 1))
    lengths = np.maximum(1, spread * means).round().astype(np.int32)
    tokenizers, training = run.tokenizers, run.recipe.training
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    return synthetic_batches(lengths, sizes, training.batch_tokens * training.accumulation)


def _decode(translator: Translator, run: RunFolder, seconds: float) -> Decoding:
    lines, what = _sentences(run)
    translator.translate(lines[:FIRST_LINES])
    start = time.perf_counter()
    translator.translate(lines[:FIRST_LINES])
    rate = min(len(lines), FIRST_LINES) / (time.perf_counter() - start)
    many = list(islice(cycle(lines), max(FIRST_LINES, int(rate * seconds))))
    start = time.perf_counter()
    translator.translate(many)
    took = time.perf_counter() - start
    decoding = translator.decoding
    return Decoding(
        sentences=what,
        beam_size=decoding.beam_size if decoding.search == "beam" else 1,
        sentences_per_second=len(many) / took,
        seconds_for_one=_one_by_one(translator, lines[:SINGLE_LINES], seconds / 4),
    )


def _one_by_one(translator: Translator, lines: Sequence[str], seconds: float) -> float:
    taken, end = [], time.perf_counter() + seconds
    for line in lines:
        start = time.perf_counter()
        translator.translate([line])
        taken.append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return median(taken)


def _sentences(run: RunFolder) -> tuple[list[str], str]:
    """Sources to translate, and what they are."""
    if pairs := validation_pairs(run, 1000):
        return [source for source, _ in pairs], "validation sentences"
    source, generator = run.tokenizers.source, np.random.default_rng(1)
    ids = generator.integers(4, source.vocab_size, size=(200, TYPICAL)).tolist()
    return [line for line in source.decode(ids) if line.strip()], "random tokens"


def table(result: Benchmark) -> Table:
    """The result for a reader."""
    training, decoding = result.training, result.decoding
    cores = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    rows = {
        "machine": f"{result.processor}, {cores}",
        "model": f"{result.parameters:,} parameters",
        "matrix products, float32": f"{result.float32_rate / 1e9:,.0f} GFLOP/s",
        "matrix products, bf16": f"{result.bf16_rate / 1e9:,.0f} GFLOP/s",
        f"training, {training.precision}": f"{training.tokens_per_second:,.0f} target tokens/s, "
        f"{training.seconds_per_step:.2f} s a step",
        "of the product rate": f"{result.share:.0%}",
        f"decoding, beam {decoding.beam_size}": f"{decoding.sentences_per_second:,.1f} "
        f"sentences/s ({decoding.sentences})",
        "one sentence": f"{1000 * decoding.seconds_for_one:,.0f} ms",
    }
    shown = Table(box=SIMPLE, show_header=False)
    for what, found in rows.items():
        shown.add_row(what, found)
    return shown
