"""Positions: how the model is told where a token stands."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calque.config import CalqueError
from calque.models.parts.relative_attention import RelativeAttention
from calque.models.transformer import Part, SinusoidalPositions, TransformerConfig

LEARNED = 1024
"""Positions of a learned table."""


class HalfSplitPositions(SinusoidalPositions):
    """The paper's sinusoids, all sines before all cosines: as in tensor2tensor and Marian.

    The same but for the order of the columns, which a model learns either way.
    """

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:
        """See `SinusoidalPositions`."""
        table = super().forward(length, start)
        return torch.cat([table[:, 0::2], table[:, 1::2]], dim=1)


class LearnedPositions(nn.Module):
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


class NoPositions(nn.Module):
    """Nothing is added to the embeddings."""

    nothing: Tensor  # [1, d_model], zeros

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.register_buffer("nothing", torch.zeros(1, config.d_model), persistent=False)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:  # noqa: ARG002
        """See `SinusoidalPositions`."""
        return self.nothing.expand(length, -1)


@dataclass(frozen=True)
class Positions:
    """Where positions come in: added to the embeddings, or within self-attention."""

    added: Part = NoPositions
    self_attention: Part | None = None
    """None: the attention that the model would have anyway."""


POSITIONS: dict[str, Positions] = {
    "sinusoidal": Positions(added=SinusoidalPositions),
    "half_split": Positions(added=HalfSplitPositions),
    "learned": Positions(added=LearnedPositions),
    "relative": Positions(self_attention=RelativeAttention),
}
