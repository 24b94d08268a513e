"""Feed-forward layers: other non-linearities in the place of the paper's ReLU, or none."""

from torch import Tensor, nn

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


class SwiGLUFeedForward(nn.Module):
    """(swish(x W) ⊗ x V) W₂, without biases: arXiv:2002.05202, eq. 6.

    Three matrices: at two thirds of the d_ff it has the parameters of the paper's two.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gate, self.widen = (
            nn.Linear(config.d_model, config.d_ff, bias=False) for _ in range(2)
        )
        self.narrow = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.narrow(nn.functional.silu(self.gate(x)) * self.widen(x))


class NoFeedForward(nn.Identity):
    """What comes in goes out: layers of attention alone, which only average again."""

    def __init__(self, _: TransformerConfig, /) -> None:
        super().__init__()


FEED_FORWARDS: dict[str, Part] = {
    "relu": FeedForward,
    "swish": SwishFeedForward,
    "gelu": GeluFeedForward,
    "swiglu": SwiGLUFeedForward,
    "none": NoFeedForward,
}
