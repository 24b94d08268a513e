"""`calque train --from RUN`: a model that there is, on the user's own pairs."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from calque.checkpoint import load_tensors
from calque.fine_tuning import FINE_TUNING

FILES = ["--train", "train.en", "train.de", "--valid", "valid.en", "valid.de"]
SHORT = ["--set", "training.max_steps=4", "--set", "training.validate_every=4"]


def recipe_of(run: Path) -> dict[str, dict[str, object]]:
    return tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))


def test_two_pairs_of_files_and_a_run(calque, here):
    outcome = calque("train", *FILES, "--from", "run", "--out", "tuned", *SHORT)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"step 0 \(the start\) · validation loss [\d.]+ · BLEU", outcome.out)
    assert "done: 4 steps" in outcome.out
    old, new = recipe_of(here / "run"), recipe_of(here / "tuned")
    for section in ("tokenizer", "model", "decoding"):
        assert new[section] == old[section]
    assert new["data"]["target_language"] == "de"
    changed = {"max_steps": 4, "validate_every": 4}
    assert {key: new["training"][key] for key in FINE_TUNING} == FINE_TUNING | changed
    assert calque("translate", "tuned", "test.en").out.count("\n") == 20


def test_a_recipe_need_not_say_what_the_run_says(calque, here):
    text = (here / "recipe.toml").read_text()
    begin, end = text.index("[tokenizer]"), text.index("[training]")
    (here / "ours.toml").write_text(text[:begin] + text[end:])
    for name in ("recipe.toml", "ours.toml"):
        out = f"{name}-tuned"
        assert calque("train", name, "--from", "run", "--out", out, *SHORT).code == 0
    weights = [
        load_tensors(here / f"{n}-tuned/model.safetensors") for n in ("recipe.toml", "ours.toml")
    ]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_it_goes_on_without_the_run_that_it_started_from(calque, here):
    command = ["train", *FILES, "--from", "run", "--out", "tuned", *SHORT]
    assert calque(*command, "--set", "training.patience=1").code == 0
    (here / "tuned").rename(here / "other")
    assert calque(*command).code == 0
    refused = calque(*command)
    assert refused.code == 2
    assert "tuned: already holds a run" in refused.err
    again = calque(*command, "--resume")
    assert again.code == 0
    assert "has been trained to its end" in again.out
    changed = calque(*command, "--set", "training.seed=5", "--resume")
    assert changed.code == 2
    assert "changed since this run began, in training.seed" in changed.err
    (here / "run").rename(here / "gone")
    assert calque("train", "--resume", "--out", "tuned").code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from", "run", "--out", "new"], ["--from need RECIPE.toml or --train"]),
        ([*FILES[:3], "--from", "run", "--out", "new"], ["--train needs --valid"]),
        ([*FILES, "--from", "nowhere", "--out", "new"], ["nowhere: not a run folder"]),
        ([*FILES, "--from", "run"], ["--out is missing"]),
        ([*FILES, "--from", "run", "--out", "run"], ["run: already holds a run"]),
        (
            [*FILES, "--from", "run", "--out", "new", "--preset", "tiny"],
            [
                "run: to train from it",
                "model.d_model = 32 (given: 128)",
                "num_encoder_layers",
                "preset",
            ],
        ),
        (
            [*FILES, "--from", "run", "--out", "new", "--set", "tokenizer.kind=bpe"],
            ["run: to train from it", "tokenizer.kind = 'words' (given: 'bpe')"],
        ),
        (
            [*FILES, "--from", "run", "--out", "new", "--set", "model.d_modle=5"],
            ["command line.model: unknown key 'd_modle'; did you mean 'd_model'?"],
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_message(arguments, told, calque, here):
    outcome = calque("train", *arguments)
    assert outcome.code == 2
    assert [words for words in told if words not in outcome.err] == []
    assert outcome.err.count("\n") == 1
    assert not (here / "new").exists()


@pytest.mark.parametrize("said", ["", "[data]\nsource_language = 'en'\ntarget_language = 'de'\n"])
def test_another_direction_than_the_runs_is_refused(said, calque, memories):
    tables = [
        f"[[data.{split}]]\nfile = '{split}.tmx'\nsource = 'de'\ntarget = 'en'\n"
        for split in ("train", "valid")
    ]
    (memories / "back.toml").write_text(said + "".join(tables))
    place = "back.toml" if said else "run"  # where the languages stand
    told = f"back.toml.data.train[0]: source is 'de', but data.source_language is 'en' in {place}"
    outcome = calque("train", "back.toml", "--from", "run", "--out", "new", *SHORT)
    assert (outcome.code, outcome.err) == (2, f"Error: {told}\n")
    assert not (memories / "new").exists()


def test_a_recipe_without_data_can_be_read_but_not_trained(calque, here):
    (here / "empty.toml").write_text('preset = "tiny"\n')
    message = "empty.toml.data: train and valid each need at least one corpus"
    for command in (
        ["train", "empty.toml"],
        ["train", "empty.toml", "--from", "run"],
        ["check", "empty.toml"],
    ):
        outcome = calque(*command)
        assert (outcome.code, message in outcome.err) == (2, True)
    logged = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text().splitlines()]
    assert logged[0]["step"] > 0  # a training from scratch has no step 0
