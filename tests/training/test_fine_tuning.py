"""Training from another run's weights: exact, never worse than its start, with its vocabulary."""

import io
import json
import re
import shutil

import pytest
import sentencepiece
import torch

from calque.checkpoint import RunFolder, load_tensors
from calque.config import CalqueError
from calque.fine_tuning import make_fine_tuning_recipe
from calque.recipe import make_recipe
from calque.text.tokenizers.interface import SpecialIds
from calque.text.tokenizers.pair import Tokenizers
from calque.text.tokenizers.sentence_piece import BPE
from calque.training import loop
from calque.training.loop import resume, train
from calque.training.preparation import prepare_corpora
from calque.training.validation import Validation, validate
from calque.translator import Translator

SHORT = {"max_steps": 12, "validate_every": 4, "save_every": 5, "batch_tokens": 400}
DEATHS = {
    "making the run folder": [
        {"die_half_written": 1},
        {"die_at": [["rename"], 1]},
        {"die_at": [["validation"], 1]},
        {"die_half_written": 1},
        {"die_at": [["log"], 1]},
        {"die_at": [["step"], 1]},
    ],
    "between saved steps": [{"die_at": [["step"], number]} for number in (7, 2, 4)],
    "publishing": [
        {"die_at": [["publish"], 1]},
        {"die_at": [["replace"], 2, "publish"]},
        {"die_at": [["unlink"], 1, "publish"]},
    ],
}


@pytest.fixture(scope="module")
def start(child, tiny, tmp_path_factory):
    """A run to start from."""
    out = tmp_path_factory.mktemp("start") / "run"
    assert child(out, tiny(training={"max_steps": 12, "validate_every": 12})).wait() == 0
    return out


@pytest.fixture
def recipe(start, corpus):
    """Makes a recipe that starts from there; the keywords are keys of its training."""

    def make(**training):
        files = {s: [str(corpus / f"{s}.en"), str(corpus / f"{s}.de")] for s in ("train", "valid")}
        values = {"data": files, "training": SHORT | training}
        return make_fine_tuning_recipe(values, RunFolder(start).recipe, "recipe")

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "tuned"


@pytest.fixture
def scores(monkeypatch):
    """Validations come out as it is said here: BLEU alone."""

    def say(*bleus):
        found = iter([Validation(1.0, bleu) for bleu in bleus])
        monkeypatch.setattr(loop, "validate", lambda *_: next(found))

    return say


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def same_weights(one, two):
    first, second = load_tensors(one), load_tensors(two)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# What it starts from


def test_step_0_is_the_model_that_it_starts_from(start, recipe, out, console):
    assert train(recipe(), out, console, RunFolder(start))
    origin = RunFolder(start)
    valid = prepare_corpora(recipe(), origin.tokenizers, console).valid
    expected = validate(origin.load_model(), valid, origin.tokenizers, recipe())
    first = metrics(out)[0]
    assert (first["step"], first["valid_bleu"]) == (0, expected.bleu)
    assert first["valid_loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert [line["step"] for line in metrics(out) if "valid_loss" in line] == [0, 4, 8, 12]
    assert f"step 0 (the start) · validation loss {expected.loss:.3f}" in console.file.getvalue()
    # In the end it is a run like any other.
    assert {path.name for path in out.iterdir()} == {path.name for path in start.iterdir()}
    for file in (start / "tokenizer").iterdir():
        assert (out / "tokenizer" / file.name).read_bytes() == file.read_bytes()


def test_it_goes_on_learning_from_there(start, recipe, out, console):
    changes = {"stop_on": "loss", "learning_rate": 0.01, "warmup_steps": 1, "patience": 9}
    assert train(recipe(**changes), out, console, RunFolder(start))
    losses = [line["valid_loss"] for line in metrics(out) if "valid_loss" in line]
    begun = [line["valid_loss"] for line in metrics(start) if "valid_loss" in line]
    assert losses[0] == pytest.approx(min(begun), rel=1e-4)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.05
    assert "best weights in" in console.file.getvalue()
    assert Translator.load(out).translate(["The cat sleeps."])


def test_characters_that_the_vocabulary_has_not_become_bytes(start, corpus, tmp_path, console):
    for side, line in (("en", "The 狗 sleeps 🐕."), ("de", "Der 狗 schläft 🐕.")):
        (tmp_path / f"new.{side}").write_text(f"{line}\n" * 3)
    new = [str(tmp_path / "new.en"), str(tmp_path / "new.de")]
    values = {"data": {"train": new, "valid": new}, "training": SHORT | {"max_steps": 1}}
    origin = RunFolder(start)
    train(make_fine_tuning_recipe(values, origin.recipe, "r"), tmp_path / "out", console, origin)
    told = RunFolder(tmp_path / "out").preparation["train"]
    assert (told["pairs"], told["source_unknown"], told["left_out"]) == (3, 0, {})


# Never worse than its start


@pytest.mark.parametrize(
    ("bleus", "best"), [((30, 29, 30, 28), 0), ((30, 31, 29, 32), 12)], ids=str
)
def test_what_it_starts_from_counts_as_the_best_so_far(
    bleus, best, start, recipe, out, console, scores
):
    scores(*bleus)
    assert train(recipe(patience=9), out, console, RunFolder(start))
    assert [path.name for path in RunFolder(out).best()] == [f"step-{best:08d}"]
    last = console.file.getvalue().splitlines()[-1]
    assert same_weights(out / "model.safetensors", start / "model.safetensors") == (best == 0)
    assert ("no step was better than the start" in last) == (best == 0)
    assert ("best weights in" in last) == (best != 0)


def test_patience_counts_from_the_start(start, recipe, out, console, scores):
    scores(30, 29, 29)
    train(recipe(patience=2), out, console, RunFolder(start))
    assert metrics(out)[-1]["step"] == 8


@pytest.mark.parametrize("of_mean", [29, 31])
def test_a_mean_must_beat_the_start_too(of_mean, start, recipe, out, console, scores):
    scores(30, 29, 29, 29, of_mean)
    train(recipe(keep_last=2, average=2), out, console, RunFolder(start))
    last = console.file.getvalue().splitlines()[-1]
    assert ("averaged weights in" in last) == (of_mean > 30)
    assert ("no step was better" in last) == (of_mean < 30)


# Kills


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
def test_killed_while(deaths, start, recipe, killed, never_killed):
    asked = recipe(average=2, keep_last=2, patience=9)
    whole = never_killed(asked, start=str(start))
    assert whole["metrics.jsonl"][0]["step"] == 0
    assert killed(asked, deaths, start=str(start)) == whole


def test_a_resume_asks_nothing_of_the_run_that_it_started_from(
    start, recipe, child, tmp_path, never_killed, content
):
    asked, out, copy = recipe(stop_on="loss"), tmp_path / "out", tmp_path / "copy"
    shutil.copytree(start, copy)
    assert child(out, asked, start=str(copy), die_at=[["step"], 3]).wait() < 0
    shutil.rmtree(copy)
    assert child(out).wait() == 0
    assert RunFolder(out).preparation["start"] == str(copy)
    assert unlike(content(out), never_killed(asked, start=str(start))) == {
        "manifest.json",
        "preparation.json",
    }


def unlike(one, other):
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def test_another_start_ends_otherwise(child, tiny, start, recipe, never_killed, tmp_path):
    other = tmp_path / "other"
    assert child(other, tiny(training={"max_steps": 6})).wait() == 0
    asked = recipe(stop_on="loss")
    ends = [never_killed(asked, start=str(run))["model.safetensors"] for run in (start, other)]
    assert ends[0] != ends[1]


def test_an_altered_start_is_not_gone_on_with(start, recipe, out, child):
    one = child(out, recipe(), start=str(start), die_at=[["step"], 2])
    assert one.wait() < 0
    weights = bytearray((out / "initial.safetensors").read_bytes())
    weights[-1] ^= 1
    (out / "initial.safetensors").write_bytes(weights)
    with pytest.raises(CalqueError, match=r"initial\.safetensors: altered"):
        resume(out)


# A model learnt elsewhere


@pytest.fixture
def imported(tmp_path, corpus):
    """A run without data, whose vocabulary has Marian's ids: padding last, and begun with."""
    lines = [
        line for side in ("en", "de") for line in (corpus / f"train.{side}").read_text().split("\n")
    ]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=149,
        bos_id=-1,
        eos_id=0,
        unk_id=1,
    )
    both = BPE(model.getvalue())
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_ff": 32}
    parts = {"positions": "half_split", "heads": "biased", "output": "biased"}
    recipe = make_recipe(
        {
            "tokenizer": {"kind": "bpe", "vocab_size": both.vocab_size},
            "model": {**sizes, **parts, "num_heads": 2},
            "decoding": {"search": "greedy", "max_length": 20},
        },
        "imported",
    )
    run = RunFolder.create(tmp_path / "imported", recipe, Tokenizers(both, both), {})
    torch.manual_seed(1)
    run.publish(run.new_model().state_dict())
    return run


def test_a_vocabulary_with_other_special_ids_is_trained_on(imported, corpus, out, console):
    for side in ("en", "de"):
        (out.parent / f"train.{side}").write_text((corpus / f"train.{side}").read_text() + "狗\n")
    train_files = [str(out.parent / f"train.{side}") for side in ("en", "de")]
    valid_files = [str(corpus / f"valid.{side}") for side in ("en", "de")]
    values = {
        "data": {"train": train_files, "valid": valid_files},
        "training": SHORT | {"learning_rate": 0.01, "stop_on": "loss"},
    }
    recipe = make_fine_tuning_recipe(values, imported.recipe, "recipe")
    assert train(recipe, out, console, imported)
    run = RunFolder(out)
    assert run.tokenizers.special == SpecialIds(pad=149, unk=1, bos=149, eos=0)
    assert run.load_model().config.pad_id == 149
    losses = [line["valid_loss"] for line in metrics(out) if "valid_loss" in line]
    assert losses[-1] < losses[0] - 0.3
    told = run.preparation["train"]
    assert told["pairs"] == 161
    assert min(told["source_unknown"], told["target_unknown"]) >= 1
    assert "tokens (unknown: " in console.file.getvalue()


# What is refused


def test_another_model_is_refused_before_anything_is_written(start, tiny, out, console):
    recipe = tiny(model={"d_model": 32}, tokenizer={"vocab_size": 340})
    with pytest.raises(CalqueError, match=r"tokenizer\.vocab_size = .*, model\.d_model = "):
        train(recipe, out, console, RunFolder(start))
    assert not out.exists()


def test_a_training_without_data_is_refused(start, out, console):
    for recipe in (make_recipe({}, "r"), make_fine_tuning_recipe({}, RunFolder(start).recipe, "r")):
        with pytest.raises(CalqueError, match="data: train and valid each need at least one"):
            train(recipe, out, console, RunFolder(start))
    assert not out.exists()


def test_a_run_that_has_no_weights_yet_is_refused(start, recipe, out, tmp_path, console):
    broken = shutil.copytree(start, tmp_path / "broken")
    origin = RunFolder(broken)
    origin.finished = False
    for folder in ("best", "checkpoints"):
        shutil.rmtree(broken / folder)
    with pytest.raises(CalqueError, match=f"{re.escape(str(broken))}: no weights yet"):
        train(recipe(), out, console, origin)
    assert not out.exists()
