"""The command line as a user meets it, and one small run that all system tests share."""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from calque.cli import main
from calque.demo.grammar import write_corpus

RECIPE = """
[data]
train = ["train.en", "train.de"]
valid = ["valid.en", "valid.de"]
source_language = "en"
target_language = "de"
[tokenizer]
kind = "words"
vocab_size = 100
[model]
num_encoder_layers = 1
num_decoder_layers = 1
d_model = 16
d_ff = 32
num_heads = 2
residual = "pre"
[training]
max_steps = 20
batch_tokens = 512
validate_every = 10
save_every = 5
keep_last = 3
keep_best = 2
schedule = "cosine"
learning_rate = 0.01
warmup_steps = 5
[decoding]
beam_size = 2
max_length = 12
"""


class Outcome(NamedTuple):
    """What a command leaves on the terminal."""

    code: int
    out: str
    err: str


Calque = Callable[..., Outcome]


def run_here(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
    """Run the command line in this process: PyTorch is imported only once."""
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["calque", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        main()
    written = (stream.buffer.getvalue().decode() for stream in (out, err))
    assert isinstance(end.value.code, int)
    return Outcome(end.value.code, *written)


@pytest.fixture(scope="session")
def calque() -> Calque:
    return run_here


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, `recipe.toml` and, in `run`, what was trained from them."""
    folder = tmp_path_factory.mktemp("trained")
    write_corpus(folder, seed=1, train=200, valid=20, test=20)
    (folder / "recipe.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        outcome = run_here("train", "recipe.toml", "--out", "run")
    assert outcome.code == 0, outcome
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `trained` to change at will, as the current folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path
