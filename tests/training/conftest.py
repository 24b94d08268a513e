"""A corpus and a recipe small enough to train on in a second, and trainings in their own process.

Real processes are killed by real signals. They come from a server that has imported torch once.
"""

import json
import multiprocessing
import os
import runpy
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from calque.demo.grammar import write_corpus
from calque.recipe import Recipe, make_recipe

CHILD = Path(__file__).with_name("child.py")
SECONDS = 120  # after so many, a process hangs


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Bitwise equality is promised for the CPU."""
    if "gpu" not in request.keywords:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated pairs: train, valid and test as .en and .de."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, seed=7, train=160, valid=8, test=8)
    return folder


@pytest.fixture
def tiny(corpus: Path) -> Callable[..., Recipe]:
    """Makes a recipe for the corpus; the keywords are sections and what to change in them."""

    def make(**changes: dict[str, Any]) -> Recipe:
        data = {s: [str(corpus / f"{s}.en"), str(corpus / f"{s}.de")] for s in ("train", "valid")}
        sections: dict[str, dict[str, Any]] = {
            "data": {**data, "target_language": "de"},
            "tokenizer": {"vocab_size": 330},
            "model": {
                "num_encoder_layers": 1,
                "num_decoder_layers": 1,
                "d_model": 16,
                "d_ff": 32,
                "num_heads": 2,
                "dropout": 0.1,
            },
            "training": {
                "max_steps": 24,
                "batch_tokens": 400,
                "validate_every": 8,
                "save_every": 6,
                "schedule": "inverse_sqrt",
                "learning_rate": 0.01,
                "warmup_steps": 8,
                "precision": "float32",
                "stop_on": "loss",
            },
            "decoding": {"search": "greedy", "max_length": 20},
        }
        for section, values in changes.items():
            sections[section] |= values
        return make_recipe(sections, "tiny")

    return make


@dataclass
class Child:
    """A training in a process of its own."""

    process: BaseProcess
    log: Path

    def wait(self) -> int:
        """Its exit code: minus the number of the signal that ended it, if one did."""
        self.process.join(SECONDS)
        assert self.process.exitcode is not None, f"hangs after: {self.printed}"
        return self.process.exitcode

    @property
    def printed(self) -> str:
        """What it has written to standard output and standard error so far."""
        return self.log.read_text()


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., Child]:
    """Starts a training (or resumes one, without a recipe) in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # torch.optim imports the second one, slowly, for the first optimizer that it makes.
    context.set_forkserver_preload(["calque.training.loop", "torch._dynamo"])
    started: list[Child] = []

    def start(
        out: Path, recipe: Recipe | None = None, environment: dict[str, str] | None = None, **job: Any
    ) -> Child:
        log = tmp_path / f"child-{len(started)}.log"
        text = recipe.to_toml() if recipe else None
        environment = {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]} | (environment or {})
        job |= {"out": str(out), "recipe": text, "log": str(log), "environment": environment}
        process = context.Process(
            target=runpy.run_path, args=(str(CHILD), {"job": json.dumps(job)}), daemon=True
        )
        log.touch()
        process.start()
        started.append(Child(process, log))
        return started[-1]

    yield start  # pyright: ignore[reportReturnType]
    for one in started:
        with suppress(ValueError):
            one.process.kill()
            one.process.join()
            one.process.close()
