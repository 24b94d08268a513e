"""A corpus and a recipe small enough to train on in a second, and trainings in their own process.

Real processes are killed by real signals. They come from a server that has imported torch once.
"""

import io
import json
import multiprocessing
import os
import runpy
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from calque.demo.grammar import write_corpus
from calque.recipe import Recipe, make_recipe

CHILD = Path(__file__).with_name("child.py")
SECONDS = 120  # after so many, a process hangs
TIMES = ("seconds", "tokens_per_second")
Content = dict[str, object]


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Bitwise equality is promised for the CPU."""
    if "gpu" not in request.keywords:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def console() -> Console:
    """What is printed stays in `console.file`."""
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated pairs: train, valid and test as .en and .de."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, seed=7, train=160, valid=8, test=8)
    return folder


@pytest.fixture(scope="session")
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

    def wait_for(self, text: str) -> None:
        """Return when it has printed `text`."""
        end = time.monotonic() + SECONDS
        while text not in self.printed:
            assert time.monotonic() < end, f"does not say {text!r}, but: {self.printed}"
            time.sleep(0.01)

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    @property
    def printed(self) -> str:
        """What it has written to standard output and standard error so far."""
        return self.log.read_text()


@pytest.fixture(scope="session")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Child]]:
    """Starts a training (or resumes one, without a recipe) in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # torch.optim imports the second one, slowly, for the first optimizer that it makes.
    context.set_forkserver_preload(["calque.training.loop", "torch._dynamo"])
    logs = tmp_path_factory.mktemp("logs")
    started: list[Child] = []

    def start(
        out: Path,
        recipe: Recipe | None = None,
        environment: dict[str, str] | None = None,
        **job: Any,
    ) -> Child:
        log = logs / f"{len(started)}.log"
        log.touch()
        shared = {"XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache")}
        job |= {
            "out": str(out),
            "recipe": recipe.to_toml() if recipe else None,
            "log": str(log),
            "environment": shared | (environment or {}),
        }
        process = context.Process(
            target=runpy.run_path, args=(str(CHILD), {"job": json.dumps(job)}), daemon=True
        )
        process.start()
        started.append(Child(process, log))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join()
        one.process.close()


def content_of(run: Path) -> Content:
    """Everything that a run folder holds, apart from times and TensorBoard's files."""
    files = [file for file in run.rglob("*") if file.is_file() and "tensorboard" not in file.parts]
    return {str(file.relative_to(run)): _content(file, run) for file in files}


def _content(file: Path, run: Path) -> object:
    if file.name == "metrics.jsonl":
        return [_without_times(json.loads(line)) for line in file.read_text().splitlines()]
    if file.name == "training.json":
        return _without_times(json.loads(file.read_text()))
    if file.name == "manifest.json" and file.parent != run:  # it has the hash of training.json
        return None
    return file.read_bytes()


def _without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in TIMES}


@pytest.fixture(scope="session")
def content() -> Callable[[Path], Content]:
    return content_of


@pytest.fixture
def killed(child: Callable[..., Child], tmp_path: Path) -> Callable[..., Content]:
    """What a run holds in the end that has died all these deaths, each of them for certain."""
    out = tmp_path / "killed"

    def run(recipe: Recipe, deaths: list[dict[str, Any]], **origin: str) -> Content:
        for death in deaths:
            one = child(out, None if out.exists() else recipe, **origin, **death)
            assert one.wait() == -signal.SIGKILL, (death, one.printed)
        assert child(out, None if out.exists() else recipe, **origin).wait() == 0
        return content_of(out)

    return run


@pytest.fixture(scope="module")
def never_killed(
    child: Callable[..., Child], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Content]:
    """What a run holds that nothing has happened to."""
    known: dict[tuple[str, ...], Content] = {}

    def run(recipe: Recipe, **origin: str) -> Content:
        key = recipe.to_toml(), *origin.values()
        if key not in known:
            out = tmp_path_factory.mktemp("whole") / "run"
            assert child(out, recipe, **origin).wait() == 0
            known[key] = content_of(out)
        return known[key]

    return run
