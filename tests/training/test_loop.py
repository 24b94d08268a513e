"""A whole training: what it keeps, when it stops, what it publishes, and what it refuses."""

import io
import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from calque.checkpoint import RunFolder, load_tensors
from calque.config import CalqueError
from calque.models.packed_training import PackedTransformer
from calque.training import loop, progress, state
from calque.training.loop import train
from calque.training.validation import Validation
from calque.translator import Translator

LONG = {"max_steps": 24, "validate_every": 4, "save_every": 5}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs" / "run"


@pytest.fixture(autouse=True)
def frequent_log(monkeypatch):
    for module in (state, progress):
        monkeypatch.setattr(module, "LOG_EVERY", 5)


@pytest.fixture
def scores(monkeypatch):
    """Validations come out as it is said here: pairs of loss and BLEU."""

    def say(*pairs):
        found = iter([Validation(loss, bleu) for loss, bleu in pairs])
        monkeypatch.setattr(loop, "validate", lambda *_: next(found))

    return say


def steps(folder):
    return [int(path.name.removeprefix("step-")) for path in sorted(folder.iterdir())]


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def quiet():
    return Console(file=io.StringIO(), width=200)


def same_weights(one, two):
    first, second = load_tensors(one), load_tensors(two)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_keeps_the_last_checkpoints_and_the_best(out, tiny, scores):
    scores((5, 0), (3, 0), (4, 0), (2, 0), (6, 0), (3, 0))
    train(tiny(training=LONG | {"keep_last": 2, "keep_best": 3}), out, quiet())
    assert steps(out / "checkpoints") == [20, 24]
    assert steps(out / "best") == [8, 16, 24]
    assert [path.name for path in RunFolder(out).best()] == [
        "step-00000024",  # as good as step 8, and later
        "step-00000008",
        "step-00000016",
    ]


@pytest.mark.parametrize(("stop_on", "best"), [("loss", 12), ("bleu", 20)])
def test_publishes_the_best_by(stop_on, best, out, tiny, scores):
    scores((5, 1), (4, 3), (2, 2), (3, 4), (3, 9), (4, 8))
    assert train(tiny(training=LONG | {"stop_on": stop_on}), out, quiet())
    published = out / "model.safetensors"
    assert steps(out / "best") == [best]
    assert same_weights(published, out / "best" / f"step-{best:08d}" / "model.safetensors")
    assert not same_weights(published, out / "checkpoints" / "step-00000024" / "model.safetensors")


@pytest.mark.parametrize(
    ("stop_on", "results", "last"),
    [
        ("loss", [(5, 0), (4, 1), (4, 2), (5, 3)], 16),
        ("loss", [(5, 0), (6, 0), (4, 0), (4, 0), (4, 0)], 20),
        ("bleu", [(5, 7), (4, 7), (3, 6)], 12),
        ("bleu", [(5, 1), (6, 2), (7, 3), (8, 4), (9, 5), (9, 6)], 24),
    ],
)
def test_stops_when_two_validations_have_gained_nothing(stop_on, results, last, out, tiny, scores):
    scores(*results)
    changes = LONG | {"stop_on": stop_on, "patience": 2}
    assert train(tiny(training=changes), out, quiet())
    assert steps(out / "checkpoints") == [last]
    assert RunFolder(out).finished


@pytest.mark.parametrize(("of_mean", "word"), [(1.0, "averaged"), (9.0, "best")])
def test_the_mean_is_published_if_it_is_better(of_mean, word, out, tiny, scores):
    scores((5, 0), (4, 0), (3, 0), (2, 0), (3, 0), (4, 0), (of_mean, 0))
    console = quiet()
    train(tiny(training=LONG | {"average": 3, "keep_last": 3}), out, console)
    assert f"{word} weights in" in console.file.getvalue()
    checkpoints = [
        load_tensors(path / "model.safetensors") for path in RunFolder(out).checkpoints()
    ]
    assert len(checkpoints) == 3
    best = load_tensors(out / "best" / "step-00000016" / "model.safetensors")
    for name, tensor in load_tensors(out / "model.safetensors").items():
        mean = np.mean([one[name].double().numpy() for one in checkpoints], axis=0)
        expected = torch.from_numpy(mean).float() if word == "averaged" else best[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-7)


def test_the_last_step_is_validated_and_saved_whatever_its_number(out, tiny):
    train(tiny(training={"max_steps": 7, "validate_every": 5, "save_every": 5}), out, quiet())
    assert steps(out / "checkpoints") == [7]
    assert [line["step"] for line in metrics(out) if "valid_loss" in line] == [5, 7]


def test_stops_in_time(out, tiny):
    changes = {"max_steps": 100_000, "max_minutes": 0.005, "validate_every": 100_000}
    assert train(tiny(training=changes), out, quiet())
    (last,) = steps(out / "checkpoints")
    record = json.loads((out / "checkpoints" / f"step-{last:08d}" / "training.json").read_text())
    assert 0.3 <= record["seconds"] < 10


def test_learns_and_can_be_loaded(out, tiny, corpus):
    changes = {"max_steps": 120, "validate_every": 40, "learning_rate": 0.03}
    train(tiny(training=changes, model={"d_model": 32, "dropout": 0.0}), out, quiet())
    losses = [line["valid_loss"] for line in metrics(out) if "valid_loss" in line]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.3
    assert all(Translator.load(out).translate(["The old man opens the door."]))


def test_metrics_and_events_have_the_documented_keys(out, tiny):
    train(tiny(training={"max_steps": 12, "validate_every": 6}), out, quiet())
    always = {"step", "epoch", "seconds"}
    trained = {"loss", "learning_rate", "gradient_norm", "tokens_per_second"}
    validated = {"valid_loss", "valid_perplexity", "valid_bleu"}
    lines = metrics(out)
    assert [(line["step"], line.keys() - always) for line in lines] == [
        (5, trained),
        (6, validated),
        (10, trained),
        (12, validated),
    ]
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == trained | validated
    for line in lines:
        for name in line.keys() - always:
            values = {event.step: event.value for event in events.Scalars(name)}
            assert values[line["step"]] == pytest.approx(line[name], rel=1e-6)


def test_a_console_that_is_no_terminal_gets_plain_lines(out, tiny):
    console = quiet()
    train(tiny(), out, console)
    lines = console.file.getvalue().splitlines()
    assert not re.search(r"[\x00-\x1f\x7f]|━", "".join(lines))
    assert sum("validation loss" in line for line in lines) == 3
    assert lines[0] == "learning the tokenizer"
    assert lines[-1].startswith("done: 24 steps in 0:")


def test_a_terminal_sees_step_loss_speed_and_time_left(out, tiny, monkeypatch):
    real = progress.Progress.update
    monkeypatch.setattr(  # by itself it draws ten times a second
        progress.Progress, "update", lambda *task, **shown: real(*task, **shown, refresh=True)
    )
    console = Console(file=io.StringIO(), width=110, force_terminal=True, color_system=None)
    train(tiny(), out, console)
    shown = console.file.getvalue()
    line = r"step \d+ · loss \d+\.\d+ · [\d,]+ tokens/s · BLEU \d+\.\d .*━.* \d+ % · \d+:\d\d left"
    assert re.search(line, shown)
    assert re.search(r"step 8 · validating .*━", shown)


def test_a_loss_that_is_not_finite_names_step_rate_and_lines(out, tiny, corpus, monkeypatch):
    real = loop.Stepper.__call__

    def poisoned(self, batch, step, stop):
        if step == 9:
            with torch.no_grad():
                next(self.model.parameters())[5] = torch.nan
        return real(self, batch, step, stop)

    monkeypatch.setattr(loop.Stepper, "__call__", poisoned)
    message = (
        r"not finite in step 9, at learning rate 0\.00943; the last good checkpoint is (\S+)\. "
    )
    with pytest.raises(CalqueError, match=message + "The batch: ") as raised:
        train(tiny(), out, quiet())
    assert str(out / "checkpoints" / "step-00000006") in str(raised.value)
    assert steps(out / "checkpoints") == [6]
    lines = re.findall(rf"{re.escape(str(corpus / 'train.en'))}:(\d+)", str(raised.value))
    assert 0 < len(set(lines)) <= 20
    assert all(1 <= int(line) <= 160 for line in lines)
    assert not (out / "model.safetensors").exists()
    monkeypatch.undo()
    assert all(t.isfinite().all() for t in load_tensors(RunFolder(out).weights()).values())


@pytest.mark.parametrize("save_every", [1, 100])
def test_a_rate_that_explodes_ends_without_saving_what_exploded(save_every, out, tiny):
    changes = {"schedule": "paper", "learning_rate": 1e42, "save_every": save_every}
    with pytest.raises(CalqueError, match=r"finite .*there is no checkpoint yet"):
        train(tiny(training=changes | {"validate_every": 100}), out, quiet())
    assert not list(out.glob("checkpoints/*"))


def test_a_validation_that_is_not_finite_ends_the_training(out, tiny):
    changes = {"schedule": "paper", "learning_rate": 1e30, "validate_every": 1}
    with pytest.raises(CalqueError, match="validation loss is not finite"):
        train(tiny(training=changes), out, quiet())
    assert not list(out.glob("*/step-*"))


def test_a_training_without_kernels_says_so(out, tiny, monkeypatch):
    monkeypatch.setattr("calque.training.progress.library", lambda: None)
    console = quiet()
    train(tiny(training={"max_steps": 2}), out, console)
    assert re.search(r"on cpu in \w+, slower for want of a C compiler", console.file.getvalue())


def test_pairs_that_are_too_many_at_once_are_named_and_training_goes_on(out, tiny, monkeypatch):
    features = PackedTransformer.features

    def limited(self, source, target, tree):
        if len(source) > 4:
            raise torch.OutOfMemoryError("CUDA")
        return features(self, source, target, tree)

    monkeypatch.setattr(PackedTransformer, "features", limited)
    console = quiet()
    assert train(tiny(training={"max_steps": 5, "batch_tokens": 800}), out, console)
    note = r"step \d: out of memory; went on with the batch in pieces\. Its longest pairs: (.*)"
    found = re.findall(note, console.file.getvalue())
    assert found
    assert all(re.fullmatch(r"(\S+train\.en:\d+(, )?){3}", pairs) for pairs in found)


def test_a_pair_that_is_too_large_is_named(out, tiny, corpus, monkeypatch):
    features = PackedTransformer.features

    def limited(self, source, target, tree):
        if source.size(1) > 60:
            raise torch.OutOfMemoryError("CUDA")
        return features(self, source, target, tree)

    monkeypatch.setattr(PackedTransformer, "features", limited)
    message = r"out of memory in step \d+, on \S+train.en:\d+\. Lower training.batch_tokens"
    with pytest.raises(CalqueError, match=message) as raised:
        train(tiny(training={"max_steps": 50}), out, quiet())
    named = int(re.findall(r"train.en:(\d+)", str(raised.value))[0])
    lines = (corpus / "train.en").read_text().splitlines()
    (ids,) = RunFolder(out).tokenizers.source.encode([lines[named - 1]])
    assert len(ids) + 1 > 60


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": "adma"}, "training.optimizer: no 'adma'; did you mean 'adam'"),
        ({"schedule": "cosin"}, "training.schedule: no 'cosin'; did you mean 'cosine'"),
        ({"schedule": "cosin", "learning_rate": 1.0}, "training.schedule: no 'cosin'; did you"),
    ],
)
def test_a_name_that_is_none_is_refused_before_anything_is_written(training, message, out, tiny):
    with pytest.raises(CalqueError, match=re.escape(message)):
        train(tiny(training=training), out, quiet())
    assert not out.parent.exists()
