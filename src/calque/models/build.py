"""The one place where a name becomes a model."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any, Literal, overload

import torch

from calque.config import choose
from calque.models.convolutional import Convolutional, ConvolutionalConfig, ConvolutionalSizes
from calque.models.parts.embeddings import EMBEDDINGS
from calque.models.parts.feed_forwards import FEED_FORWARDS
from calque.models.parts.fused_attention import FusedAttention
from calque.models.parts.heads import HEADS
from calque.models.parts.norms import NORMS, listen_to
from calque.models.parts.outputs import OUTPUTS
from calque.models.parts.patterns import PATTERNS, PatternSizes
from calque.models.parts.positions import LEARNED, POSITIONS
from calque.models.parts.residuals import RESIDUALS
from calque.models.parts.scores import SCORES
from calque.models.parts.structural_positions import introduce
from calque.models.recurrent import Recurrent, RecurrentConfig, RecurrentSizes
from calque.models.transformer import (
    Attention,
    Part,
    Parts,
    ScaledDotProduct,
    Transformer,
    TransformerConfig,
    TransformerSizes,
)

ATTENTIONS: dict[str, Part] = {"plain": Attention, "fused": FusedAttention}
"""Two paths to one result: plain keeps the weights where hooks can see them."""


def attention_for(device: torch.device) -> str:
    """The faster path: on a CPU, at the length of sentences, that is the plain one."""
    return "plain" if device.type == "cpu" else "fused"


@dataclass(frozen=True, kw_only=True)
class ModelConfig(TransformerSizes, PatternSizes):
    """The `model` section of a recipe: the family, its sizes and the names of its parts."""

    family: Literal["transformer"] = "transformer"
    positions: str = "sinusoidal"
    score: str = "scaled_dot"
    pattern: str = "full"
    heads: str = "multi"
    feed_forward: str = "relu"
    norm: str = "layer"
    residual: str = "post"
    output: str = "tied"

    def __post_init__(self) -> None:
        for name in ("num_encoder_layers", "num_decoder_layers", "d_model", "d_ff", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not at least 1")
        if self.d_model % 2:
            raise ValueError(
                f"d_model {self.d_model} is odd: positions are pairs of sine and cosine"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        TransformerSizes.__post_init__(self)
        PatternSizes.__post_init__(self)
        for name, choices in SLOTS.items():
            choose(name, getattr(self, name), choices)
        self._refuse_what_does_not_go_together()

    @property
    def reach(self) -> int | None:
        """Tokens, with begin or end, for which there is a place; None: any number."""
        ends = {
            LEARNED if self.positions == "learned" else None,
            self.longest if self.pattern == "linformer" else None,
        }
        return min((end for end in ends if end), default=None)

    @property
    def needs_trees(self) -> bool:
        """Whether each source must come with its dependency tree."""
        return self.positions in ("structural", "structural_relative")

    def _refuse_what_does_not_go_together(self) -> None:
        if self.d_key is not None and self.d_key < 1:
            raise ValueError(f"d_key {self.d_key} is not at least 1")
        if self.positions == "rotary" and self.key_width % 2:
            raise ValueError(
                f"positions rotary turn pairs of numbers, but the queries of a head are "
                f"{self.key_width} wide; choose d_model, num_heads or d_key so that it is even"
            )
        if self.positions in ("relative", "structural_relative") and self.score != "scaled_dot":
            raise ValueError(
                f"positions {self.positions} come with a score of their own (a scaled dot "
                f"product), so score {self.score} would not be used"
            )
        beside = self.positions in ("relative", "structural_relative", "alibi")
        if beside and self.pattern not in ("full", "causal"):
            raise ValueError(
                f"positions {self.positions} need the distance of every query and key, which "
                f"pattern {self.pattern} does not lay side by side; choose other positions"
            )
        if self.residual == "none" and self.feed_forward == "none":
            raise ValueError(
                "feed_forward none with residual none leaves a layer no non-linearity "
                "and no way around it; keep one of the two"
            )


@dataclass(frozen=True, kw_only=True)
class RecurrentModelConfig(RecurrentSizes):
    """The `model` section of the recurrent family; of a source of any length."""

    family: Literal["recurrent"] = "recurrent"
    reach = None
    needs_trees = False


@dataclass(frozen=True, kw_only=True)
class ConvolutionalModelConfig(ConvolutionalSizes):
    """The `model` section of the convolutional family, whose positions are learned."""

    family: Literal["convolutional"] = "convolutional"
    reach = LEARNED
    needs_trees = False


AnyModelConfig = ModelConfig | RecurrentModelConfig | ConvolutionalModelConfig
Model = Transformer | Recurrent | Convolutional
"""What `build` makes: each is a `Seq2Seq`, and a torch module."""


@overload
def build(
    config: ModelConfig, source_vocab_size: int, target_vocab_size: int, **others: Any
) -> Transformer: ...
@overload
def build(
    config: AnyModelConfig, source_vocab_size: int, target_vocab_size: int, **others: Any
) -> Model: ...
def build(
    config: AnyModelConfig,
    source_vocab_size: int,
    target_vocab_size: int,
    *,
    vocabulary: str = "joint",
    attention: str = "plain",
    **special_ids: int,
) -> Model:
    """A freshly initialised model; `vocabulary` says whether both languages share theirs.

    `special_ids` are pad_id, bos_id and eos_id, where they are not those of TransformerConfig.
    """
    embedding = choose("vocabulary", vocabulary, EMBEDDINGS)
    path = choose("attention", attention, ATTENTIONS)
    vocabularies = {"source_vocab_size": source_vocab_size, "target_vocab_size": target_vocab_size}
    return FAMILIES[config.family].make(config, embedding, path, vocabularies | special_ids)


def _transformer(
    config: ModelConfig, embedding: Part, path: Part, ids: dict[str, Any]
) -> Transformer:
    score = SCORES[config.score]
    attention = path if score is ScaledDotProduct else partial(Attention, score=score)
    positions = POSITIONS[config.positions]

    def positioned(attention: Part) -> Part:
        return positions.self_attention(attention, score)

    def positioned_in_encoder(attention: Part) -> Part:
        return (positions.encoder_attention or positions.self_attention)(attention, score)

    parts = Parts(
        embedding=embedding,
        positions=positions.added,
        encoder_attention=PATTERNS[config.pattern](attention, positioned_in_encoder, config),
        decoder_attention=positioned(attention),
        cross_attention=attention,
        heads=HEADS[config.heads],
        feed_forward=FEED_FORWARDS[config.feed_forward],
        norm=NORMS[config.norm],
        residual=RESIDUALS[config.residual],
        output=OUTPUTS[config.output],
    )
    model = Transformer(TransformerConfig(**_sizes(config, TransformerSizes), **ids), parts)
    listen_to(model.embedding, model, model.config.pad_id)
    introduce(model.positions, model)
    return model


def _recurrent(
    config: RecurrentModelConfig, embedding: Part, _path: Part, ids: dict[str, Any]
) -> Recurrent:
    return Recurrent(RecurrentConfig(**_sizes(config, RecurrentSizes), **ids), embedding)


def _convolutional(
    config: ConvolutionalModelConfig, embedding: Part, _path: Part, ids: dict[str, Any]
) -> Convolutional:
    sizes = _sizes(config, ConvolutionalSizes)
    return Convolutional(ConvolutionalConfig(**sizes, **ids), embedding)


def _sizes(config: AnyModelConfig, of: type) -> dict[str, Any]:
    names = {field.name for field in fields(of)}
    return {name: value for name, value in asdict(config).items() if name in names}


@dataclass(frozen=True)
class Family:
    """A kind of model: the `model` section of its recipes, and how it is made from one."""

    config: type[AnyModelConfig]
    make: Callable[..., Model]


FAMILIES: dict[str, Family] = {
    "transformer": Family(ModelConfig, _transformer),
    "recurrent": Family(RecurrentModelConfig, _recurrent),
    "convolutional": Family(ConvolutionalModelConfig, _convolutional),
}
SLOTS: dict[str, dict[str, Any]] = {
    "positions": POSITIONS,
    "score": SCORES,
    "pattern": PATTERNS,
    "heads": HEADS,
    "feed_forward": FEED_FORWARDS,
    "norm": NORMS,
    "residual": RESIDUALS,
    "output": OUTPUTS,
}
"""The names that each key of a Transformer's `model` section may have."""
