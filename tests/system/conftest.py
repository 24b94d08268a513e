"""The command line as a user meets it, and one small run that all system tests share."""

import hashlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple
from xml.sax.saxutils import escape

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
vocab_size = 500
[model]
num_encoder_layers = 1
num_decoder_layers = 1
d_model = 32
d_ff = 64
num_heads = 2
dropout = 0.0
residual = "pre"
[training]
max_steps = 60
batch_tokens = 1024
validate_every = 30
save_every = 20
keep_last = 3
keep_best = 2
schedule = "cosine"
learning_rate = 0.02
warmup_steps = 5
label_smoothing = 0.0
[decoding]
beam_size = 2
max_length = 12
precision = "float32"
"""


class Outcome(NamedTuple):
    """What a command leaves on the terminal."""

    code: int
    out: str
    err: str


Calque = Callable[..., Outcome]


def run_here(*arguments: str | Path, stdin: bytes = b"") -> Outcome:
    """Run the command line in this process: PyTorch is imported only once."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["calque", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return Outcome(end.value.code, _content(out), _content(err))


def _content(stream: IO[str]) -> str:
    stream.flush()
    stream.seek(0)
    return stream.buffer.read().decode()


@pytest.fixture(scope="session")
def calque() -> Calque:
    return run_here


def vouch_for(run: Path, *names: str) -> None:
    """Enter files into the manifest as they are now; those that are gone are no longer in it."""
    manifest = run / "manifest.json"
    hashes = json.loads(manifest.read_text())["sha256"]
    for name in names:
        hashes.pop(name, None)
        if (run / name).exists():
            hashes[name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    manifest.write_text(json.dumps({"sha256": hashes}))


@pytest.fixture(scope="session")
def vouch() -> Callable[..., None]:
    return vouch_for


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


@pytest.fixture
def memories(here: Path) -> Path:
    """The current folder, with the pairs of each split as a translation memory, `train.tmx` ..."""
    for split in ("train", "valid", "test"):
        sides = ((here / f"{split}.{code}").read_text("utf-8").splitlines() for code in CODES)
        pairs = zip(*sides, strict=True)
        units = "".join(f"<tu>{''.join(map(_variant, CODES, pair))}</tu>" for pair in pairs)
        (here / f"{split}.tmx").write_text(f"<tmx><body>{units}</body></tmx>", encoding="utf-8")
    return here


CODES = ("en", "de")


def _variant(code: str, text: str) -> str:
    return f'<tuv xml:lang="{code}"><seg>{escape(text)}</seg></tuv>'
