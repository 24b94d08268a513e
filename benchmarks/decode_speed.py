"""Translating: calque against `generate` of transformers and CTranslate2, in the same run.

    python benchmarks/decode_speed.py --run runs/en-de
    python benchmarks/decode_speed.py --train-minutes 4

All translate the same lines by the same weights, from text to text: calque from the run, the
others from its exports. Each contender starts a fresh process in each round and warms up on some
of the lines, so that kernels are made for other shapes as they are when a file is translated; the
rounds alternate. What a contender does once, as to start workers, is no part of what is timed.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from apart import OUR_ENVIRONMENT, Apart
from machine import measure, use_threads
from plots import bars
from report import Row, add_options, add_pair, grouped, publish, ratio, require
from rich.console import Console

from calque.checkpoint import RunFolder
from calque.cli.workers import ParallelTranslator
from calque.evaluation.metrics import bleu
from calque.recipe import make_recipe
from calque.training.loop import train
from calque.translator import Translator

BATCH = 64  # lines, for transformers
CTRANSLATE2_BATCH = 32  # lines; budgets of 1,024 to 4,096 tokens were slower
WARM_UP = 320  # lines for each thread: more than a batch of calque's
Translate = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Task:
    """What each contender is to do with each beam; a beam of 1 is greedy search."""

    lines: list[str]
    warm_up: list[str]
    single: list[str]
    """To translate one by one."""
    beams: tuple[int, ...]


@dataclass(frozen=True)
class Translated:
    """What it came to."""

    seconds: float
    texts: list[str]
    single: list[float]
    """Seconds for each line by itself."""


@dataclass(frozen=True)
class Models:
    """Where the same weights lie for each."""

    run: Path
    hugging_face: Path
    ctranslate2: Path
    int8: Path


class Contender:
    """Times a way to translate."""

    def __init__(self, make: Callable[[Models, int], Translate], models: Models) -> None:
        self.make, self.models = make, models

    def __call__(self, task: Task) -> dict[int, Translated]:
        return {beam: self._timed(task, self.make(self.models, beam)) for beam in task.beams}

    def _timed(self, task: Task, translate: Translate) -> Translated:
        translate(task.warm_up)
        seconds, texts = _clocked(translate, task.lines)
        single = [_clocked(translate, [line])[0] for line in task.single]
        return Translated(seconds, texts, single)


def _clocked(translate: Translate, lines: list[str]) -> tuple[float, list[str]]:
    start = time.perf_counter()
    texts = translate(lines)
    return time.perf_counter() - start, texts


def calque(models: Models, beam: int, precision: str = "auto", workers: int = 1) -> Translate:
    """Our own engine: all threads on one batch, or workers with one thread each."""
    translator = Translator.load(models.run)
    search = {"search": "greedy"} if beam == 1 else {"search": "beam", "beam_size": beam}
    # The peers can only divide by a power of the length: all search for the same then.
    same = {"length_normalisation": "power"}
    decoding = replace(translator.decoding, precision=precision, **search, **same)
    translator = translator.searching(decoding)
    if workers == 1:
        return translator.translate
    parallel = ParallelTranslator(translator, workers)
    parallel.start()
    parallel.wait_until_ready()
    return lambda lines: [best.text for best, *_ in parallel.n_best(lines)]


def transformers(models: Models, beam: int) -> Translate:
    """`generate`, on batches of lines sorted by length."""
    import transformers as library  # noqa: PLC0415 - seconds, for this contender alone

    logging.getLogger("transformers").setLevel(logging.ERROR)
    library.utils.logging.disable_progress_bar()
    tokenizer = library.AutoTokenizer.from_pretrained(models.hugging_face)
    model: Any = library.AutoModelForSeq2SeqLM.from_pretrained(models.hugging_face).eval()
    settings = {"num_beams": beam, "early_stopping": False}  # its default
    if beam == 1:
        settings["length_penalty"] = 1.0
    model.generation_config.update(**settings)

    def translate(lines: list[str]) -> list[str]:
        ids = tokenizer(lines)["input_ids"]
        order = sorted(range(len(lines)), key=lambda row: len(ids[row]), reverse=True)
        texts = [""] * len(lines)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            inputs = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            found = model.generate(**inputs)
            decoded = tokenizer.batch_decode(found, skip_special_tokens=True)
            for row, text in zip(rows, decoded, strict=True):
                texts[row] = text
        return texts

    return translate


def ctranslate2(
    models: Models, beam: int, export: str = "ctranslate2", workers: int = 1
) -> Translate:
    """`translate_batch` as its user calls it: it sorts by length, and gives the best alone."""
    import ctranslate2 as library  # noqa: PLC0415

    from calque.interchange.ctranslate2_spec import names  # noqa: PLC0415

    run = RunFolder(models.run)
    of_source, target = run.tokenizers.source, run.tokenizers.target
    source_names = names(of_source)
    ids = {name: i for i, name in enumerate(names(target))}
    threads = torch.get_num_threads()
    translator = library.Translator(
        str(getattr(models, export)), inter_threads=workers, intra_threads=threads // workers
    )
    decoding = run.recipe.decoding

    def translate(lines: list[str]) -> list[str]:
        sources = [[source_names[i] for i in row] for row in of_source.encode(lines)]
        results = translator.translate_batch(
            sources,
            max_batch_size=CTRANSLATE2_BATCH,
            beam_size=beam,
            length_penalty=decoding.length_penalty,
            max_decoding_length=decoding.max_length,
        )
        return target.decode([[ids[name] for name in r.hypotheses[0]] for r in results])

    return translate


OURS, PEER, PEER_FLOAT32 = "calque", "transformers", "CTranslate2 float32"
MAKERS: dict[str, Callable[[Models, int], Translate]] = {
    OURS: calque,
    "calque, float32": partial(calque, precision="float32"),
    PEER: transformers,
    PEER_FLOAT32: ctranslate2,
    "CTranslate2 int8": partial(ctranslate2, export="int8"),
}
"""Where there are several threads, two more have a worker for each."""


def measure_all(models: Models, task: Task, rounds: int) -> dict[str, list[dict[int, Translated]]]:
    """By contender and round, what came of each beam."""
    makers = dict(MAKERS)
    if (threads := torch.get_num_threads()) > 1:
        makers[f"{OURS}, {threads} workers"] = partial(calque, workers=threads)
        makers[f"{PEER_FLOAT32}, {threads} workers"] = partial(ctranslate2, workers=threads)
    results: dict[str, list[dict[int, Translated]]] = {name: [] for name in makers}
    with Console(stderr=True).status("starting") as status:
        for number in range(rounds):
            for name, make in makers.items():
                status.update(f"round {number + 1} of {rounds}: {name}")
                environment = OUR_ENVIRONMENT if name.startswith(OURS) else {}
                with Apart(Contender, make, models, environment=environment) as contender:
                    results[name].append(contender(task))
    return results


def rows_of(
    results: dict[str, list[dict[int, Translated]]],
    beam: int,
    references: Sequence[str],
    language: str | None,
) -> list[Row]:
    """A row for each contender, with one beam."""
    found = {name: [r[beam] for r in of_name] for name, of_name in results.items()}
    rates = {name: [len(references) / r.seconds for r in runs] for name, runs in found.items()}
    single = {name: [median(r.single) for r in runs] for name, runs in found.items()}
    rows = []
    for name, runs in found.items():
        row: Row = {
            "contender": name,
            "search": "greedy" if beam == 1 else f"beam {beam}",
            "sentences/s": median(rates[name]),
            f"times {PEER}": ratio(rates[name], rates[PEER]),
            f"times {PEER_FLOAT32}": ratio(rates[name], rates[PEER_FLOAT32]),
            "one sentence, ms": 1000 * median(single[name]),
            f"of {PEER_FLOAT32}'s": ratio(single[name], single[PEER_FLOAT32]),
            "BLEU": f"{bleu(runs[0].texts, references, language):.2f}",
        }
        rows.append(row)
    return rows


@contextmanager
def exported(run: Path) -> Iterator[Models]:
    """The run's exports, for as long as the block runs."""
    from calque.interchange.export import export  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        models = Models(run, *(Path(folder) / name for name in ("hf", "ct2", "int8")))
        opened = RunFolder(run)
        export(opened, models.hugging_face, "hugging-face", None)
        export(opened, models.ctranslate2, "ctranslate2", None)
        export(opened, models.int8, "ctranslate2", "int8")
        yield models


def train_quickly(options: argparse.Namespace, run: Path) -> None:
    """A tiny model, good enough to end its sentences where they end."""
    values = {
        "preset": "tiny",
        "data": {"train": list(map(str, options.train)), "valid": list(map(str, options.valid))},
        "model": {"residual": "pre", "dropout": 0.1},
        "training": {
            "max_steps": 5000,
            "max_minutes": options.train_minutes,
            "schedule": "inverse_sqrt",
            "learning_rate": 0.003,
            "warmup_steps": 200,
        },
        "decoding": {"max_length": 100},
    }
    train(make_recipe(values, "benchmark"), run, Console(stderr=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; without it, one is trained")
    parser.add_argument("--train-minutes", type=float, default=4, help="default: %(default)s")
    parser.add_argument("--lines", type=int, help="of the test files; default: all")
    parser.add_argument("--single", type=int, default=50, help="lines one by one; default: 50")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--beam", type=int, default=5, help="beside greedy; default: %(default)s")
    add_pair(parser, "test", "test_2016_flickr")
    add_pair(parser, "train", "train")
    add_pair(parser, "valid", "val")
    add_options(parser)
    options = parser.parse_args()
    require(parser, *options.test, *([] if options.run else [*options.train, *options.valid]))
    use_threads(options.threads)
    machine = measure(torch.device("cpu"))
    lines, references = (
        file.read_text("utf-8").removesuffix("\n").split("\n")[: options.lines]
        for file in options.test
    )
    warm_up = lines[-WARM_UP * torch.get_num_threads() :]
    task = Task(lines, warm_up, lines[: options.single], (options.beam, 1))
    with tempfile.TemporaryDirectory() as folder:
        run = options.run or Path(folder) / "run"
        if not options.run:
            train_quickly(options, run)
        with exported(run) as models:
            results = measure_all(models, task, options.rounds)
        language = RunFolder(run).recipe.data.target_language
    rows = [row for beam in task.beams for row in rows_of(results, beam, references, language)]
    options.out.mkdir(parents=True, exist_ok=True)
    panels = grouped(rows, "search", "sentences/s")
    bars(options.out / "decode_speed.png", panels, "sentences/s")
    tables = {"": rows, "The machine, in the same run:": machine.rows()}
    publish("decode_speed", machine.description, tables, options.out, "decode_speed.png")


if __name__ == "__main__":
    main()
