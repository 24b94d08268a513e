"""A training that is killed and resumed ends as the one that was never killed: bit by bit."""

import json
import re
import shutil
import signal

import pytest

from calque import Translator
from calque.config import CalqueError
from calque.training.loop import resume, train

THOROUGH = {
    "training": {
        "precision": "bf16",
        "batch_tokens": 300,
        "accumulation": 2,
        "validate_every": 4,
        "save_every": 5,
        "keep_best": 2,
        "keep_last": 2,
        "average": 2,
        "stop_on": "bleu",
        "patience": 6,
    },
}
PLAIN = {
    "tokenizer": {"kind": "words", "vocab_size": 200, "vocabulary": "separate"},
    "training": {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "save_every": 1},
}
SAMPLED = {"tokenizer": {"sampling": 0.1}, "training": {"max_steps": 50, "save_every": 7}}
STOP = """
real = Stepper.__call__
def stopped(self, batch, step, stop):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGTERM)
    return real(self, batch, step, stop)
Stepper.__call__ = stopped
"""
DEATHS = {
    "making the run folder": [
        {"die_at": [["flush"], 2]},
        {"die_at": [["rename"], 1]},
        {"die_at": [["step"], 1]},
    ],
    "between saved steps": [{"die_at": [["step"], number]} for number in (4, 9, 9, 7)],
    "validating, saving and removing": [
        {"die_half_written": 1},
        {"die_half_written": 3},
        {"die_at": [["validation"], 2]},
        {"die_at": [["flush"], 7]},
        {"die_at": [["replace"], 4]},
        {"die_at": [["rename"], 3]},
        {"die_at": [["remove"], 2]},
        {"die_at": [["unlink"], 3]},
        {"die_at": [["log"], 4]},
    ],
    "publishing": [
        {"die_at": [["publish"], 1]},
        {"die_at": [["validation"], 1, "publish"]},
        {"die_at": [["flush"], 1, "publish"]},
        {"die_at": [["replace"], 1, "publish"]},
        {"die_at": [["replace"], 2, "publish"]},
    ],
}


@pytest.mark.parametrize("deaths", DEATHS.values(), ids=DEATHS.keys())
def test_killed_while(deaths, tiny, killed, never_killed):
    recipe = tiny(**THOROUGH)
    assert killed(recipe, deaths) == never_killed(recipe)


def test_killed_at_any_step_with_other_parts(tiny, killed, never_killed):
    recipe = tiny(**PLAIN)
    deaths = [{"die_at": [["step"], number]} for number in (2, 3, 6, 1, 10)]
    assert killed(recipe, deaths) == never_killed(recipe)


def test_killed_with_subword_sampling(tiny, killed, never_killed):
    recipe = tiny(**SAMPLED)
    # In the first epoch, while the second is segmented, in the second, and in the third.
    deaths = [
        {"die_at": [["step"], 10]},
        {"die_at": [["flush"], 1, "epoch"]},
        {"die_at": [["step"], 20]},
        {"die_at": [["remove"], 1, "epoch"]},
    ]
    assert killed(recipe, deaths) == never_killed(recipe)


@pytest.mark.parametrize("recipe", [THOROUGH, {"training": {"save_every": 7, "keep_last": 9}}])
def test_stopped_between_saved_steps(recipe, tiny, child, content, never_killed, tmp_path):
    """What is saved at a stop is no part of what is kept or averaged at the end."""
    out = tmp_path / "stopped"
    for step in (3, 8, 11, 18):
        stop = STOP.format(step=step)
        assert child(out, None if out.exists() else tiny(**recipe), before=stop).wait() == 130
    assert child(out).wait() == 0
    assert content(out) == never_killed(tiny(**recipe))


def test_other_seeds_end_otherwise(tiny, never_killed):
    ends = [never_killed(tiny(training={"seed": seed}))["model.safetensors"] for seed in (1, 2)]
    assert ends[0] != ends[1]


@pytest.fixture(scope="module")
def broken_off(child, tiny, tmp_path_factory):
    """A run that was killed after its first checkpoint."""
    out = tmp_path_factory.mktemp("broken-off") / "run"
    assert child(out, tiny(), die_at=[["step"], 9]).wait() == -signal.SIGKILL
    return out


@pytest.fixture
def run(broken_off, tmp_path):
    return shutil.copytree(broken_off, tmp_path / "run")


def test_another_recipe_is_refused_by_its_keys(run, tiny):
    changed = tiny(training={"learning_rate": 0.02}, decoding={"max_length": 30})
    expected = "training.learning_rate, decoding.max_length"
    with pytest.raises(CalqueError, match=f"changed since this run began, in {expected}"):
        resume(run, changed)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_other_data_are_refused(split, child, tiny, corpus, tmp_path):
    data = shutil.copytree(corpus, tmp_path / "corpus")
    pair = [str(data / f"{split}.en"), str(data / f"{split}.de")]
    out = tmp_path / "out"
    recipe = tiny(data={split: pair}, training={"max_steps": 50})
    assert child(out, recipe, die_at=[["step"], 9]).wait() == -signal.SIGKILL
    with (data / f"{split}.en").open("a") as file:
        file.write("One more line.\n")
    with (data / f"{split}.de").open("a") as file:
        file.write("Eine Zeile mehr.\n")
    with pytest.raises(CalqueError, match=f"the {split} data have changed"):
        resume(out)


def test_a_folder_that_holds_a_run_is_refused(run, tiny, content):
    before = content(run)
    with pytest.raises(CalqueError, match="already holds a run"):
        train(tiny(), run)
    assert content(run) == before


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "training.json"])
@pytest.mark.parametrize("damage", ["removed", "cut off", "altered"])
def test_a_damaged_checkpoint_is_named(name, damage, run):
    file = run / "checkpoints" / "step-00000006" / name
    whole = bytearray(file.read_bytes())
    if damage == "removed":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(whole[: len(whole) // 2])
    else:
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole)
    with pytest.raises(CalqueError, match=re.escape(str(file))):
        resume(run)


def test_a_damaged_checkpoint_is_told_with_the_way_on(child, tiny, tmp_path):
    out = tmp_path / "run"
    recipe = tiny(training={"keep_last": 2})
    assert child(out, recipe, die_at=[["step"], 15]).wait() == -signal.SIGKILL
    newest = out / "checkpoints" / "step-00000012"
    (newest / "optimizer.safetensors").write_bytes(b"")
    with pytest.raises(CalqueError, match=f"To go on from step-00000006, delete {newest}"):
        resume(out)
    shutil.rmtree(newest)
    assert child(out).wait() == 0


@pytest.mark.parametrize("how", ["removed", "cut off"])
@pytest.mark.parametrize("death", [["step"], ["publish"]], ids=str)
def test_a_lost_best_is_told_and_gone_on_without(how, death, child, tiny, tmp_path):
    out = tmp_path / "run"
    at = 15 if death == ["step"] else 1
    assert child(out, tiny(), die_at=[death, at]).wait() == -signal.SIGKILL
    (best,) = (out / "best").iterdir()
    if how == "removed":
        shutil.rmtree(best)
    else:
        (best / "model.safetensors").write_bytes(b"")
    resumed = child(out)
    assert resumed.wait() == 0, resumed.printed
    assert f"{best}" in resumed.printed.replace("\n", "")
    assert "training goes on without this one of the best" in resumed.printed
    assert (out / "model.safetensors").exists()
    Translator.load(out)


def test_without_a_checkpoint_it_is_told_that_training_begins_anew(run, child):
    shutil.rmtree(run / "checkpoints")
    resumed = child(run)
    assert resumed.wait() == 0
    assert "no checkpoint is left; training begins anew" in resumed.printed


def test_steps_of_another_size_are_refused_and_other_processes_noted(run, child):
    checkpoint = run / "checkpoints" / "step-00000006"
    state = json.loads((checkpoint / "training.json").read_text())
    assert (state["world_size"], state["budgets"]) == (1, 1)
    write_state(checkpoint, {**state, "world_size": 2, "budgets": 2})
    refused = child(run)
    assert refused.wait() == 2
    assert "held training.batch_tokens 2 times, here it would be 1" in refused.printed
    write_state(checkpoint, {**state, "world_size": 3})
    resumed = child(run)
    assert resumed.wait() == 0
    assert "processes: 1; 3 before the break" in resumed.printed


def write_state(checkpoint, state):
    from calque.checkpoint import write_manifest

    (checkpoint / "training.json").write_text(json.dumps(state))
    (checkpoint / "manifest.json").unlink()
    write_manifest(checkpoint)


def test_a_run_that_has_ended_stays_as_it_is(child, tiny, tmp_path, content):
    out = tmp_path / "out"
    assert child(out, tiny(training={"max_steps": 3})).wait() == 0
    before = content(out)
    again = child(out)
    assert again.wait() == 0
    assert "has been trained to its end" in again.printed
    assert content(out) == before
