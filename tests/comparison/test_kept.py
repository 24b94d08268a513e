"""What was measured is kept: for the same recipe on the same text, and no other."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from calque.comparison.kept import Kept
from calque.comparison.measuring import Measured
from calque.comparison.plan import Run
from calque.config import CalqueError
from calque.recipe import make_recipe

MEASURED = Measured(
    seed=3,
    parameters=12,
    training_rate=None,
    decoding_rate=1 / 3,
    peak_memory=1e9,
    perplexity=7.5,
    seconds=0.1,
    hypotheses=["Ein Haus.", "", "\u2028 «x»"],
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    for name in ("a", "b"):
        (tmp_path / name).write_text("one\ntwo\n")
    corpus = [str(tmp_path / "a"), str(tmp_path / "b")]
    recipe = make_recipe({"data": {"train": corpus, "valid": corpus}}, "recipe")
    return Run("base", 3, recipe, tmp_path / "runs" / "base" / "seed-3")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "results.jsonl.gz"


def test_what_is_kept_is_as_it_was(run: Run, file: Path) -> None:
    kept = Kept(file)
    assert run not in kept
    kept.add(run, MEASURED)
    kept.add(replace(run, recipe=replace(run.recipe, training=OTHER)), replace(MEASURED, seed=4))
    again = Kept(file)
    assert again[run] == kept[run] == MEASURED
    assert again[replace(run, row="renamed", folder=file)] == MEASURED


def test_another_recipe_or_another_text_is_another_run(run: Run, file: Path) -> None:
    Kept(file).add(run, MEASURED)
    assert run in Kept(file)
    assert replace(run, recipe=replace(run.recipe, training=OTHER)) not in Kept(file)
    Path(run.recipe.data.valid[0].source).write_text("one\nthree\n")
    assert run not in Kept(file)


def test_a_start_from_other_vectors_is_another_run(run: Run, file: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.safetensors"
    vectors.write_bytes(b"one")
    training = replace(run.recipe.training, embeddings=str(vectors))
    run = replace(run, recipe=replace(run.recipe, training=training))
    Kept(file).add(run, MEASURED)
    assert run in Kept(file)
    vectors.write_bytes(b"another")
    assert run not in Kept(file)
    vectors.unlink()
    with pytest.raises(CalqueError, match=r"vectors.safetensors: cannot be read"):
        run in Kept(file)  # noqa: B015


@pytest.mark.parametrize("damage", ["no gzip", "cut off", "other content"])
def test_a_damaged_file_is_named(damage: str, run: Run, file: Path) -> None:
    Kept(file).add(run, MEASURED)
    whole = file.read_bytes()
    damaged = {
        "no gzip": b"{}",
        "cut off": whole[:-9],
        "other content": gzip.compress(b'{"change": "base"}\n'),
    }
    file.write_bytes(damaged[damage])
    with pytest.raises(CalqueError, match=r"results.jsonl.gz: is damaged"):
        Kept(file)


OTHER = make_recipe({"training": {"seed": 9}}, "other").training
