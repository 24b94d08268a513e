"""What fine-tuning leaves out is as in the run it starts from, and another model is refused."""

import re
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from calque.config import CalqueError
from calque.fine_tuning import (
    FINE_TUNING,
    FREE,
    make_fine_tuning_recipe,
    refuse_another_model,
)
from calque.recipe import PRESETS, Recipe, TrainingConfig, make_recipe
from calque.text.data import DataConfig

FILES = {"train": ["a.en", "a.de"], "valid": ["b.en", "b.de"]}


def start() -> Recipe:
    """The recipe of a run to start from; nothing in it is the default."""
    sections = {
        "data": {**FILES, "source_language": "en", "target_language": "zh", "max_length": 99},
        "tokenizer": {"kind": "unigram", "vocab_size": 5000, "vocabulary": "separate"},
        "model": {**PRESETS["tiny"], "residual": "pre", "heads": "biased"},
        "training": {"max_steps": 7, "schedule": "cosine", "learning_rate": 0.01},
        "decoding": {"beam_size": 2, "max_length": 60},
    }
    return make_recipe(sections, "start.toml")


def tuned(**sections: Any) -> Recipe:
    return make_fine_tuning_recipe({"data": FILES, **sections}, start(), "r.toml")


def test_what_fine_tuning_leaves_out_is_as_in_the_run_it_starts_from() -> None:
    left_out = tuned()
    for section in ("tokenizer", "model", "decoding"):
        assert getattr(left_out, section) == getattr(start(), section)
    assert (left_out.data.source_language, left_out.data.target_language) == ("en", "zh")
    assert left_out.data.max_length == DataConfig().max_length
    assert left_out.training == TrainingConfig(**FINE_TUNING)
    assert tomllib.loads(left_out.to_toml())["training"]["learning_rate"] == 0.0003


def test_what_fine_tuning_says_stands_key_by_key() -> None:
    said = tuned(
        data={**FILES, "target_language": "ja"},
        training={"max_steps": 9, "patience": 2},
        decoding={"beam_size": 7},
        model={"dropout": 0.5},
        tokenizer={"sampling": 0.1},
    )
    assert (said.data.source_language, said.data.target_language) == ("en", "ja")
    assert said.training == TrainingConfig(**{**FINE_TUNING, "max_steps": 9, "patience": 2})
    assert said.decoding == replace(start().decoding, beam_size=7)
    assert (said.model.dropout, said.tokenizer.sampling) == (0.5, 0.1)
    refuse_another_model(said, start(), "runs/start")


@pytest.mark.parametrize(
    ("sections", "keys"),
    [
        ({"model": {"d_model": 256}}, ["model.d_model = 128 (given: 256)"]),
        (
            {"tokenizer": {"kind": "bpe", "vocab_size": 9}},
            ["tokenizer.kind = 'unigram' (given: 'bpe'), tokenizer.vocab_size = 5000 (given: 9)"],
        ),
        ({"preset": "small"}, ["model.num_encoder_layers", "model.d_model", "model.d_ff"]),
        ({"preset": "base"}, ["model.num_encoder_layers", "model.d_model", "model.num_heads"]),
    ],
    ids=str,
)
def test_another_model_or_tokenizer_is_refused_by_its_keys_and_values(
    sections: dict[str, Any], keys: list[str]
) -> None:
    with pytest.raises(CalqueError) as error:
        refuse_another_model(tuned(**sections), start(), "runs/start")
    message = str(error.value)
    assert message.startswith("runs/start: ")
    assert [key for key in keys if key not in message] == []
    assert not any(key in message for key in FREE)


def test_another_family_is_refused_by_its_name_alone() -> None:
    with pytest.raises(CalqueError) as error:
        refuse_another_model(tuned(model={"family": "recurrent"}), start(), "runs/start")
    assert re.findall(r"model\.\w+", str(error.value)) == ["model.family"]


def test_the_preset_of_the_run_is_no_other_model() -> None:
    refuse_another_model(tuned(preset="tiny"), start(), "runs/start")


@pytest.mark.parametrize("section", ["data", "tokenizer", "model", "training", "decoding"])
def test_a_section_that_is_none_is_refused_in_fine_tuning_too(section: str) -> None:
    with pytest.raises(CalqueError, match=rf"r\.toml\.{section}: "):
        tuned(**{section: 5})
