"""What is measured of each run once it has been trained."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from calque.checkpoint import RunFolder
from calque.comparison.plan import Plan, Run
from calque.evaluation.evaluate import read_evaluation_pairs
from calque.inspection.training import training
from calque.training.state import STATE
from calque.translator import Translator

WARM_UP = 32  # lines


@dataclass(frozen=True)
class EvaluationSet:
    """What all runs translate, line by line."""

    sources: list[str]
    references: list[str]
    files: list[str]
    """Of each line, the name of the corpus that it is from."""

    @classmethod
    def read(cls, plan: Plan) -> "EvaluationSet":
        """The pairs that translations are scored on. Raises CalqueError when there are none."""
        found = cls([], [], [])
        for corpus in plan.test:
            pairs = read_evaluation_pairs(corpus)
            name = corpus.file or corpus.source
            first = name if isinstance(name, str) else name[0]
            found.sources.extend(pairs.sources)
            found.references.extend(pairs.references)
            found.files.extend([Path(first).stem] * len(pairs.sources))
        return found


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run. Rates are of its own process, on one thread or one GPU."""

    seed: int
    parameters: int
    training_rate: float | None
    """Target tokens a second, validation not counted: the median of what metrics.jsonl has."""
    decoding_rate: float
    """Sentences of the test set a second, from text to text."""
    peak_memory: float | None
    """Most bytes of main memory that the training process held (resident set)."""
    perplexity: float
    """On the validation data: the lowest of all validations."""
    seconds: float
    """Of training, with validations."""
    hypotheses: list[str]


def measure(run: Run, test: EvaluationSet, device: str) -> Measured:
    """Measure a run that has been trained. Raises CalqueError when its folder is damaged."""
    folder = RunFolder(run.folder)
    (course,) = training([run.folder])
    series = {name: [value for _, value in of_name] for name, of_name in course["series"].items()}
    state = json.loads((folder.checkpoints()[-1] / STATE).read_bytes())
    with _one_thread():
        translator = Translator.load(run.folder, device=device)
        translator.translate(test.sources[:WARM_UP])
        start = time.perf_counter()
        hypotheses = translator.translate(test.sources)
        took = time.perf_counter() - start
    return Measured(
        seed=run.seed,
        parameters=sum(p.numel() for p in translator.model.parameters()),
        training_rate=median(series["tokens_per_second"]) if series["tokens_per_second"] else None,
        decoding_rate=len(hypotheses) / took,
        peak_memory=run.facts.get("peak_memory"),
        perplexity=math.exp(min(700.0, *series["valid_loss"])),
        seconds=state["seconds"],
        hypotheses=hypotheses,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """As each training had; then as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
