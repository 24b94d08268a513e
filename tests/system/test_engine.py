"""`calque translate --engine ctranslate2`: the same translations, by an export that a run keeps."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from calque import Translator
from calque.checkpoint import RunFolder
from calque.interchange.ctranslate2 import CTranslate2Engine
from calque.interchange.kept_export import KEPT, ORIGIN

ENGINE = ("--engine", "ctranslate2")


def made(run: Path) -> dict[str, int]:
    """When each file of a run's export was written."""
    files = [file for file in (run / KEPT).rglob("*") if file.is_file()]
    return {str(file.relative_to(run)): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def exported(calque, trained, tmp_path_factory) -> Path:
    """A copy of the trained run that has its export."""
    run = shutil.copytree(trained / "run", tmp_path_factory.mktemp("engine") / "run")
    first = calque("translate", run, *ENGINE, stdin=b"\n")
    assert (first.code, first.out) == (0, "\n")
    assert first.err == f"{run / KEPT}: making it from the weights of the run, to be used again\n"
    return run


@pytest.fixture
def run(exported, tmp_path) -> Path:
    """A copy to change at will, and older than anything that is made from now on."""
    copy = shutil.copytree(exported, tmp_path / "run")
    for file in (copy / KEPT).rglob("*"):
        os.utime(file, (0, 0))
    return copy


def test_it_translates_as_our_own_and_keeps_what_it_has_made(calque, exported, trained):
    lines = ["", *(trained / "test.en").read_text(encoding="utf-8").splitlines(), "unheard", " "]
    text = "".join(f"{line}\n" for line in lines * 5).encode()  # more than a window
    before = made(exported)
    found = calque("translate", exported, *ENGINE, stdin=text)
    assert (found.code, found.err) == (0, "")
    assert made(exported) == before
    ours = Translator.load(exported).translate(lines) * 5
    texts = found.out.split("\n")[:-1]
    assert len(texts) == len(ours)
    same = sum(one == other for one, other in zip(texts, ours, strict=True))
    # Each ends its beams by a rule of its own, and this model is sure of nothing.
    assert same >= 0.5 * len(ours)
    assert len(set(texts)) > 10
    greedy = calque("translate", exported, *ENGINE, "--beam-size", 1, stdin=text)
    assert greedy.out == calque("translate", exported, "--beam-size", 1, stdin=text).out


def test_a_run_with_an_export_is_a_run_as_before(calque, here):
    assert calque("translate", "run", "test.en", *ENGINE).code == 0
    before = made(here / "run")
    assert RunFolder(here / "run").finished
    assert calque("translate", "run", "test.en").out.count("\n") == 20
    assert calque("average", "run", "--last", 2).code == 0
    assert not (here / "run-average" / KEPT).exists()
    again = calque("train", "--resume", "--out", "run")
    assert (again.code, again.err) == (0, "")
    assert made(here / "run") == before


def test_the_search_can_be_asked_for(calque, run, trained):
    options = ["--beam-size", 3, "--length-penalty", 0.5]
    found = calque("translate", run, trained / "test.en", *ENGINE, *options)
    decoding = Translator.load(run).with_decoding(beam_size=3, length_penalty=0.5).decoding
    lines = (trained / "test.en").read_text(encoding="utf-8").splitlines()
    expected = CTranslate2Engine(run / KEPT, decoding).translate(lines)
    assert found.out.splitlines() == expected


def test_other_weights_have_another_export(calque, run, vouch):
    weights = run / "model.safetensors"
    last = sorted(run.glob("checkpoints/step-*"))[0]
    weights.write_bytes((last / "model.safetensors").read_bytes())
    vouch(run, "model.safetensors")
    found = calque("translate", run, *ENGINE, stdin=b"a line\n")
    assert (found.code, found.err.count("\n")) == (0, 1)
    assert min(made(run).values()) > 0
    hashes = json.loads((run / "manifest.json").read_text())["sha256"]
    assert json.loads((run / KEPT / ORIGIN).read_text()) == hashes
    assert calque("translate", run, *ENGINE, stdin=b"a line\n") == (0, found.out, "")


@pytest.mark.parametrize("name", ["model.bin", "recipe.toml", "manifest.json"])
def test_a_damaged_export_is_made_anew(calque, run, name):
    content = (run / KEPT / name).read_bytes()
    (run / KEPT / name).write_bytes(content[: len(content) // 2])
    assert "making it" in calque("translate", run, *ENGINE, stdin=b"a line\n").err
    assert min(made(run).values()) > 0
    assert (run / KEPT / name).read_bytes() == content


def test_while_training_it_is_of_the_best_so_far(calque, run, vouch):
    (run / "model.safetensors").unlink()
    vouch(run, "model.safetensors")
    assert "making it" in calque("translate", run, *ENGINE, stdin=b"a line\n").err
    assert calque("translate", run, *ENGINE, stdin=b"a line\n").err == ""


def test_what_somebody_else_has_put_there_is_left_alone(calque, run):
    (run / KEPT / ORIGIN).unlink()
    before = made(run)
    refused = calque("translate", run, *ENGINE, stdin=b"a line\n")
    assert (refused.code, refused.out) == (2, "")
    assert f"{KEPT}: in the way of the export" in refused.err
    assert made(run) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--n-best", 2, *ENGINE], "--n-best and --scores need --engine calque"),
        (["--scores", *ENGINE], "--n-best and --scores need --engine calque"),
        (["--engine", "ctranslate"], "--engine: no 'ctranslate'; did you mean 'ctranslate2'"),
    ],
)
def test_what_it_does_not_have_is_refused(calque, trained, options, told):
    refused = calque("translate", trained / "run", *options)
    assert (refused.code, refused.out) == (2, "")
    assert told in refused.err
    assert not (trained / "run" / KEPT).exists()


def test_a_missing_library_is_named_with_what_installs_it(calque, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    for module in ("ctranslate2", "kept_export"):
        monkeypatch.delitem(sys.modules, f"calque.interchange.{module}", raising=False)
    refused = calque("translate", trained / "run", *ENGINE)
    assert refused.code == 2
    assert "ctranslate2 is not installed; pip install 'calque[export]'" in refused.err
