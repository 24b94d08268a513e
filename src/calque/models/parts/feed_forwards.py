"""Feed-forward layers: other non-linearities in the place of the paper's ReLU."""

from torch import nn

from calque.models.transformer import FeedForward, Part, TransformerConfig


class SwishFeedForward(FeedForward):
    """swish(x) = x σ(x) in the place of ReLU: arXiv:1710.05941, eq. 1."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self[1] = nn.SiLU()


class GeluFeedForward(FeedForward):
    """GELU(x) = x Φ(x) in the place of ReLU: arXiv:1606.08415, §2."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self[1] = nn.GELU()


FEED_FORWARDS: dict[str, Part] = {
    "relu": FeedForward,
    "swish": SwishFeedForward,
    "gelu": GeluFeedForward,
}
