"""Positions: how the model is told where a token stands."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calque.config import CalqueError
from calque.models.parts.positioned_attention import DistancePenalty, RotaryAttention
from calque.models.parts.relative_attention import RelativeAttention
from calque.models.parts.structural_positions import (
    StructuralAttention,
    StructuralPositions,
    StructuralRelativePositions,
)
from calque.models.transformer import (
    Attention,
    Part,
    PositionTable,
    SinusoidalPositions,
    TransformerConfig,
)

LEARNED = 1024
"""Positions of a learned table."""


class HalfSplitPositions(SinusoidalPositions):
    """The paper's sinusoids, all sines before all cosines: as in `MarianMTModel` of transformers.

    The same but for the order of the columns, which a model learns either way. Marian itself and
    tensor2tensor also space the wavelengths a little otherwise: exponents of i / (d_model / 2 - 1).
    """

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:
        """See `SinusoidalPositions`."""
        table = super().forward(length, start)
        return torch.cat([table[:, 0::2], table[:, 1::2]], dim=1)


class LearnedPositions(PositionTable):
    """A vector for each position, trained like any weight: arXiv:1706.03762, Table 3 (E).

    There are LEARNED of them. Raises CalqueError where a text goes on beyond the last.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.table = nn.Embedding(LEARNED, config.d_model)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:
        """See `SinusoidalPositions`."""
        if start + length > len(self.table.weight):
            raise CalqueError(
                f"a text of {start + length:,} tokens, with its begin or end, is longer than the "
                f"{LEARNED:,} positions that this model has learned; cut it into shorter ones"
            )
        return self.table.weight[start : start + length]


class NoPositions(PositionTable):
    """Nothing is added to the embeddings."""

    nothing: Tensor  # [1, d_model], zeros

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1, config.d_model), persistent=False)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:  # noqa: ARG002
        """See `SinusoidalPositions`."""
        return self.nothing.expand(length, -1)


class Count(PositionTable):
    """The position itself, on the first feature: it grows without bound and drowns the word."""

    nothing: Tensor  # [1, d_model], zeros

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1, config.d_model), persistent=False)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:
        """See `SinusoidalPositions`."""
        position = torch.arange(start, start + length, device=self.nothing.device)
        return self._on_first_feature(position)

    def _on_first_feature(
        self, number: Float[Tensor, "*rows"] | Int[Tensor, "*rows"]
    ) -> Float[Tensor, "*rows d_model"]:
        return nn.functional.pad(number[..., None].to(self.nothing), (0, self.nothing.size(1) - 1))


class NormalisedCount(Count):
    """The count over the length, from 0 to 1: what a step of one means depends on the length.

    How long a target will be is not known while it is made: there, the count is over LEARNED.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.pad_id = config.pad_id

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:
        """See `SinusoidalPositions`; of targets."""
        return super().forward(length, start) / LEARNED

    def source(
        self, ids: Int[Tensor, "batch length"], _tree: Tensor | None = None
    ) -> Float[Tensor, "batch length d_model"]:
        """See `PositionTable`."""
        last = (ids != self.pad_id).sum(dim=1, keepdim=True) - 1
        position = torch.arange(ids.size(1), device=ids.device)
        return self._on_first_feature(position / last.clamp(min=1))


def plain(attention: Part, _score: Part) -> Part:
    """Attention as it is."""
    return attention


def rotary(attention: Part, _score: Part) -> Part:
    """The same attention, of turned queries and keys."""
    return partial(RotaryAttention, attention=attention)


def relative(_attention: Part, _score: Part) -> Part:
    """Attention with a score and values of its own."""
    return RelativeAttention


def structural(_attention: Part, _score: Part) -> Part:
    """Attention with a score and values of its own, by places in a tree."""
    return StructuralAttention


def penalised(_attention: Part, score: Part) -> Part:
    """Attention by the same score, less a penalty for distance."""
    return partial(Attention, score=partial(DistancePenalty, score=score))


@dataclass(frozen=True)
class Positions:
    """Where positions come in: added to the embeddings, or within self-attention."""

    added: Part = NoPositions
    self_attention: Callable[[Part, Part], Part] = plain
    """From the attention and the score that the model would have anyway."""
    encoder_attention: Callable[[Part, Part], Part] | None = None
    """The encoder's, where it is another there: only a source has a tree."""


POSITIONS: dict[str, Positions] = {
    "sinusoidal": Positions(added=SinusoidalPositions),
    "half_split": Positions(added=HalfSplitPositions),
    "learned": Positions(added=LearnedPositions),
    "relative": Positions(self_attention=relative),
    "structural": Positions(added=StructuralPositions),
    "structural_relative": Positions(
        added=StructuralRelativePositions, encoder_attention=structural
    ),
    "rotary": Positions(self_attention=rotary),
    "alibi": Positions(self_attention=penalised),
    "count": Positions(added=Count),
    "normalised_count": Positions(added=NormalisedCount),
    "none": Positions(),
}
