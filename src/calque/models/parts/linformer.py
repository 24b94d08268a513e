"""Attention to a fixed number of mixtures of all keys: Wang et al. (2020), arXiv:2006.04768."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calque.config import CalqueError
from calque.models.transformer import Part, TransformerConfig


class LinformerAttention(nn.Module):
    """softmax(Q (E K)ᵀ / √d_key) (E V): eq. 7, with E shared by heads and by keys and values (§4).

    Time and memory grow with the length, not with its square. Padding takes no part in the
    mixtures. Raises CalqueError for a text longer than E is wide.
    """

    def __init__(
        self, config: TransformerConfig, attention: Part, projected: int, longest: int
    ) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.empty(projected, longest))  # E
        nn.init.normal_(self.mix, std=projected**-0.5)  # as for the theorem of §3
        self.attention = attention(config)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
        value: Float[Tensor, "batch heads key d_head"],
        mask: Bool[Tensor, "batch 1 1 key"],
    ) -> Float[Tensor, "batch heads query d_head"]:
        """See `Attention`."""
        length, longest = key.size(2), self.mix.size(1)
        if length > longest:
            raise CalqueError(
                f"a text of {length:,} tokens, with its end, is longer than model.longest = "
                f"{longest:,}; cut it into shorter ones, or train with a larger one"
            )
        # All rows of the batch by one matrix; what is masked is mixed in as zeros.
        mix = self.mix[:, :length].to(key.dtype)
        present = mask.transpose(-2, -1).to(key.dtype)
        seen = mask.new_ones(1, 1, 1, len(mix))
        return self.attention(query, mix @ (key * present), mix @ (value * present), seen)
