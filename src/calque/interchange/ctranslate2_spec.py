"""Weights of a calque model in the slots of CTranslate2's Transformer."""

from typing import Any

import numpy as np
import torch
from ctranslate2.specs.common_spec import Activation
from ctranslate2.specs.transformer_spec import (
    TransformerDecoderSpec,
    TransformerEncoderSpec,
    TransformerSpec,
)
from torch import Tensor, nn

from calque.checkpoint import RunFolder
from calque.interchange.expressible import require_expressible
from calque.models.transformer import MultiHeadAttention, Transformer
from calque.text.tokenizers.interface import BOS, EOS, PAD, SPECIALS, UNK, Tokenizer

POSITIONS = 2048
"""Rows of a table of sinusoids: CTranslate2 knows no other positions than those of its table."""
ACTIVATIONS = {"relu": Activation.RELU, "swish": Activation.SWISH, "gelu": Activation.GELU}
PRE_NORM = {"post": False, "pre": True}
EXPRESSED: dict[str, tuple[str, ...]] = {
    "positions": ("sinusoidal", "half_split", "learned", "relative", "rotary"),
    "score": ("scaled_dot",),
    "pattern": ("full",),
    "heads": ("multi", "biased"),
    "feed_forward": tuple(ACTIVATIONS),
    "norm": ("layer",),
    "residual": tuple(PRE_NORM),
    "output": ("tied", "biased"),
}
"""The parts that CTranslate2 has, by the key of a recipe's `model` section."""


def names(tokenizer: Tokenizer) -> list[str]:
    """What CTranslate2 calls each id: its piece, and where that is taken, its id behind it too."""
    special = tokenizer.special
    # Where texts begin with padding, that is its name.
    with_meaning = {special.bos: SPECIALS[BOS], special.pad: SPECIALS[PAD]}
    with_meaning |= {special.unk: SPECIALS[UNK], special.eos: SPECIALS[EOS]}
    taken = set(with_meaning.values())
    result = []
    for i, piece in enumerate(tokenizer.pieces(range(tokenizer.vocab_size))):
        name = with_meaning.get(i, piece)
        while i not in with_meaning and name in taken:
            name += f"#{i}"
        taken.add(name)
        result.append(name)
    return result


def make_spec(run: RunFolder, model: Transformer) -> TransformerSpec:
    """The model of a run, ready to be quantised and saved; its weights are copies.

    Every setting that has a default of CTranslate2's own is written out.
    """
    config = require_expressible(run.recipe.model, EXPRESSED, "CTranslate2")
    setting = {
        "pre_norm": PRE_NORM[config.residual],
        "activation": ACTIVATIONS[config.feed_forward],
        "relative_position": config.positions == "relative",
        "rotary_dim": 0 if config.positions == "rotary" else None,  # 0 is all of a head
        "rotary_interleave": True,
        "rotary_base": 10000,
    }
    spec = TransformerSpec(
        TransformerEncoderSpec(config.num_encoder_layers, config.num_heads, **setting),
        TransformerDecoderSpec(config.num_decoder_layers, config.num_heads, **setting),
    )
    source, target = run.tokenizers.source, run.tokenizers.target
    spec.register_source_vocabulary(names(source))
    spec.register_target_vocabulary(names(target))
    _set_config(spec.config, names(target), target, model)
    _set_embeddings(spec, run, model, config.positions)
    for layer_spec, layer in zip(spec.encoder.layer, model.encoder, strict=True):
        _set_attention(layer_spec.self_attention, layer.self_attention, layer.residuals[0])
        _set_feed_forward(layer_spec.ffn, layer)
    for layer_spec, layer in zip(spec.decoder.layer, model.decoder, strict=True):
        _set_attention(layer_spec.self_attention, layer.self_attention, layer.residuals[0])
        _set_cross_attention(layer_spec.attention, layer.cross_attention, layer.residuals[1])
        _set_feed_forward(layer_spec.ffn, layer)
    if PRE_NORM[config.residual]:
        _set_norm(spec.encoder.layer_norm, model.encoder_norm)
        _set_norm(spec.decoder.layer_norm, model.decoder_norm)
    spec.validate()
    return spec


def _set_config(config: Any, vocabulary: list[str], tokenizer: Tokenizer, model: Any) -> None:
    special = tokenizer.special
    config.unk_token, config.eos_token = vocabulary[special.unk], vocabulary[special.eos]
    config.bos_token = config.decoder_start_token = vocabulary[special.bos]
    config.add_source_bos, config.add_source_eos = False, True
    config.layer_norm_epsilon = model.encoder[0].residuals[0].norm.eps


def _set_embeddings(spec: Any, run: RunFolder, model: Transformer, positions: str) -> None:
    """What comes in and what goes out: tokens, positions, logits."""
    embedding = model.embedding
    if run.recipe.tokenizer.vocabulary == "separate":
        source, target = embedding.source_table, embedding.target_table
    else:
        source = target = embedding.table
    spec.encoder.embeddings[0].weight = _copy(source.weight)
    spec.decoder.embeddings.weight = _copy(target.weight)
    spec.encoder.scale_embeddings = spec.decoder.scale_embeddings = float(embedding.scale)
    spec.decoder.start_from_zero_embedding = False
    weight, bias = model.output_weights
    spec.decoder.projection.weight = _copy(weight)
    if bias is not None:
        spec.decoder.projection.bias = _copy(bias)
    if positions == "rotary":
        del spec.encoder.position_encodings
    elif positions != "relative":
        for side in (spec.encoder, spec.decoder):
            side.position_encodings.encodings = _copy(_positions(run, model, positions))


def _positions(run: RunFolder, model: Any, positions: str) -> Tensor:
    if positions == "learned":
        return model.positions.table.weight
    return model.positions(max(POSITIONS, run.recipe.decoding.max_length + 1))


def _set_attention(spec: Any, heads: MultiHeadAttention, residual: nn.Module) -> None:
    _set_linear(spec.linear[0], heads.query, heads.key, heads.value)
    _set_linear(spec.linear[1], heads.output)
    _set_norm(spec.layer_norm, residual.norm)
    if hasattr(spec, "relative_position_keys"):
        relative: Any = heads.attention
        spec.relative_position_keys = _copy(relative.relative_key.weight)
        spec.relative_position_values = _copy(relative.relative_value.weight)


def _set_cross_attention(spec: Any, heads: MultiHeadAttention, residual: nn.Module) -> None:
    _set_linear(spec.linear[0], heads.query)
    _set_linear(spec.linear[1], heads.key, heads.value)
    _set_linear(spec.linear[2], heads.output)
    _set_norm(spec.layer_norm, residual.norm)


def _set_feed_forward(spec: Any, layer: Any) -> None:
    _set_linear(spec.linear_0, layer.feed_forward[0])
    _set_linear(spec.linear_1, layer.feed_forward[2])
    _set_norm(spec.layer_norm, layer.residuals[-1].norm)


def _set_linear(spec: Any, *layers: nn.Linear) -> None:
    """One product in the place of several of one input."""
    spec.weight = _copy(torch.cat([layer.weight for layer in layers]))
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    if biases:
        spec.bias = _copy(torch.cat(biases))


def _set_norm(spec: Any, norm: Any) -> None:
    spec.gamma, spec.beta = _copy(norm.weight), _copy(norm.bias)


def _copy(tensor: Tensor) -> np.ndarray:
    # A copy, for quantisation scales in place what it is given.
    return tensor.detach().cpu().float().numpy().copy()
