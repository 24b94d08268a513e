"""Scores: how well a decoder's state matches each position of the source, before the softmax.

Each has one head as wide as the model. `keys` is what it can work out once for each source; the
states then meet that. h: an encoder's state; s: a decoder's.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize, pad, softplus

from calque.models.transformer import TransformerConfig

LONGEST_SOURCE = 512
"""Tokens to which a score from the decoder's state alone can point."""


class Score(nn.Module):
    """What all scores are: they differ in what `keys` and `forward` compute."""

    def __init__(self, _: TransformerConfig, /) -> None:
        super().__init__()

    def keys(
        self, states: Float[Tensor, "batch source d_model"]
    ) -> Float[Tensor, "batch source d_model"]:
        """What the score needs to know of each source position."""
        return states

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_model"],
        key: Float[Tensor, "batch heads source d_model"],
    ) -> Float[Tensor, "batch heads query source"]:
        """Of `query`, states of the decoder, with `key`, of which `keys` made one head."""
        raise NotImplementedError


class Dot(Score):
    """s · h: Luong et al. (2015), arXiv:1508.04025, §3.1."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """See `Score`."""
        return query @ key.transpose(-2, -1)


class ScaledDot(Dot):
    """s · h / √d_model: Vaswani et al. (2017), arXiv:1706.03762, eq. 1."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """See `Score`."""
        return super().forward(query / math.sqrt(query.size(-1)), key)


class General(Dot):
    """sᵀ W h: Luong et al. (2015), arXiv:1508.04025, §3.1."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.key = nn.Linear(config.d_model, config.d_model, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """See `Score`."""
        return self.key(states)


class Cosine(Dot):
    """β cos(s, h): content addressing of Graves et al. (2014), arXiv:1410.5401, §3.3.1.

    The decoder's state chooses the key strength β > 0. Without it the weights of two positions
    would differ by a factor of e² at most; it begins near √d_model, the spread of a dot product.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.strength = nn.Linear(config.d_model, 1)

    def keys(self, states: Tensor) -> Tensor:
        """See `Score`."""
        return normalize(states, dim=-1)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """See `Score`."""
        strength = math.sqrt(query.size(-1)) * softplus(self.strength(query))
        return strength * super().forward(normalize(query, dim=-1), key)


class Additive(Score):
    """vᵀ tanh(W s + U h): Bahdanau et al. (2015), arXiv:1409.0473, §A.1.2.

    Its hidden layer is d_model numbers for each pair of positions, where a dot product is one.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key = nn.Linear(config.d_model, config.d_model, bias=False)
        self.score = nn.Linear(config.d_model, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """See `Score`."""
        return self.key(states)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """See `Score`."""
        pairs = self.query(query)[..., :, None, :] + key[..., None, :, :]
        return self.score(pairs.tanh()).squeeze(-1)


class Location(Score):
    """W s, whatever the source says: Luong et al. (2015), arXiv:1508.04025, §3.1.

    W has a row for each of LONGEST_SOURCE positions. As in the paper, a shorter source uses the
    first rows, and of a longer one the words near the end are ignored.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.positions = nn.Linear(config.d_model, LONGEST_SOURCE, bias=False)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """See `Score`; of `key` only the length counts."""
        length = key.size(-2)
        scores = self.positions(query)[..., :length]
        ignored = length - scores.size(-1)
        return pad(scores, (0, ignored), value=torch.finfo(scores.dtype).min)


RECURRENT_SCORES: dict[str, type[Score]] = {
    "additive": Additive,
    "cosine": Cosine,
    "dot": Dot,
    "general": General,
    "location": Location,
    "scaled_dot": ScaledDot,
}
