"""A recipe is read strictly, changed by the command line, and written whole."""

import tomllib
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calque.config import CalqueError
from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.models.build import SLOTS, ModelConfig
from calque.models.parts.residuals import RESIDUALS
from calque.recipe import (
    PRESETS,
    Recipe,
    TrainingConfig,
    apply_change,
    differences,
    make_recipe,
    require_corpora,
    require_trainable,
)
from calque.text.corpus.languages import with_languages_of_corpora
from calque.text.data import CorpusConfig, DataConfig
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import TokenizerConfig

FILES = {"train": ["a.en", "a.de"], "valid": ["b.en", "b.de"]}


def recipe(**sections: Any) -> Recipe:
    return make_recipe({"data": FILES, **sections}, "r.toml")


def refusal(**sections: Any) -> str:
    with pytest.raises(CalqueError) as error:
        recipe(**sections)
    return str(error.value)


# Corpora


def test_two_files_are_a_corpus() -> None:
    assert recipe().data.train == (CorpusConfig(source="a.en", target="a.de"),)
    assert recipe().data.test == ()


@pytest.mark.parametrize("many", [False, True])
def test_a_table_or_a_list_of_tables_is_corpora(many: bool) -> None:
    table = {"source": ["a.en", "c.en"], "target": ["a.de", "c.de"], "weight": 2}
    data = {**FILES, "train": [table, table] if many else table}
    corpus = CorpusConfig(source=("a.en", "c.en"), target=("a.de", "c.de"), weight=2.0)
    assert recipe(data=data).data.train == (corpus,) * (2 if many else 1)


@pytest.mark.parametrize(
    "train", [["a.en"], ["a", "b", "c"], "a.en", 5, [["a.en", "a.de"]]], ids=str
)
def test_what_is_no_corpus_is_refused(train: Any) -> None:
    assert refusal(data={**FILES, "train": train}).startswith("r.toml.data.train")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_training_needs_corpora_to_train_and_to_validate(split: str) -> None:
    missing = {key: value for key, value in FILES.items() if key != split}
    for data in (missing, {**FILES, split: []}, {}):
        with pytest.raises(CalqueError) as error:
            require_corpora(recipe(data=data), "r.toml")
        assert str(error.value) == "r.toml.data: train and valid each need at least one corpus"
    require_corpora(recipe(), "r.toml")


# Languages of corpora


def memory(folder: Path, source: str, target: str, name: str = "a.tmx") -> dict[str, str]:
    (folder / name).touch()
    return {"file": str(folder / name), "source": source, "target": target}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize(
    ("name", "codes", "odd"),
    [
        ("a.tmx", ("de", "en"), "source is 'de', but data.source_language is 'en'"),
        ("a.tmx.gz", ("en", "fr"), "target is 'fr', but data.target_language is 'de-AT'"),
        ("a.xlf", ("en", "de-CH"), "target is 'de-CH', but data.target_language is 'de-AT'"),
        ("a.XLIFF", ("eng", "de"), "source is 'eng', but data.source_language is 'en'"),
    ],
    ids=str,
)
def test_a_corpus_in_other_languages_is_refused(
    tmp_path: Path, split: str, name: str, codes: tuple[str, str], odd: str
) -> None:
    languages = {"source_language": "en", "target_language": "de-AT"}
    corpora = {**FILES, split: [memory(tmp_path, "en-US", "DE"), memory(tmp_path, *codes, name)]}
    with pytest.raises(CalqueError) as error:
        require_corpora(recipe(data={**corpora, **languages}), "r.toml", "runs/start")
    assert str(error.value) == f"r.toml.data.{split}[1]: {odd} in runs/start"
    require_corpora(recipe(data=corpora), "r.toml")


def test_names_of_columns_are_no_languages(tmp_path: Path) -> None:
    table = memory(tmp_path, "de", "en", "a.tsv")
    named = recipe(data={**FILES, "train": table, "source_language": "en"})
    require_corpora(named, "r.toml")
    assert with_languages_of_corpora(named.data) == named.data


@pytest.mark.parametrize(
    ("codes", "named", "languages"),
    [
        ([("en", "de")], {}, ("en", "de")),
        ([("en-US", "de"), ("en_us", "de")], {}, ("en-US", "de")),
        ([("en", "de"), ("fr", "de")], {}, (None, "de")),
        ([("en", "de")], {"target_language": "de-AT"}, ("en", "de-AT")),
        ([("not a code", "de")], {}, (None, "de")),
        ([], {}, (None, None)),
    ],
    ids=str,
)
def test_languages_that_are_left_out_are_those_on_which_corpora_agree(
    tmp_path: Path,
    codes: list[tuple[str, str]],
    named: dict[str, str],
    languages: tuple[str | None, str | None],
) -> None:
    corpora = [memory(tmp_path, *of_one, f"{n}.tmx") for n, of_one in enumerate(codes)]
    plain = {"source": "a.fr", "target": "a.it"}
    data = with_languages_of_corpora(recipe(data={"train": [plain, *corpora], **named}).data)
    assert (data.source_language, data.target_language) == languages


# What does not fit


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"modle": {}}, ["r.toml: unknown key 'modle'", "did you mean 'model'?", "tokenizer"]),
        ({"model": {"d_modle": 8}}, ["r.toml.model: ", "did you mean 'd_model'?", "num_heads"]),
        ({"model": {"d_model": 100, "num_heads": 8}}, ["r.toml.model: ", "100", "8"]),
        ({"model": {"residual": "per"}}, ["'per'", "did you mean 'pre'?", *RESIDUALS]),
        ({"model": {"family": "transfomer"}}, ["'transfomer'", "did you mean 'transformer'?"]),
        ({"model": {"dropout": 1.0}}, ["r.toml.model: ", "dropout 1.0"]),
        ({"model": 5}, ["r.toml.model: ", "5"]),
        ({"tokenizer": {"kind": "bep"}}, ["r.toml.tokenizer.kind", "did you mean 'bpe'?"]),
        ({"tokenizer": {"kind": "bep"}}, list(TOKENIZERS)),
        ({"decoding": {"search": "beem"}}, ["r.toml.decoding.search", "mean 'beam'?", *SEARCHES]),
        ({"training": {"precision": "fp16"}}, ["r.toml.training.precision", "bf16", "'fp16'"]),
        ({"training": {"max_steps": "many"}}, ["r.toml.training.max_steps", "integer", "'many'"]),
        ({"training": {"patience": 0}}, ["r.toml.training.patience", "greater than 0"]),
        ({"training": {"clip_norm": -1.0}}, ["r.toml.training.clip_norm", "-1.0"]),
        ({"preset": "tinny"}, ["r.toml: preset: no 'tinny'", "did you mean 'tiny'?", *PRESETS]),
        ({"preset": 5}, ["r.toml: preset: no '5'", *PRESETS]),
        ({"preset": ["tiny"]}, ["r.toml: preset", *PRESETS]),
        ({"preset": "tiny", "model": 5}, ["r.toml.model: ", "5"]),
        ({"data": 5}, ["r.toml.data: ", "5"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_with_what_would(
    sections: dict[str, Any], told: list[str]
) -> None:
    message = refusal(**sections)
    assert [words for words in told if words not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_subwords_are_sampled_only_where_there_are_several_segmentations(kind: str) -> None:
    sections = {"tokenizer": {"kind": kind, "sampling": 0.1}}
    if kind in ("bpe", "unigram"):
        assert recipe(**sections).tokenizer.sampling == 0.1
    else:
        message = refusal(**sections)
        assert message.startswith(f"r.toml.tokenizer.sampling: {kind} ")
        assert "bpe" in message


def test_only_what_is_kept_can_be_averaged() -> None:
    message = refusal(training={"average": 5, "keep_last": 3})
    assert "training.average: 5" in message
    assert "keep_last = 3" in message
    assert recipe(training={"average": 5, "keep_last": 5}).training.average == 5


@pytest.mark.parametrize("section", ["data", "decoding"])
def test_no_text_may_be_longer_than_learned_positions_reach(section: str) -> None:
    files = FILES if section == "data" else {}

    def limited(positions: str, limit: int) -> dict[str, Any]:
        return {"model": {"positions": positions}, section: {**files, "max_length": limit}}

    message = refusal(**limited("learned", 1024))
    assert message.startswith(f"r.toml.{section}.max_length: 1024 ")
    assert "1023" in message
    assert recipe(**limited("learned", 1023)).model.positions == "learned"
    assert recipe(**limited("sinusoidal", 1024)).model.positions == "sinusoidal"


@pytest.mark.parametrize("slot", SLOTS)
def test_every_part_can_be_asked_for(slot: str) -> None:
    for name in SLOTS[slot]:
        data = FILES | {"parser": "spacy:en"}  # some positions need trees
        assert getattr(recipe(data=data, model={slot: name}).model, slot) == name
    message = refusal(model={slot: "nothing"})
    assert [name for name in (slot, *SLOTS[slot]) if name not in message] == []


# Presets


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_sizes_of_the_model(preset: str) -> None:
    assert recipe(preset=preset) == recipe(model=PRESETS[preset])


def test_base_is_the_default() -> None:
    assert recipe(preset="base") == recipe()


def test_what_the_recipe_says_stands_above_its_preset() -> None:
    model = recipe(preset="tiny", model={"dropout": 0.0, "residual": "pre"}).model
    assert (model.dropout, model.residual) == (0.0, "pre")
    assert model.d_model == PRESETS["tiny"]["d_model"]


# What a training may begin with


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"training": {"weight_decay": 0.9}}, "training.weight_decay: 0.9 does nothing"),
        ({"training": {"optimizer": "adamw"}}, "training.optimizer: adamw without weight_decay"),
        ({"training": {"learning_rate": 0.001}}, "training.learning_rate: 0.001 is a rate"),
        ({"training": {"r_drop": 5}, "model": {"dropout": 0}}, "training.r_drop: 5 compares"),
        ({"data": {"train": FILES["train"]}}, "data: train and valid"),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
def test_a_key_that_would_do_nothing_is_refused_before_training(
    sections: dict[str, Any], said: str
) -> None:
    given = recipe(**sections)  # a run that there is can still be used
    with pytest.raises(CalqueError, match=rf"^r\.toml\.{said}"):
        require_trainable(given, "r.toml")


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"training": {"optimizer": "adamw", "weight_decay": 0.1}},
        {"training": {"schedule": "cosine", "learning_rate": 0.001}},
        {"training": {"learning_rate": 0.1}},
        {"training": {"r_drop": 5}},
        {"training": {"r_drop": 5}, "model": {"dropout": 0, "attention_dropout": 0.1}},
    ],
    ids=str,
)
def test_what_does_something_may_be_trained(sections: dict[str, Any]) -> None:
    require_trainable(recipe(**sections), "r.toml")


# --set


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("training.seed=7", {"training": {"seed": 7}}),
        ("training.learning_rate=5e-4", {"training": {"learning_rate": 5e-4}}),
        ("training.learning_rate = 2", {"training": {"learning_rate": 2}}),
        ("model.residual=pre", {"model": {"residual": "pre"}}),
        ('model.residual="pre"', {"model": {"residual": "pre"}}),
        ("data.source_language=en", {"data": {"source_language": "en"}}),
        ("light=true", {"light": True}),
        ('data.train=["a=1", "b"]', {"data": {"train": ["a=1", "b"]}}),
        ("data.train.source=a=1", {"data": {"train": {"source": "a=1"}}}),
        ("preset=tiny", {"preset": "tiny"}),
        ("a.b.c=1", {"a": {"b": {"c": 1}}}),
        ("a=", {"a": ""}),
        ("tokenizer.kind=two words", {"tokenizer": {"kind": "two words"}}),
    ],
)
def test_a_change_sets_one_value_of_its_type(change: str, expected: dict[str, Any]) -> None:
    values: dict[str, Any] = {}
    apply_change(values, change)
    assert values == expected


def test_a_change_leaves_the_rest_and_the_last_one_counts() -> None:
    values: dict[str, Any] = {"training": {"seed": 1, "average": 2}, "preset": "tiny"}
    for change in ("training.seed=3", "training.seed=4", "decoding.beam_size=1"):
        apply_change(values, change)
    assert values == {
        "training": {"seed": 4, "average": 2},
        "preset": "tiny",
        "decoding": {"beam_size": 1},
    }


@pytest.mark.parametrize("change", ["training.seed", "", "=5", "training.=5", "seed 5"])
def test_a_change_of_another_form_is_refused(change: str) -> None:
    with pytest.raises(CalqueError) as error:
        apply_change({}, change)
    assert str(error.value) == f"--set {change}: expected section.key=value"


def test_a_change_inside_what_is_no_section_is_refused() -> None:
    with pytest.raises(CalqueError, match=r"--set preset\.d_model=5: preset is not a section"):
        apply_change({"preset": "tiny"}, "preset.d_model=5")


def test_a_change_is_checked_like_the_file() -> None:
    values: dict[str, Any] = {"data": FILES}
    apply_change(values, "training.sede=5")
    with pytest.raises(CalqueError, match="unknown key 'sede'; did you mean 'seed'"):
        make_recipe(values, "r.toml")


# Writing


def sections(cls: type = Recipe) -> Iterator[tuple[type, Field[Any], Any]]:
    """Every key of a recipe, of the corpora too: its class, its field, its type."""
    hints = typing.get_type_hints(cls)
    for key in fields(cls):
        yield cls, key, hints[key.name]
        for kind in (hints[key.name], *typing.get_args(hints[key.name])):
            if isinstance(kind, type) and is_dataclass(kind):
                yield from sections(kind)


def test_what_may_be_none_is_none_where_it_is_left_out() -> None:
    # TOML has no null: a key whose default were something else could never be set to None.
    optional = [
        (f"{cls.__name__}.{key.name}", key.default)
        for cls, key, kind in sections()
        if type(None) in typing.get_args(kind)
    ]
    assert len(optional) >= 3
    assert [name for name, default in optional if default is not None] == []


def test_of_a_corpus_alone_something_must_be_given() -> None:
    required = {
        f"{cls.__name__}.{key.name}"
        for cls, key, _ in sections()
        if key.default is MISSING and key.default_factory is MISSING
    }
    assert required == {"CorpusConfig.source", "CorpusConfig.target"}
    assert make_recipe({}, "r.toml") == Recipe()


PATHS = st.text(max_size=20) | st.lists(st.text(max_size=9), max_size=3).map(tuple)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
WEIGHTS = st.floats(min_value=1e-6, max_value=1000)
CORPORA = st.lists(
    st.builds(CorpusConfig, source=PATHS, target=PATHS, file=st.none() | PATHS, weight=WEIGHTS),
    min_size=1,
    max_size=3,
).map(tuple)
RECIPES = st.builds(
    Recipe,
    data=st.builds(
        DataConfig,
        train=CORPORA,
        valid=CORPORA,
        test=st.just(()) | CORPORA,
        source_language=st.none() | st.sampled_from(["en", "nds", "zh-Hans", "pt_BR"]),
        max_ratio=st.floats(min_value=1),
    ),
    tokenizer=st.builds(
        TokenizerConfig,
        kind=st.sampled_from(sorted(TOKENIZERS)),
        vocabulary=st.sampled_from(["joint", "separate"]),
    ),
    model=st.builds(
        ModelConfig,
        d_model=st.integers(1, 100).map(lambda n: 16 * n),
        dropout=st.floats(0, 1, exclude_max=True),
        # Of the other slots, some names do not go together.
        **{s: st.sampled_from(sorted(SLOTS[s])) for s in ("heads", "norm", "residual", "output")},
    ),
    training=st.builds(
        TrainingConfig,
        max_steps=st.integers(1, 10**9),
        max_minutes=st.none() | POSITIVE,
        learning_rate=POSITIVE,
        clip_norm=st.just(0.0) | POSITIVE,
        patience=st.none() | st.integers(1, 99),
        keep_last=st.integers(1, 9),
    ),
    decoding=st.builds(DecodingConfig, search=st.sampled_from(sorted(SEARCHES))),
)


@settings(deadline=None)
@given(RECIPES)
def test_a_recipe_that_is_written_reads_back(recipe: Recipe) -> None:
    assert make_recipe(tomllib.loads(recipe.to_toml()), "r.toml") == recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_a_written_recipe_holds_every_value_that_is_not_none(preset: str) -> None:
    written = tomllib.loads(recipe(preset=preset).to_toml())
    assert "preset" not in written
    for section in fields(Recipe):
        config = getattr(recipe(preset=preset), section.name)
        present = {f.name for f in fields(config) if getattr(config, f.name) is not None}
        assert set(written[section.name]) == present


@pytest.mark.parametrize("code", ["chinese", "klingon_!", "", "e", "en-", "zh Hans"])
def test_a_language_that_is_no_code_is_refused(code: str) -> None:
    with pytest.raises(CalqueError, match="target_language: not a language's code"):
        recipe(data={**FILES, "target_language": code})


@pytest.mark.parametrize(
    "training",
    [{"seed": 2**63}, {"accumulation": 10**26}, {"learning_rate": float("inf")}, {"r_drop": 1e999}],
)
def test_numbers_beyond_all_bounds_are_refused(training: dict[str, float]) -> None:
    (key,) = training
    with pytest.raises(CalqueError, match=rf"training\.{key}: input should be"):
        recipe(training=training)


# Differences


@given(RECIPES)
@settings(deadline=None, max_examples=20)
def test_a_recipe_differs_from_itself_in_nothing(recipe: Recipe) -> None:
    assert differences(recipe, make_recipe(tomllib.loads(recipe.to_toml()), "r.toml")) == []


def test_differences_are_named() -> None:
    old = recipe()
    new = replace(
        old,
        training=replace(old.training, seed=2, patience=5),
        data=replace(old.data, test=old.data.valid),
    )
    assert sorted(differences(old, new)) == ["data.test", "training.patience", "training.seed"]
    assert sorted(differences(new, old)) == sorted(differences(old, new))


# Trees


TREES = {"source": "a.en", "target": "a.de", "trees": "a.conllu"}


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_structural_positions_need_the_trees_of_every_corpus(split: str) -> None:
    model = {"positions": "structural"}
    data: dict[str, Any] = {s: [TREES, TREES] for s in ("train", "valid", "test")}
    assert recipe(data=data, model=model).data.test[1].trees == "a.conllu"
    data[split] = [TREES, {key: TREES[key] for key in ("source", "target")}]
    told = rf"r.toml.data.{split}\[1\].trees: missing; structural positions need"
    with pytest.raises(CalqueError, match=told):
        recipe(data=data, model=model)
    assert recipe(data=data).model.positions == "sinusoidal"
    assert recipe(data=data | {"parser": "stanza:en"}, model=model).data.parser == "stanza:en"
    with pytest.raises(CalqueError, match=r"data\.parser: no 'stansa'; did you mean 'stanza'"):
        recipe(data=data | {"parser": "stansa:en"}, model=model)


def test_trees_and_subword_sampling_do_not_go_together() -> None:
    data = {"train": TREES, "valid": TREES}
    with pytest.raises(CalqueError, match=r"tokenizer\.sampling: trees are laid over the usual"):
        recipe(data=data, model={"positions": "structural_relative"}, tokenizer={"sampling": 0.1})
