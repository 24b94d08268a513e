"""compare.toml: what it stands for, and what is refused before anything trains."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from calque.comparison.measures import MEASURES
from calque.comparison.plan import CompareConfig, comparison_name, make_plan, slug
from calque.config import CalqueError

BASE = """
[base.data]
train = ["train.en", "train.de"]
valid = ["valid.en", "valid.de"]
[base.model]
num_encoder_layers = 2
num_decoder_layers = 1
d_model = 64
num_heads = 4
dropout = 0.2
[base.training]
validate_every = 7
"""
TOP = "seeds = [1, 5]\nbudget.steps = 30\n"


@pytest.fixture(autouse=True)
def corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train.en", "train.de", "valid.en", "valid.de", "other.en", "other.de"):
        Path(name).write_text("a b\n")


def planned(text: str, quick: bool = False):
    Path("compare.toml").write_text(text)
    return make_plan(Path("compare.toml"), Path("runs"), quick)


def recipes(text: str, quick: bool = False):
    return {(run.row, run.seed): run.recipe for run in planned(text, quick).runs}


class TestRecipes:
    def test_each_change_and_seed_has_one(self):
        found = recipes(TOP + BASE + '[changes]\n"1 head" = { model.num_heads = 1 }\n')
        assert list(found) == [("base", 1), ("base", 5), ("1 head", 1), ("1 head", 5)]
        assert [r.training.seed for r in found.values()] == [1, 5, 1, 5]
        assert [r.model.num_heads for r in found.values()] == [4, 4, 1, 1]
        assert {(r.training.max_steps, r.training.validate_every) for r in found.values()} == {
            (30, 7)
        }

    def test_minutes_leave_the_steps_of_the_recipe(self):
        text = 'seeds = [1]\nbudget.minutes = 1.5\n[changes]\na = { model.norm = "rms" }\n'
        for recipe in recipes(text + BASE).values():
            assert (recipe.training.max_minutes, recipe.training.max_steps) == (1.5, 100_000)

    def test_another_family_keeps_what_every_family_has(self):
        text = '[changes]\nrnn = { model.family = "recurrent", model.cell = "lstm" }\n'
        model = recipes(TOP + text + BASE)["rnn", 1].model
        assert (model.family, model.cell) == ("recurrent", "lstm")
        sizes = (model.d_model, model.num_encoder_layers, model.num_decoder_layers, model.dropout)
        assert sizes == (64, 2, 1, 0.2)

    def test_another_family_than_that_of_a_preset(self):
        text = 'base.preset = "tiny"\n[changes]\nrnn = { model.family = "convolutional" }\n'
        text += '[base.data]\ntrain = ["train.en", "train.de"]\nvalid = ["valid.en", "valid.de"]\n'
        assert recipes(TOP + text)["rnn", 1].model.num_encoder_layers == 4

    def test_base_in_a_file_beside(self):
        Path("sub").mkdir()
        inner = BASE.replace("[base.", "[")
        Path("sub/recipe.toml").write_text(inner)
        file = Path("sub/compare.toml")
        change = "[changes]\na = { model.dropout = 0.5 }\n"
        file.write_text(TOP + 'base = "recipe.toml"\n' + change)
        inline = planned(TOP + change + BASE)
        found = make_plan(file, Path("runs"))
        assert [run.recipe for run in found.runs] == [run.recipe for run in inline.runs]
        assert found.name == "sub"

    def test_quick_lies_between_base_and_changes(self):
        text = "[changes]\nwide = { model.d_model = 128 }\n[quick]\nbudget.steps = 3\n"
        text += "recipe = { model = { d_model = 32, d_ff = 16 } }\n"
        found = recipes(TOP + text + BASE, quick=True)
        assert {key: r.model.d_model for key, r in found.items()} == {
            ("base", 1): 32,
            ("wide", 1): 128,
        }
        assert {(r.model.d_ff, r.training.max_steps) for r in found.values()} == {(16, 3)}
        full = planned(TOP + text + BASE)
        assert not {run.folder for run in full.runs} & {
            run.folder for run in planned(TOP + text + BASE, quick=True).runs
        }


CHANGE = "[changes]\na = { model.dropout = 0.5 }\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + CHANGE, "compare.toml.budget: missing"),
        (TOP + BASE, "compare.toml.changes: missing"),
        (TOP + CHANGE, "compare.toml.base: missing"),
        (TOP + BASE + "[changes]\n", "compare.toml.changes: "),
        ("budjet.steps = 1\n" + TOP + BASE + CHANGE, "'budjet'; did you mean 'budget'"),
        ("budget = {}\n" + BASE + CHANGE, "compare.toml.budget: give steps, or minutes, or both"),
        ("budget.steps = 0\n" + BASE + CHANGE, "compare.toml.budget.steps: "),
        ("budget.hours = 1\n" + BASE + CHANGE, "compare.toml.budget: unknown key 'hours'"),
        ("seeds = [1, 1]\nbudget.steps = 1\n" + BASE + CHANGE, "compare.toml.seeds: the same"),
        ("seeds = []\nbudget.steps = 1\n" + BASE + CHANGE, "compare.toml.seeds: "),
        ('measures = ["blue"]\n' + TOP + BASE + CHANGE, "compare.toml.measures: no 'blue'"),
        (TOP + BASE + "[changes]\na = 3\n", "compare.toml.changes.a: "),
        (TOP + BASE + "[changes]\na = { dropout = 0.5 }\n", "compare.toml.changes.a.dropout: "),
        (
            TOP + BASE + "[changes]\nodd = { model.num_heads = 7 }\n",
            "compare.toml: 'odd'.model: d_model 64 is no multiple of num_heads 7",
        ),
        (
            TOP + BASE + '[changes]\na = { model.positions = "learnt" }\n',
            "compare.toml: 'a'.model: positions: no 'learnt'; did you mean 'learned'",
        ),
        (
            TOP + BASE + "[changes]\na = { modle.dropout = 0.5 }\n",
            "compare.toml: 'a': unknown key 'modle'; did you mean 'model'",
        ),
        (
            TOP + BASE + "[changes]\na = { training.max_steps = 5 }\n",
            "compare.toml: 'a'.training.max_steps: is the same for all",
        ),
        (
            TOP + BASE + '[changes]\na = { data.valid = ["other.en", "other.de"] }\n',
            "compare.toml: 'a'.data: other test data than the base's",
        ),
        (
            TOP + BASE + '[changes]\na = { data.train = ["gone.en", "other.de"] }\n',
            "gone.en",
        ),
        (TOP + BASE + "[changes]\nbase = { model.dropout = 0.5 }\n", "compare.toml: 'base': its"),
        (
            TOP + BASE + '[changes]\n"a b" = { model.dropout = 0.5 }\n"a-b" = { model.d_ff = 8 }\n',
            "compare.toml: 'a b': its folder 'a-b' is not its own",
        ),
        ('base = "none.toml"\n' + TOP + CHANGE, "none.toml: there is no such file"),
    ],
)
def test_what_does_not_fit_is_one_message(text: str, message: str):
    with pytest.raises(CalqueError) as error:
        planned(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_quick_needs_its_table():
    with pytest.raises(CalqueError, match=r"compare.toml: has no \[quick\] table"):
        planned(TOP + BASE + CHANGE, quick=True)


def test_names_become_folders():
    assert comparison_name(Path("experiments/the-story/compare.toml")) == "the-story"
    assert comparison_name(Path("experiments/the-story/copy.toml")) == "the-story-copy"
    assert slug("(A) 16 heads/½") == "a-16-heads-½"


ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize(
    "file",
    sorted(
        [
            *ROOT.glob("experiments/paper-table-3/*.toml"),
            *ROOT.glob("experiments/the-story/*.toml"),
            *ROOT.glob("experiments/long-sequences/*.toml"),
        ]
    ),
    ids=comparison_name,
)
def test_the_experiments_can_be_planned(
    file: Path, quick: bool, shared_data: Path, monkeypatch: pytest.MonkeyPatch
):
    # Corpora of tasks are made by a script: here only that files are named is looked at.
    monkeypatch.setattr("calque.comparison.plan.expand", lambda patterns: None)
    plan = make_plan(file, Path("runs"), quick)
    assert len(plan.rows) >= 4
    assert len(plan.runs) == len(plan.rows) * len({run.seed for run in plan.runs})


def test_the_example_in_the_docs_can_be_planned(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("calque.comparison.plan.expand", lambda patterns: None)
    (example,) = re.findall(
        r"^```ini\n(.*?)^```$", (ROOT / "docs" / "comparing.md").read_text("utf-8"), re.M | re.S
    )
    assert len(planned(example).runs) == 5 * 3
    assert len(planned(example, quick=True).runs) == 5


def test_every_key_and_measure_is_documented():
    text = (ROOT / "docs" / "comparing.md").read_text("utf-8")
    keys = re.findall(r"^\| `(\w+)` \| (?:required|none|`.*?`) \|", text, re.M)
    assert sorted(keys) == sorted(field.name for field in fields(CompareConfig))
    assert re.findall(r"^\| `\"(\w+)\"` \|", text, re.M) == list(MEASURES)
