"""A recipe for a training that starts from the weights of another run."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from calque.config import CalqueError
from calque.recipe import Recipe, differences, make_recipe, with_preset

FINE_TUNING: dict[str, Any] = {
    "max_steps": 5000,
    "batch_tokens": 2048,
    "validate_every": 100,
    "save_every": 100,
    "schedule": "inverse_sqrt",
    "learning_rate": 0.0003,
    "warmup_steps": 100,
    "patience": 5,
}
"""The `training` section of a training that starts from another run's weights, where its recipe
does not say otherwise: short, at a rate that refines what is known, and validated often."""

FREE = ("tokenizer.sampling", "model.dropout")
"""Keys that may differ from those of the run whose weights and tokenizer training starts from."""


def make_fine_tuning_recipe(values: Mapping[str, Any], start: Recipe, where: str) -> Recipe:
    """As `make_recipe`, for a training that starts from the weights of the run of `start`.

    What `values` leave out of tokenizer, model, decoding and languages is as there; what they leave
    out of training is FINE_TUNING.
    """
    known = asdict(start) | {"training": FINE_TUNING}
    known["data"] = {key: known["data"][key] for key in ("source_language", "target_language")}
    sections = with_preset(values, where)
    for section, content in known.items():
        given = sections.get(section, {})
        # What is no table, or another family with its own keys, stays as it is, to be refused.
        if isinstance(given, Mapping) and given.get("family") in (None, content.get("family")):
            sections[section] = {**content, **given}
    return make_recipe(sections, where)


def refuse_another_model(recipe: Recipe, start: Recipe, where: str) -> None:
    """Raise CalqueError, with keys and values, unless the weights of `start` do for `recipe`."""
    if recipe.training.embeddings:
        raise CalqueError(
            f"{where}: training from it takes its embeddings too; leave training.embeddings out"
        )
    parts = ("tokenizer.", "model.")
    other = [key for key in differences(start, recipe) if key.startswith(parts) and key not in FREE]
    if "model.family" in other:  # each family has its own keys, which differ because of it
        other = [key for key in other if key == "model.family" or not key.startswith("model.")]
    if other:
        its = (f"{k} = {_value(start, k)!r} (given: {_value(recipe, k)!r})" for k in other)
        raise CalqueError(
            f"{where}: to train from it, there must be, as in its recipe, {', '.join(its)}; leave "
            "these out, and a preset too, which stands for sizes of the model"
        )


def _value(recipe: Recipe, place: str) -> Any:
    section, key = place.split(".")
    return getattr(getattr(recipe, section), key)
