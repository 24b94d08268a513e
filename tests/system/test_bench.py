"""`calque bench` on a run, and the harness in benchmarks/ on models of a moment."""

import json
import operator
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from calque.benchmark import run as measuring
from calque.checkpoint import RunFolder
from calque.models.build import ModelConfig, build
from calque.recipe import make_recipe
from calque.text.batching import Batch
from calque.text.tokenizers.pair import Tokenizers

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
VOCAB_SIZE = 60
TINY = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_model": 16, "d_ff": 24, "num_heads": 2}
RANDOM = Random(1)
WORDS = [first + second for first in "klmnprst" for second in "aeiou"]
LINES = [" ".join(RANDOM.choices(WORDS, k=RANDOM.randint(1, 9))) for _ in range(40)]


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """The harness is no package: its scripts find their neighbours as when they run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield


class TestCommand:
    def test_measures_the_run(self, calque, here, monkeypatch):
        monkeypatch.setattr(measuring, "benchmark", partial(measuring.benchmark, seconds=0.2))
        monkeypatch.setitem(measuring.SQUARE, "cpu", 256)
        outcome = calque("bench", "run", "--json")
        assert outcome.code == 0, outcome
        found = json.loads(outcome.out)
        training, decoding = found["training"], found["decoding"]
        model = RunFolder(here / "run").load_model()
        assert found["parameters"] == sum(p.numel() for p in model.parameters())
        rate = found[f"{training['precision']}_rate"]
        assert found["share"] == pytest.approx(training["operations_per_second"] / rate)
        assert 0 < found["share"] < 1
        # One takes longer than its share of many.
        assert decoding["sentences_per_second"] > 1 / decoding["seconds_for_one"] > 0
        assert (decoding["beam_size"], decoding["sentences"]) == (2, "validation sentences")

    def test_without_weights_there_is_nothing_to_measure(self, calque, here, vouch):
        for name in ("best", "checkpoints", "model.safetensors"):
            (here / "run" / name).rename(here / name)
        vouch(here / "run", "model.safetensors")
        outcome = calque("bench", "run")
        assert (outcome.code, outcome.out) == (2, "")
        assert "no weights yet" in outcome.err


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    lengths = np.random.default_rng(3).integers(3, 30, size=(60, 2)).astype(np.int32)
    return list(measuring.synthetic_batches(lengths, (VOCAB_SIZE, VOCAB_SIZE), 256))[:6]


@pytest.fixture(scope="module")
def learnt(batches):
    training = import_module("contenders")
    model = ModelConfig(**TINY, heads="biased", dropout=0.0)
    config = replace(training.TrainingConfig(), warmup_steps=4)  # so that steps matter
    setting = training.Setting(model=model, vocab_size=VOCAB_SIZE, longest=40, training=config)
    names = ["calque, float32", "MarianMTModel, float32", "MarianMTModel, bf16 autocast"]
    made = [training.CONTENDERS[name] for name in names]
    return [make(setting, how)(batches) for make, how in made]


class TestTraining:
    def test_all_learn_the_same(self, learnt):
        ours, float32, bf16 = (result.losses for result in learnt)
        assert max(ours) - min(ours) > 0.1  # they have moved
        assert ours == pytest.approx(float32, abs=1e-3)
        assert ours == pytest.approx(bf16, abs=0.05)

    def test_all_are_as_large_and_see_as_much(self, learnt, batches):
        assert len({result.parameters for result in learnt}) == 1
        assert {result.tokens for result in learnt} == {sum(b.num_tokens for b in batches)}
        assert all(result.rate > 0 and result.memory >= 0 for result in learnt)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("decode")
    sections = {
        "tokenizer": {"vocab_size": 290},
        "model": {**TINY, "residual": "pre"},
        "decoding": {"max_length": 12},
    }
    recipe = make_recipe(sections, "test")
    tokenizers = Tokenizers.train(recipe.tokenizer, lambda: ((x, x) for x in LINES))
    torch.manual_seed(5)
    size = tokenizers.source.vocab_size
    weights = build(recipe.model, size, size).state_dict()
    RunFolder.create(folder / "run", recipe, tokenizers, {}, weights)
    return folder / "run"


@pytest.fixture(scope="module")
def results(run) -> Iterator[dict]:
    decode = import_module("decode_speed")
    task = decode.Task(LINES[:6], LINES[:2], LINES[:2], (1, 3))
    with decode.exported(run) as models:
        yield {name: [decode.Contender(make, models)(task)] for name, make in decode.MAKERS.items()}


class TestTranslating:
    def test_all_find_the_same(self, results):
        texts = {name: of_name[0][1].texts for name, of_name in results.items()}
        float32 = ["calque, float32", "transformers", "CTranslate2 float32"]
        assert any(texts["calque, float32"])
        assert [name for name in float32 if texts[name] != texts["calque, float32"]] == []

    def test_a_row_for_each(self, results):
        decode = import_module("decode_speed")
        rows = decode.rows_of(results, 3, LINES[:6], None)
        assert [row["contender"] for row in rows] == list(decode.MAKERS)
        assert all(row["sentences/s"] > 0 and row["one sentence, ms"] > 0 for row in rows)


class TestTables:
    def test_contenders_take_turns_and_warm_up_is_not_counted(self):
        apart = import_module("apart")
        one, two = apart.Apart(partial, operator.add, 1), apart.Apart(partial, operator.mul, 2)
        found = apart.in_turn({"one": one, "two": two}, [1, 5], 100)
        assert found == {"one": [2, 6], "two": [2, 10]}

    def test_a_contender_has_its_own_environment_and_nobody_else(self):
        apart, asked = import_module("apart"), "CALQUE_TEST"
        with (
            apart.Apart(partial, os.getenv, environment={asked: "here"}) as one,
            apart.Apart(partial, os.getenv) as two,
        ):
            assert (one(asked), two(asked), os.getenv(asked)) == ("here", None, None)

    def test_the_page_changes_between_the_marks_alone(self):
        between = import_module("report").between
        page = "a <!-- x -->old<!-- /x --> b <!-- y -->z<!-- /y -->"
        once = between(page, "x", "new")
        assert once.startswith("a <!-- x -->") and once.endswith(" b <!-- y -->z<!-- /y -->")
        assert ("old" in once, once.count("new")) == (False, 1)
        assert between(once, "x", "new") == once
        with pytest.raises(ValueError, match="no <!-- q -->"):
            between(page, "q", "new")

    def test_every_result_has_its_place_on_the_page(self):
        page = (BENCHMARKS / "README.md").read_text("utf-8")
        names = ["machine", "train_speed", "loss_check", "decode_speed", "scaling"]
        names += ["pattern_cost", "gpu_speed", "serve_load"]
        assert all(import_module("report").between(page, name, "") for name in names)

    def test_files_are_written(self, tmp_path, capsys):
        rows = [{"who": "a", "rate": 1234.5}, {"who": "b", "rate": 0.123, "note": "n"}]
        import_module("report").publish("trial", "About", {"": rows, "More:": rows[:1]}, tmp_path)
        written = (tmp_path / "trial.md").read_text("utf-8")
        assert "| a | 1,234 |  |" in written and "| b | 0.123 | n |" in written
        assert (tmp_path / "trial.csv").read_text("utf-8").splitlines() == [
            "who,rate,note", "a,1234.5,", "b,0.123,n",
        ]  # fmt: skip
        assert written.strip() == capsys.readouterr().out.strip()

    def test_ratios_are_taken_round_by_round(self):
        assert import_module("report").ratio([2, 30, 4], [1, 10, 1]) == "3.00 (2.00 to 4.00)"

    def test_the_share_is_of_the_best_square(self):
        machine = import_module("machine")
        products = [("square, 1", 1.0, 5.0), ("square, 2", 1.0, 7.0), ("other", 1.0, 9.0)]
        assert machine.Machine("", products, 1.0).bf16_rate == 7.0
