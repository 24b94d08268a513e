"""In from Hugging Face: a folder with a Marian model, as Helsinki-NLP's opus-mt, becomes a run."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calque.checkpoint import RunFolder, load_tensors, refuse_occupied
from calque.config import CalqueError, parse
from calque.interchange.hugging_face import (
    ACTIVATIONS,
    ARCHITECTURES,
    Architecture,
    places,
    to_ours,
)
from calque.interchange.hugging_face_tokenizer import Imported, read_json, read_tokenizers
from calque.models.build import ModelConfig, build
from calque.models.parts.positions import LEARNED, POSITIONS, Positions
from calque.models.transformer import TransformerConfig
from calque.recipe import make_recipe
from calque.text.data import is_language_code
from calque.text.tokenizers.interface import SpecialIds

CONFIG, GENERATION = "config.json", "generation_config.json"
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
POSITION_TABLES = tuple(f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder"))
LONGEST = 256
"""Tokens of a translation, where the model does not say."""


def import_hugging_face(folder: Path, out: Path) -> list[str]:
    """Make a run folder of a Marian model in Hugging Face format; what the user should know of it.

    It translates as `transformers` would, and can be trained on. Raises CalqueError for a file that
    is missing or damaged, for what our parts cannot express, and when `out` is occupied.
    """
    refuse_occupied(out)
    config = read_json(folder / CONFIG)
    where = str(folder / CONFIG)
    architecture = _architecture(config, where)
    model = _model_config(config, architecture, where)
    shared = bool(config.get("share_encoder_decoder_embeddings", True))
    source_size = _required(config, "vocab_size", where)
    sizes = source_size, source_size if shared else _required(config, "decoder_vocab_size", where)
    settings = config | _given(folder / GENERATION)
    imported = read_tokenizers(folder, sizes, shared, _special_ids(settings, sizes, where))
    weights, notes = _weights(folder, model, architecture, imported)
    languages = _given(folder / "tokenizer_config.json")
    recipe = make_recipe(
        {
            "data": {
                "train": [],
                "valid": [],
                "source_language": _code(languages.get("source_lang")),
                "target_language": _code(languages.get("target_lang")),
            },
            "tokenizer": asdict(imported.config),
            "model": asdict(model),
            "decoding": _decoding(settings),
        },
        str(folder),
    )
    preparation = {"imported": {"format": "hugging-face", "model_type": architecture.model_type}}
    RunFolder.create(out, recipe, imported.tokenizers, preparation, weights)
    return imported.notes + notes


def _code(language: Any) -> str | None:
    """A language's code; some models are of a family of languages, which has none."""
    return language if is_language_code(str(language)) else None


def _architecture(config: Mapping[str, Any], where: str) -> Architecture:
    model_type = config.get("model_type")
    if model_type not in ARCHITECTURES:
        _refuse("model_type", model_type, ", ".join(ARCHITECTURES), where)
    architecture = ARCHITECTURES[str(model_type)]
    pre, static = architecture.residual == "pre", architecture.positions != "learned"
    # What it must be, and what it is where the file is silent.
    for key, expected, silent in (
        ("tie_word_embeddings", True, True),
        ("scale_embedding", True, False),
        ("normalize_embedding", False, False),
        ("normalize_before", pre, pre),
        ("add_final_layer_norm", pre, pre),
        ("static_position_embeddings", static, static),
    ):
        if (value := config.get(key, silent)) != expected:
            _refuse(key, value, str(expected).lower(), where)
    for ours, theirs in (
        ("encoder_attention_heads", "decoder_attention_heads"),
        ("encoder_ffn_dim", "decoder_ffn_dim"),
    ):
        if config.get(ours) != config.get(theirs):
            _refuse(theirs, config.get(theirs), f"{config.get(ours)}, as {ours}", where)
    return architecture


def _model_config(config: Mapping[str, Any], architecture: Architecture, where: str) -> ModelConfig:
    activation = config.get("activation_function")
    if activation not in ACTIVATIONS:
        _refuse("activation_function", activation, ", ".join(sorted(ACTIVATIONS)), where)
    reach = config.get("max_position_embeddings")
    if architecture.positions == "learned" and reach != LEARNED:
        _refuse("max_position_embeddings", reach, str(LEARNED), where)
    sizes = {
        "num_encoder_layers": "encoder_layers",
        "num_decoder_layers": "decoder_layers",
        "d_model": "d_model",
        "d_ff": "encoder_ffn_dim",
        "num_heads": "encoder_attention_heads",
        "dropout": "dropout",
    }
    values = {ours: _required(config, theirs, where) for ours, theirs in sizes.items()}
    parts = {
        "positions": architecture.positions,
        "heads": "biased",
        "feed_forward": ACTIVATIONS[str(activation)],
        "residual": architecture.residual,
        "output": "biased",
    }
    return parse(ModelConfig, values | parts, where)


def _special_ids(settings: Mapping[str, Any], sizes: tuple[int, int], where: str) -> SpecialIds:
    keys = {"pad": "pad_token_id", "bos": "decoder_start_token_id", "eos": "eos_token_id"}
    ids = {ours: _required(settings, theirs, where) for ours, theirs in keys.items()}
    for ours, i in ids.items():
        if not isinstance(i, int) or not 0 <= i < min(sizes):
            _refuse(keys[ours], i, f"one id from 0 to {min(sizes) - 1}", where)
    return SpecialIds(**ids)


def _decoding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The `decoding` section of a recipe."""
    size = settings.get("num_beams", 1)
    return {
        "search": "greedy" if size == 1 else "beam",
        "beam_size": size,
        "length_penalty": settings.get("length_penalty", 1.0),
        "length_normalisation": "power",
        # Theirs counts what a translation begins and ends with.
        "max_length": settings.get("max_length", LONGEST + 2) - 2,
    }


def _weights(
    folder: Path, model: ModelConfig, architecture: Architecture, imported: Imported
) -> tuple[dict[str, Tensor], list[str]]:
    """Our parameters, and what the user should know of theirs."""
    path, theirs = _read_weights(folder)
    tokenizers, vocabulary = imported.tokenizers, imported.config.vocabulary
    with torch.device("meta"):
        empty = build(
            model,
            tokenizers.source.vocab_size,
            tokenizers.target.vocab_size,
            vocabulary=vocabulary,
        )
    _check_positions(theirs, POSITIONS[model.positions], empty.config, str(path))
    shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    found = places(model, architecture, vocabulary)
    used = {*POSITION_TABLES, *(name for place in found.values() for name in place.names)}
    left = sorted(theirs.keys() - used)
    if layers := [name for name in left if ".layers." in name]:
        raise CalqueError(f"{path}: {layers[0]} is of a layer that {CONFIG} does not have")
    notes = [f"{path}: left out, as Marian has no such tensors: {', '.join(left)}"] if left else []
    return to_ours(theirs, found, shapes, str(path)), notes


def _check_positions(
    theirs: Mapping[str, Tensor], positions: Positions, config: TransformerConfig, where: str
) -> None:
    """Refuse tables of sinusoids, which some files have, that hold something else."""
    table = positions.added(config)
    for name in POSITION_TABLES:
        if name in theirs and not list(table.parameters()):
            found = theirs[name].float()
            if not torch.allclose(found, table(len(found)), atol=1e-3):
                raise CalqueError(f"{where}: {name} are no sinusoids; expected those of Marian")


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    if (folder / SAFETENSORS).is_file():
        return folder / SAFETENSORS, load_tensors(folder / SAFETENSORS)
    path = folder / PICKLED
    if not path.is_file():
        raise CalqueError(f"{folder}: neither {SAFETENSORS} nor {PICKLED} is in it")
    try:
        return path, torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise CalqueError(f"{path}: holds something else than weights, or is damaged") from None


def _given(path: Path) -> dict[str, Any]:
    """The values of a JSON object that are not null; none of a file that is not there."""
    values = read_json(path) if path.exists() else {}
    return {key: value for key, value in values.items() if value is not None}


def _required(config: Mapping[str, Any], key: str, where: str) -> Any:
    if config.get(key) is None:
        raise CalqueError(f"{where}: {key} is missing")
    return config[key]


def _refuse(key: str, value: object, possible: str, where: str) -> None:
    raise CalqueError(f"{where}: {key} is {value!r}; possible: {possible}")
