"""Label-smoothed cross-entropy: §5.4 of arXiv:1706.03762, after arXiv:1512.00567, §7."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor


class Loss(NamedTuple):
    """Sums over the tokens, in nats."""

    total: Float[Tensor, ""]
    """What training makes smaller."""
    cross_entropy: Float[Tensor, ""]
    """Without smoothing or any other term; exp(cross_entropy / tokens) is the perplexity."""


def smoothed_cross_entropy(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"], smoothing: float
) -> Loss:
    """Cross-entropy with the smoothed label: 1 - ε on the right word, ε spread over all words."""
    log_probs = logits.log_softmax(dim=-1)
    right = -log_probs.gather(1, labels[:, None]).sum()
    even = -log_probs.mean(dim=-1).sum()
    return Loss((1 - smoothing) * right + smoothing * even, right.detach())
