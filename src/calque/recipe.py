"""A recipe: everything one training is made from, as one frozen dataclass and one TOML file."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from calque.config import CalqueError, choose, parse, to_toml
from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import NORMALISATIONS
from calque.models.build import FAMILIES, AnyModelConfig, ModelConfig
from calque.models.transformer import TransformerSizes
from calque.text.corpus.languages import refuse_other_languages
from calque.text.data import DataConfig
from calque.text.parsers import PARSERS
from calque.text.tokenizers import TOKENIZERS
from calque.text.tokenizers.interface import TokenizerConfig

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
HIGHEST_PEAK, LOWEST_FACTOR = 0.1, 0.02
"""Learning rates above the first diverge with any Adam; they are the factor of another schedule.
Factors below the second hardly move a weight; they are the rates of another schedule."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The `training` section; the defaults are the paper's (§5.3, §5.4) where it has one."""

    max_steps: Positive = 100_000
    max_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Stop after so many minutes of training, if max_steps has not come before."""
    batch_tokens: Positive = 4096
    """Longest of source and target, times rows, padding counted: per micro-batch, and GPU."""
    accumulation: Positive = 1
    """Micro-batches to one step of the optimizer."""
    validate_every: Positive = 1000
    """Steps."""
    save_every: Positive = 1000
    """Steps."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    optimizer: str = "adam"
    """A name in OPTIMIZERS: adam (β 0.9, 0.98, ε 1e-9) or adamw."""
    weight_decay: Factor = 0.0
    """For adamw, which needs one."""
    schedule: str = "paper"
    """A name in SCHEDULES: paper, inverse_sqrt, cosine."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The peak, for inverse_sqrt and cosine; a factor on eq. 3 of the paper, for paper."""
    warmup_steps: Positive = 4000
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    r_drop: Factor = 0.0
    """Weight α of the consistency loss of R-Drop (arXiv:2106.14448, eq. 4); 0 is off."""
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient of a step; 0 is off."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """auto: bf16 where the processor or GPU is quick at it."""
    stop_on: Literal["bleu", "loss"] = "bleu"
    """What the best checkpoints are best at, and early stopping waits for."""
    patience: Positive | None = None
    """Validations without a new best before training stops; none: never."""
    keep_best: Positive = 1
    keep_last: Positive = 1
    average: Positive = 1
    """Last checkpoints whose mean is tried when training has ended (arXiv:1706.03762, §6.1), and
    published if it is better than the best; 1 is none."""
    embeddings: str | tuple[str, ...] | None = None
    """Files of `calque embed` to start the embedding tables from: one for each vocabulary."""
    freeze_embeddings: bool = False
    """Keep the tables that started from these files as they are."""

    @property
    def vector_files(self) -> tuple[str, ...]:
        """The files of `embeddings`, if any."""
        named = self.embeddings or ()
        return (named,) if isinstance(named, str) else named


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The sections of a recipe."""

    data: DataConfig = field(default_factory=DataConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: Annotated[AnyModelConfig, Field(discriminator="family")] = field(
        default_factory=ModelConfig
    )
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def to_toml(self) -> str:
        """The recipe as a file, every default written out."""
        return to_toml(self)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "num_encoder_layers": 4,
        "num_decoder_layers": 4,
        "d_model": 128,
        "d_ff": 256,
        "num_heads": 4,
        "dropout": 0.3,
    },
    "small": {"d_model": 512, "d_ff": 1024, "num_heads": 4, "dropout": 0.3},
    "base": {},
    "big": {"d_model": 1024, "d_ff": 4096, "num_heads": 16, "dropout": 0.3},
}
"""Sizes that have a name; what is left out is the base model's of Table 3."""


def make_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain values; `preset = "tiny"` at the top stands for sizes of the model.

    A corpus may be written as the list of its two files. Raises CalqueError for what does not
    fit, within a section or between two.
    """
    sections = _with_family(with_preset(values, where), where)
    if isinstance(sections.get("data"), Mapping):
        sections["data"] = {
            key: _corpora(value) if key in ("train", "valid", "test") else value
            for key, value in sections["data"].items()
        }
    recipe = parse(Recipe, sections, where)
    choose(f"{where}.tokenizer.kind", recipe.tokenizer.kind, TOKENIZERS)
    choose(f"{where}.decoding.search", recipe.decoding.search, SEARCHES)
    normalisation = recipe.decoding.length_normalisation
    choose(f"{where}.decoding.length_normalisation", normalisation, NORMALISATIONS)
    _check_across_sections(recipe, where)
    return recipe


def require_corpora(recipe: Recipe, where: str, languages_in: str | None = None) -> None:
    """Raise CalqueError unless there is something to train on and to validate on.

    Where files name their languages, these must be the recipe's, which stand in `languages_in` if
    not in `where`.
    """
    data = recipe.data
    if not data.train or not data.valid:
        raise CalqueError(f"{where}.data: train and valid each need at least one corpus")
    for split in ("train", "valid", "test"):
        for number, corpus in enumerate(getattr(data, split)):
            place = f"{where}.data.{split}[{number}]"
            refuse_other_languages(corpus, place, data, languages_in or where)


def require_trainable(recipe: Recipe, where: str, languages_in: str | None = None) -> None:
    """Raise CalqueError unless a training can begin: with corpora, and no key without effect.

    `languages_in` is as in `require_corpora`.
    """
    require_corpora(recipe, where, languages_in)
    training, model = recipe.training, recipe.model
    if training.optimizer != "adamw" and training.weight_decay:
        raise CalqueError(
            f"{where}.training.weight_decay: {training.weight_decay:g} does nothing with optimizer "
            f"{training.optimizer}; set training.optimizer to adamw, or leave weight_decay out"
        )
    if training.optimizer == "adamw" and not training.weight_decay:
        raise CalqueError(
            f"{where}.training.optimizer: adamw without weight_decay is adam; set "
            "training.weight_decay (try 0.01), or leave optimizer out"
        )
    if training.schedule == "paper" and training.learning_rate < LOWEST_FACTOR:
        raise CalqueError(
            f"{where}.training.learning_rate: {training.learning_rate:g} is a rate, and schedule "
            "paper takes a factor on its own (try 1); for a rate, set training.schedule to "
            "inverse_sqrt or cosine"
        )
    drops = model.dropout or (isinstance(model, ModelConfig) and model.attention_dropout)
    if training.r_drop and not drops:
        raise CalqueError(
            f"{where}.training.r_drop: {training.r_drop:g} compares two dropouts of one batch, "
            "and there is none; set model.dropout, or leave r_drop out"
        )


def apply_change(values: dict[str, Any], change: str) -> None:
    """Set one key, given as `section.key=value` with the value in TOML (bare words are text)."""
    place, equals, text = change.partition("=")
    *sections, key = place.strip().split(".")
    if not equals or not key:
        raise CalqueError(f"--set {change}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise CalqueError(f"--set {change}: {section} is not a section")
    values[key] = value


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Names of the keys, as `section.key`, whose values differ."""
    return [
        f"{section.name}.{key.name}"
        for section in fields(Recipe)
        for key in fields(getattr(old, section.name))
        if getattr(getattr(old, section.name), key.name)
        != getattr(getattr(new, section.name), key.name, None)
    ]


def with_preset(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The sections, with the sizes that the preset stands for."""
    sections = {key: value for key, value in values.items() if key != "preset"}
    if "preset" in values:
        sizes = choose(f"{where}: preset", str(values["preset"]), PRESETS)
        base, model = asdict(TransformerSizes()), sections.get("model", {})
        if isinstance(model, Mapping) and model.get("family", "transformer") != "transformer":
            raise CalqueError(
                f"{where}: preset: stands for sizes of a Transformer, and model.family is "
                f"{model['family']}; leave preset out and give the sizes themselves"
            )
        # What is no table stays as it is, for `parse` to refuse.
        sections["model"] = {**base, **sizes, **model} if isinstance(model, Mapping) else model
    return sections


def _with_family(sections: dict[str, Any], where: str) -> dict[str, Any]:
    """The sections, with the family that decides which keys the model has."""
    model = sections.get("model", {})
    if not isinstance(model, Mapping):  # for `parse` to refuse
        return sections
    family = model.get("family", "transformer")
    choose(f"{where}.model.family", str(family), FAMILIES)
    return sections | {"model": {"family": family, **model}}


def _corpora(value: Any) -> Any:
    """Two file names are one corpus; a lone table is a list of one."""
    if isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return [{"source": value[0], "target": value[1]}]
    return [value] if isinstance(value, Mapping) else value


def _check_across_sections(recipe: Recipe, where: str) -> None:
    if recipe.tokenizer.sampling and recipe.tokenizer.kind not in ("bpe", "unigram"):
        raise CalqueError(
            f"{where}.tokenizer.sampling: {recipe.tokenizer.kind} has no subword sampling; "
            "set it to 0, or tokenizer.kind to bpe or unigram"
        )
    if recipe.model.needs_trees:
        _check_trees(recipe, where)
    training = recipe.training
    if training.schedule in ("inverse_sqrt", "cosine") and training.learning_rate > HIGHEST_PEAK:
        raise CalqueError(
            f"{where}.training.learning_rate: {training.learning_rate:g} is a factor for "
            f"schedule paper; for {training.schedule} it is the highest rate itself, at "
            f"most {HIGHEST_PEAK:g} (try 0.001)"
        )
    for section, limit in (("data", recipe.data), ("decoding", recipe.decoding)):
        if (reach := recipe.model.reach) is not None and limit.max_length >= reach:
            raise CalqueError(
                f"{where}.{section}.max_length: {limit.max_length} is more than the {reach - 1} "
                "tokens for which the model has a place"
            )
    if training.average > training.keep_last:
        raise CalqueError(
            f"{where}.training.average: {training.average} is more than keep_last = "
            f"{training.keep_last}: only what is kept can be averaged"
        )
    tables = 1 if recipe.tokenizer.vocabulary == "joint" else 2
    if len(training.vector_files) > tables:
        raise CalqueError(
            f"{where}.training.embeddings: {len(training.vector_files)} files, but the "
            f"embedding tables of a {recipe.tokenizer.vocabulary} vocabulary are {tables}"
        )
    if training.freeze_embeddings and not training.vector_files:
        raise CalqueError(
            f"{where}.training.freeze_embeddings: without training.embeddings, nothing is kept"
        )


def _check_trees(recipe: Recipe, where: str) -> None:
    """Raise CalqueError unless all corpora get the trees that structural positions need."""
    if parser := recipe.data.parser:
        choose(f"{where}.data.parser", parser.partition(":")[0], PARSERS)
    for split in ("train", "valid", "test"):
        for number, corpus in enumerate(getattr(recipe.data, split)):
            if not (corpus.trees or parser):
                raise CalqueError(
                    f"{where}.data.{split}[{number}].trees: missing; structural positions need "
                    "each source's dependency tree, in CoNLL-U or from data.parser"
                )
    if recipe.tokenizer.sampling:
        raise CalqueError(
            f"{where}.tokenizer.sampling: trees are laid over the usual tokens; set it to 0"
        )
