"""R-Drop: two passes through different dropout should agree. arXiv:2106.14448."""

from jaxtyping import Float
from torch import Tensor


def symmetric_divergence(
    first: Float[Tensor, "tokens vocab"], second: Float[Tensor, "tokens vocab"]
) -> Float[Tensor, ""]:
    """½ (KL(P₁‖P₂) + KL(P₂‖P₁)) of two sets of logits, summed over the tokens, in nats: eq. 2."""
    first, second = first.log_softmax(dim=-1), second.log_softmax(dim=-1)
    # KL(P₁‖P₂) + KL(P₂‖P₁) = Σ (p₁ - p₂)(log p₁ - log p₂)
    return 0.5 * ((first.exp() - second.exp()) * (first - second)).sum()
