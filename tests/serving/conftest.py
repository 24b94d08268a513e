"""A small trained run, one of the other direction, and servers that are asked over the network."""

import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import torch
import uvicorn
from fastapi import FastAPI
from rich.console import Console

from calque.checkpoint import RunFolder
from calque.demo.grammar import write_corpus
from calque.recipe import Recipe, make_recipe
from calque.serving.app import Settings, create_app
from calque.text.tokenizers.pair import Tokenizers
from calque.training.loop import train
from calque.translator import Translator

Start = Callable[..., httpx2.Client]


def recipe(folder: Path, source: str, target: str) -> Recipe:
    sides = {
        split: [f"{folder}/{split}.{source}", f"{folder}/{split}.{target}"] for split in SPLITS
    }
    return make_recipe(
        {
            "data": {**sides, "source_language": source, "target_language": target or None},
            "tokenizer": {"kind": "bpe", "vocab_size": 1000},
            "model": SIZES,
            "training": TRAINING,
            "decoding": {"beam_size": 3, "max_length": 30, "precision": "float32"},
        },
        "test",
    )


SPLITS = "train", "valid"
SIZES = {
    "num_encoder_layers": 1,
    "num_decoder_layers": 2,
    "d_model": 32,
    "d_ff": 64,
    "num_heads": 2,
    "dropout": 0.0,
    "residual": "pre",
}
TRAINING = {
    "max_steps": 300,
    "batch_tokens": 512,
    "validate_every": 300,
    "save_every": 300,
    "schedule": "cosine",
    "learning_rate": 0.01,
    "warmup_steps": 20,
    "label_smoothing": 0.0,
    "precision": "float32",
}


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    write_corpus(folder, seed=3, train=400, valid=20, test=0)
    return folder


@pytest.fixture(scope="session")
def run(corpus: Path) -> Path:
    """English to German, trained for a moment: another source gives another translation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(corpus / "cache"))
        train(recipe(corpus, "en", "de"), corpus / "run", Console(file=io.StringIO()), None)
    return corpus / "run"


def untrained(corpus: Path, path: Path, source: str, target: str, seed: int = 1) -> Path:
    """A run with weights drawn at random."""
    described = recipe(corpus, source, target)
    lines = [(corpus / f"train.{code}").read_text("utf-8").splitlines() for code in ("en", "de")]
    if source == "de":
        lines.reverse()
    tokenizers = Tokenizers.train(described.tokenizer, lambda: zip(*lines, strict=True))
    RunFolder.create(path, described, tokenizers, {})
    torch.manual_seed(seed)
    RunFolder(path).publish(RunFolder(path).new_model().state_dict())
    return path


@pytest.fixture(scope="session")
def back(corpus: Path) -> Path:
    """German to English."""
    return untrained(corpus, corpus / "back", "de", "en")


@pytest.fixture(scope="session")
def make_run(corpus: Path) -> Callable[..., Path]:
    """Of a path, two languages and a seed, a run with random weights."""
    return lambda *arguments, **named: untrained(corpus, *arguments, **named)


@pytest.fixture(scope="session")
def translator(run: Path) -> Translator:
    return Translator.load(run)


@pytest.fixture(scope="session")
def sentences(corpus: Path) -> list[str]:
    """English sentences, none twice."""
    lines = (corpus / "train.en").read_text("utf-8").splitlines()
    return list(dict.fromkeys(lines))[:100]


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of a real server on a free port, in a thread of its own."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    server.config.lifespan = "on"
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def start() -> Iterator[Start]:
    """Of runs and settings, a client of a new server."""
    with pytest.MonkeyPatch.context(), _Servers() as servers:
        yield servers.start


class _Servers:
    """Servers, and clients of them, that end together."""

    def __enter__(self) -> "_Servers":
        self._open: list[object] = []
        return self

    def start(self, *runs: Path, **settings: object) -> httpx2.Client:
        serving = served(create_app(runs, Settings(**settings)))  # type: ignore[arg-type]
        address = serving.__enter__()
        client = httpx2.Client(base_url=address, timeout=30)
        self._open += [client, serving]
        return client

    def __exit__(self, *_: object) -> None:
        for opened in reversed(self._open):
            if isinstance(opened, httpx2.Client):
                opened.close()
        for opened in self._open:
            if not isinstance(opened, httpx2.Client):
                opened.__exit__(None, None, None)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def client(run: Path, back: Path) -> Iterator[httpx2.Client]:
    """Of a server with both directions and no settings."""
    with _Servers() as servers:
        yield servers.start(run, back)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The trained run, to change at will."""
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture(scope="session")
def error() -> Callable[[httpx2.Response], str]:
    """What an answer that is an error says; there is nothing else in it."""

    def read(response: httpx2.Response) -> str:
        content = json.loads(response.content)
        assert list(content) == ["error"]
        return content["error"]

    return read
