"""Models of Hugging Face's transformers that are made of the same parts as ours.

Which architecture is which of our parts, and where each of our parameters is in it: stated once,
read in both directions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from calque.config import CalqueError
from calque.models.build import ModelConfig
from calque.models.parts.positions import POSITIONS


@dataclass(frozen=True)
class Architecture:
    """A model class of transformers, by its `model_type`."""

    model_type: str
    residual: str
    positions: str
    """As the architecture has them."""
    interleaved: str | None = None
    """Our positions that are the same but for the order of the columns."""
    separate: bool = False
    """Whether each language may have a vocabulary of its own."""


ARCHITECTURES = {
    "marian": Architecture("marian", "post", "half_split", "sinusoidal", separate=True),
    "pegasus": Architecture("pegasus", "pre", "half_split", "sinusoidal"),
    "blenderbot": Architecture("blenderbot", "pre", "learned"),
}
ACTIVATIONS = {"relu": "relu", "swish": "swish", "silu": "swish", "gelu": "gelu"}
"""Our feed_forward, by their activation_function."""
EXPRESSED = {
    "positions": tuple(POSITIONS),  # each architecture has its own; see `architecture_of`
    "score": ("scaled_dot",),
    "pattern": ("full",),
    "heads": ("multi", "biased"),
    "feed_forward": tuple(dict.fromkeys(ACTIVATIONS.values())),
    "norm": ("layer",),
    "residual": ("post", "pre"),
    "output": ("tied", "biased"),
}
"""The parts that some architecture has, by the key of a recipe's `model` section."""


def architecture_of(model: ModelConfig, vocabulary: str) -> Architecture:
    """The architecture that can hold a model. Raises CalqueError naming the part that none has."""
    fitting = [a for a in ARCHITECTURES.values() if a.residual == model.residual]
    names = " or ".join(a.model_type for a in fitting)
    with_positions = [a for a in fitting if model.positions in (a.positions, a.interleaved)]
    if not with_positions:
        possible = sorted({p for a in fitting for p in (a.positions, a.interleaved) if p})
        raise CalqueError(
            f"model.positions {model.positions}: Hugging Face's {names}, which has residual "
            f"{model.residual}, has none such; it has: {', '.join(possible)}"
        )
    (architecture,) = with_positions
    if vocabulary == "separate" and not architecture.separate:
        raise CalqueError(
            f"tokenizer.vocabulary separate: Hugging Face's {architecture.model_type}, which has "
            f"residual {model.residual}, has one vocabulary; possible: joint, shared"
        )
    return architecture


@dataclass(frozen=True)
class Place:
    """Where a parameter of ours is in theirs."""

    names: tuple[str, ...]
    """All hold the same."""
    stream: int | None = None
    """The axis that runs along the residual stream, d_model wide."""


def places(model: ModelConfig, architecture: Architecture, vocabulary: str) -> dict[str, Place]:
    """The place of each parameter; a part without biases has no use for some of them."""
    found = dict(_embeddings(vocabulary))
    found["output.bias"] = Place(("final_logits_bias",))
    if architecture.positions == "learned":
        tables = tuple(f"model.{side}.embed_positions.weight" for side in ("encoder", "decoder"))
        found["positions.table.weight"] = Place(tables, stream=1)
    for i in range(model.num_encoder_layers):
        found |= _layer(f"encoder.{i}", f"model.encoder.layers.{i}", ENCODER_LAYER)
    for i in range(model.num_decoder_layers):
        found |= _layer(f"decoder.{i}", f"model.decoder.layers.{i}", DECODER_LAYER)
    if architecture.residual == "pre":
        for side in ("encoder", "decoder"):
            found |= _norm(f"{side}_norm", f"model.{side}.layer_norm")
    return found


ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
ENCODER_LAYER = {
    "self_attention": "self_attn",
    "residuals.0.norm": "self_attn_layer_norm",
    "residuals.1.norm": "final_layer_norm",
}
DECODER_LAYER = {
    "self_attention": "self_attn",
    "cross_attention": "encoder_attn",
    "residuals.0.norm": "self_attn_layer_norm",
    "residuals.1.norm": "encoder_attn_layer_norm",
    "residuals.2.norm": "final_layer_norm",
}


def _embeddings(vocabulary: str) -> Iterator[tuple[str, Place]]:
    source, target = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
    if vocabulary == "separate":
        yield "embedding.source_table.weight", Place((source,), stream=1)
        yield "embedding.target_table.weight", Place((target, "lm_head.weight"), stream=1)
    else:
        everywhere = "model.shared.weight", source, target, "lm_head.weight"
        yield "embedding.table.weight", Place(everywhere, stream=1)


def _layer(ours: str, theirs: str, members: Mapping[str, str]) -> dict[str, Place]:
    found = _linear(f"{ours}.feed_forward.0", f"{theirs}.fc1", reads=True)
    found |= _linear(f"{ours}.feed_forward.2", f"{theirs}.fc2", reads=False)
    for our_name, their_name in members.items():
        if our_name.endswith("norm"):
            found |= _norm(f"{ours}.{our_name}", f"{theirs}.{their_name}")
        else:
            for projection, name in ATTENTION.items():
                place = f"{ours}.{our_name}.{projection}", f"{theirs}.{their_name}.{name}"
                found |= _linear(*place, reads=projection != "output")
    return found


def _linear(ours: str, theirs: str, reads: bool) -> dict[str, Place]:
    """A product that reads from the residual stream, or writes to it."""
    return {
        f"{ours}.weight": Place((f"{theirs}.weight",), stream=1 if reads else 0),
        f"{ours}.bias": Place((f"{theirs}.bias",), stream=None if reads else 0),
    }


def _norm(ours: str, theirs: str) -> dict[str, Place]:
    return {f"{ours}.{name}": Place((f"{theirs}.{name}",), stream=0) for name in ("weight", "bias")}


def to_theirs(
    weights: Mapping[str, Tensor],
    places: Mapping[str, Place],
    order: Int[Tensor, " d_model"],
    shapes: Mapping[str, torch.Size],
) -> dict[str, Tensor]:
    """Our parameters under their names; a bias that we do not have is zero.

    `order` has, for each column of their residual stream, its number in ours.
    """
    theirs = {}
    for ours, place in places.items():
        shape = shapes[place.names[0]]
        tensor = weights.get(ours, torch.zeros(shape))
        if place.stream is not None:
            tensor = tensor.index_select(place.stream, order)
        theirs |= dict.fromkeys(place.names, tensor.reshape(shape))
    return theirs


def to_ours(
    theirs: Mapping[str, Tensor],
    places: Mapping[str, Place],
    shapes: Mapping[str, torch.Size],
    where: str,
) -> dict[str, Tensor]:
    """Their parameters under our names, in float32; `where` begins every message.

    Raises CalqueError for a tensor that is missing, of another shape, not finite, or not the same
    everywhere.
    """
    ours = {}
    for name, place in places.items():
        found = [theirs[their_name] for their_name in place.names if their_name in theirs]
        if not found:
            raise CalqueError(f"{where}: no tensor {place.names[0]}")
        if tuple(found[0].shape) not in (shapes[name], (1, *shapes[name])):
            raise CalqueError(
                f"{where}: {place.names[0]} is {tuple(found[0].shape)}, expected "
                f"{tuple(shapes[name])}"
            )
        if not found[0].isfinite().all():
            raise CalqueError(f"{where}: {place.names[0]} holds numbers that are not finite")
        if not all(torch.equal(found[0], other) for other in found[1:]):
            raise CalqueError(f"{where}: {' and '.join(place.names)} differ; expected one matrix")
        ours[name] = found[0].reshape(shapes[name]).float()
    return ours


def stream_order(model: ModelConfig, architecture: Architecture) -> Int[Tensor, " d_model"]:
    """Of each column of their residual stream, its number in ours.

    The paper's sinusoids alternate between sine and cosine; theirs are all sines, then all cosines.
    Columns that change places alike in every parameter change nothing.
    """
    columns = torch.arange(model.d_model)
    if model.positions == architecture.interleaved:
        return torch.cat([columns[0::2], columns[1::2]])
    return columns
