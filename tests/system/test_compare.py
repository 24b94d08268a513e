"""`calque compare`, from its file to the table; killed in the middle and called again."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calque.checkpoint import RunFolder
from calque.evaluation.evaluate import compare_runs, read_evaluation_pairs
from calque.text.data import CorpusConfig
from calque.translator import Translator

COMPARE = """
base = "recipe.toml"
seeds = [7]
budget.steps = 60
measures = ["bleu_by_length"]
[changes]
none = { model.positions = "none" }
"too many words" = { tokenizer.vocab_size = 50000 }
"""
COMMAND = [sys.executable, "-m", "calque", "compare", "compare.toml", "--jobs", "1"]


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the corpus and the recipe of `trained`, but not its run."""
    found = tmp_path_factory.mktemp("compare")
    for file in (*trained.glob("*.en"), *trained.glob("*.de"), trained / "recipe.toml"):
        shutil.copy(file, found)
    (found / "compare.toml").write_text(COMPARE)
    return found


def wait_for(file: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not any(file.parent.glob(file.name)):
        assert time.monotonic() < end, f"no {file}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def results(folder: Path) -> tuple[list[dict], str, str]:
    """Killed while the first run trains, then called again: table, what was printed, and when."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    quiet = {
        "cwd": folder,
        "env": environment,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    first = subprocess.Popen(COMMAND, start_new_session=True, **quiet)  # type: ignore[call-overload]
    wait_for(folder / "runs" / folder.name / "base" / "seed-7" / "checkpoints" / "step-*")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    begun = (folder / "runs" / folder.name / "base" / "seed-7.log").read_text()
    assert not (folder / "results.csv").exists()
    again = subprocess.run(COMMAND, check=False, text=True, **quiet)  # type: ignore[call-overload]
    assert again.returncode == 1, again.stdout
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)), again.stdout, begun


class TestComparison:
    def test_what_was_begun_goes_on(self, folder, results):
        run = folder / "runs" / folder.name / "base" / "seed-7"
        assert RunFolder(run).finished
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records if "valid_bleu" in r] == [30, 60]
        # The second process did not begin anew: the first says what the corpus is, alone.
        assert "train: 200 pairs" in results[2]
        assert "train: 200 pairs" not in run.with_name("seed-7.log").read_text()

    def test_rows_hold_what_the_runs_are(self, folder, results):
        base, none, _ = results[0]
        assert [row["change"] for row in results[0]] == ["base", "none", "too many words"]
        runs = folder / "runs" / folder.name
        pairs = read_evaluation_pairs(
            CorpusConfig(source=str(folder / "valid.en"), target=str(folder / "valid.de"))
        )
        translators = [Translator.load(runs / row / "seed-7") for row in ("base", "none")]
        expected = compare_runs(translators[0], translators[1], pairs, "de")[0]
        assert float(base["bleu"]) == pytest.approx(expected.baseline.score)
        assert float(none["bleu"]) == pytest.approx(expected.other.score)
        assert float(none["p_value"]) == pytest.approx(expected.p_value)
        assert none["verdict"] == expected.verdict
        model = translators[1].model
        assert int(none["parameters"]) == sum(p.numel() for p in model.parameters())
        for row in (base, none):
            assert float(row["training_tokens_per_second"]) > 0
            assert float(row["decoding_sentences_per_second"]) > 0
            assert 100 < float(row["peak_memory_mb"]) < 10_000
            assert 1 < float(row["validation_perplexity"]) < 500

    def test_a_run_that_fails_is_reported_and_the_others_go_on(self, results):
        failed = results[0][-1]
        assert "tokenizer.vocab_size: 50000 is too large" in failed["problem"]
        assert (failed["bleu"], failed["verdict"]) == ("", "")
        assert "too many words, seed 7: failed: tokenizer.vocab_size" in results[1]

    def test_table_and_pictures_are_written(self, folder, results):
        page = (folder / "results.md").read_text("utf-8")
        assert page.count("| base |") == 2  # the table, and BLEU by length
        assert "60 steps of training, seeds 7" in page
        for picture in ("results.png", "results-bleu-by-length.png"):
            assert f"({picture})" in page
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    def test_a_measure_has_its_numbers_in_a_file_as_in_the_table(self, folder, results):
        page = (folder / "results.md").read_text("utf-8")
        with (folder / "results-bleu-by-length.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["change"] for row in rows] == ["base", "none"]
        for row in rows:
            name, *numbers = row.values()
            assert f"| {name} | {' | '.join(f'{float(x):.1f}' for x in numbers)} |" in page


def test_what_has_been_measured_needs_no_run_folder(calque, folder, results, monkeypatch):
    monkeypatch.chdir(folder)
    before = (folder / "results.csv").read_text()
    for row in ("base", "none"):
        (folder / "runs" / folder.name / row).rename(folder / row)
    outcome = calque("compare", "compare.toml")
    assert not (folder / "runs" / folder.name / "base").exists()
    for row in ("base", "none"):
        (folder / row).rename(folder / "runs" / folder.name / row)
        assert f"{row}, seed 7: measured before" in outcome.out
    assert (folder / "results.csv").read_text() == before


def test_nothing_trains_when_a_change_is_refused(calque, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    file = tmp_path / "compare.toml"
    recipe = json.dumps(str(folder / "recipe.toml"))
    text = f"base = {recipe}\nbudget.steps = 1\n[changes]\nodd = {{ model.num_heads = 7 }}\n"
    file.write_text(text)
    outcome = calque("compare", file, "--runs", tmp_path / "runs")
    assert (outcome.code, outcome.out) == (2, "")
    assert "compare.toml: 'odd'.model: d_model 32 is no multiple of num_heads 7" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_a_run_of_another_recipe_is_not_touched(calque, folder, results, monkeypatch):
    monkeypatch.chdir(folder)
    other = (folder / "compare.toml").read_text().replace("steps = 60", "steps = 70")
    (folder / "changed.toml").write_text(other)
    runs = folder / "runs" / folder.name
    runs.with_name(f"{folder.name}-changed").symlink_to(runs)
    outcome = calque("compare", "changed.toml")
    assert (outcome.code, outcome.out) == (2, "")
    assert "begun with another recipe, which differs in training.max_steps" in outcome.err
