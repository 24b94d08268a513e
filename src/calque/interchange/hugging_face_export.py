"""Out to Hugging Face: a run becomes a folder that `transformers` loads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from transformers.utils import logging

from calque.checkpoint import RunFolder, refuse_occupied
from calque.decoding.config import DecodingConfig
from calque.interchange.equivalence import (
    held_out,
    our_log_probs,
    require_equal,
    token_log_probs,
)
from calque.interchange.expressible import require_expressible
from calque.interchange.hugging_face import (
    EXPRESSED,
    Architecture,
    architecture_of,
    places,
    stream_order,
    to_theirs,
)
from calque.interchange.hugging_face_tokenizer import tokenizer_settings, write_tokenizers
from calque.models.parts.positions import LEARNED
from calque.text.batching import Batch
from calque.text.tokenizers.interface import SpecialIds
from calque.writing import whole_folder

LONGEST = LEARNED
"""Tokens of a text: theirs keep a table of positions."""
WU_STEEPNESS = 20 / (5 + 20)
"""((5 + |Y|) / 6)^α grows at |Y| = 20 as |Y|^(0.8 α) does."""


@dataclass(frozen=True)
class HuggingFaceExport:
    """What an export came to."""

    architecture: str
    """Their class."""
    difference: float
    """Largest difference of its log-probabilities from ours, in nats."""


def export_hugging_face(run: RunFolder, folder: Path) -> HuggingFaceExport:
    """Write a run's model as one of `transformers`, with MarianTokenizer's files beside it.

    The folder appears only when its log-probabilities are ours. Raises CalqueError when they are
    not, when `folder` is occupied, and for a part that no model of theirs has.
    """
    recipe = run.recipe
    config = require_expressible(recipe.model, EXPRESSED, "Hugging Face")
    architecture = architecture_of(config, recipe.tokenizer.vocabulary)
    refuse_occupied(folder)
    with _quiet(), whole_folder(folder.resolve()) as part:
        write_tokenizers(part, run.tokenizers, recipe.tokenizer)
        languages = recipe.data.source_language, recipe.data.target_language
        settings = tokenizer_settings(run.tokenizers, recipe.tokenizer, languages)
        settings["model_max_length"] = LONGEST
        (part / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), "utf-8")
        ours: Any = run.load_model().eval()
        model: Any = transformers.AutoModelForSeq2SeqLM.from_config(_config(run, architecture))
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        model.load_state_dict(
            to_theirs(
                ours.state_dict(),
                places(config, architecture, recipe.tokenizer.vocabulary),
                stream_order(config, architecture),
                shapes,
            ),
            strict=False,  # their table of positions stays
        )
        model.generation_config = _generation(recipe.decoding, run.tokenizers.special)
        model.save_pretrained(part)
        batch = held_out(run)
        difference = require_equal(
            our_log_probs(ours, batch), _log_probs(part, batch), "Hugging Face"
        )
    return HuggingFaceExport(type(model).__name__, difference)


def _config(run: RunFolder, architecture: Architecture) -> Any:
    model: Any = run.recipe.model
    special = run.tokenizers.special
    values = {
        "vocab_size": run.tokenizers.source.vocab_size,
        "encoder_layers": model.num_encoder_layers,
        "decoder_layers": model.num_decoder_layers,
        "d_model": model.d_model,
        "encoder_ffn_dim": model.d_ff,
        "decoder_ffn_dim": model.d_ff,
        "encoder_attention_heads": model.num_heads,
        "decoder_attention_heads": model.num_heads,
        "dropout": model.dropout,
        "activation_function": model.feed_forward,
        "max_position_embeddings": LONGEST,
        "scale_embedding": True,
        "pad_token_id": special.pad,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos,
        "decoder_start_token_id": special.bos,
        "forced_eos_token_id": None,
    }
    if architecture.separate:
        values["share_encoder_decoder_embeddings"] = run.recipe.tokenizer.vocabulary != "separate"
        values["decoder_vocab_size"] = run.tokenizers.target.vocab_size
    return transformers.AutoConfig.for_model(architecture.model_type, **values)


def _generation(decoding: DecodingConfig, special: SpecialIds) -> transformers.GenerationConfig:
    """Our search, as far as theirs can be told."""
    values: dict[str, Any] = {
        "max_length": decoding.max_length + 2,  # with what a translation begins and ends with
        "pad_token_id": special.pad,
        "eos_token_id": special.eos,
        "decoder_start_token_id": special.bos,
        "forced_eos_token_id": special.eos,
        "bad_words_ids": [[i] for i in sorted({special.pad, special.bos})],
    }
    if decoding.search == "beam" and decoding.beam_size > 1:
        steepness = WU_STEEPNESS if decoding.length_normalisation == "wu" else 1
        values |= {
            "num_beams": decoding.beam_size,
            "length_penalty": round(steepness * decoding.length_penalty, 4),
            "early_stopping": False,
        }
    return transformers.GenerationConfig(**values)


@torch.inference_mode()
def _log_probs(folder: Path, batch: Batch) -> Float[Tensor, " tokens"]:
    """What an export, as it lies on the disk, gives to each target token of a batch."""
    model: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    logits = model(
        input_ids=batch.source,
        attention_mask=(batch.source != batch.pad_id).long(),
        decoder_input_ids=batch.target[:, :-1],
    ).logits
    return token_log_probs(logits, batch)


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which `transformers` shows no bars of progress."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
