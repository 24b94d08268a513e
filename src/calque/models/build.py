"""The one place where a name becomes a model."""

from dataclasses import asdict, dataclass, fields

import torch

from calque.config import choose
from calque.models.parts.embeddings import EMBEDDINGS
from calque.models.parts.feed_forwards import FEED_FORWARDS
from calque.models.parts.fused_attention import FusedAttention
from calque.models.parts.heads import HEADS
from calque.models.parts.outputs import OUTPUTS
from calque.models.parts.positions import POSITIONS
from calque.models.parts.residuals import RESIDUALS
from calque.models.transformer import (
    Attention,
    Part,
    Parts,
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
class ModelConfig(TransformerSizes):
    """The `model` section of a recipe: the family, its sizes and the names of its parts."""

    family: str = "transformer"
    positions: str = "sinusoidal"
    heads: str = "multi"
    feed_forward: str = "relu"
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
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")
        super().__post_init__()
        choose("family", self.family, FAMILIES)
        for name, choices in SLOTS.items():
            choose(name, getattr(self, name), choices)


def build(
    config: ModelConfig,
    source_vocab_size: int,
    target_vocab_size: int,
    *,
    vocabulary: str = "joint",
    attention: str = "plain",
    **special_ids: int,
) -> Transformer:
    """A freshly initialised model; `vocabulary` says whether both languages share theirs.

    `special_ids` are pad_id, bos_id and eos_id, where they are not those of TransformerConfig.
    """
    make = choose("family", config.family, FAMILIES)
    path = choose("attention", attention, ATTENTIONS)
    positions = POSITIONS[config.positions]
    parts = Parts(
        embedding=choose("vocabulary", vocabulary, EMBEDDINGS),
        positions=positions.added,
        self_attention=positions.self_attention or path,
        cross_attention=path,
        heads=HEADS[config.heads],
        feed_forward=FEED_FORWARDS[config.feed_forward],
        residual=RESIDUALS[config.residual],
        output=OUTPUTS[config.output],
    )
    names = {field.name for field in fields(TransformerSizes)}
    sizes = {name: value for name, value in asdict(config).items() if name in names}
    vocabularies = {"source_vocab_size": source_vocab_size, "target_vocab_size": target_vocab_size}
    return make(TransformerConfig(**sizes, **vocabularies, **special_ids), parts)


FAMILIES = {"transformer": Transformer}
SLOTS = {
    "positions": POSITIONS,
    "heads": HEADS,
    "feed_forward": FEED_FORWARDS,
    "residual": RESIDUALS,
    "output": OUTPUTS,
}
"""The names that each key of a recipe's `model` section may have."""
