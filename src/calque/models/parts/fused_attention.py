"""The fast path of scaled dot-product attention: one kernel, no matrix of weights to look at."""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from calque.models.transformer import TransformerConfig


class FusedAttention(nn.Module):
    """The paper's attention by PyTorch's fused kernel; same result.

    Where a mask leaves a query nothing to attend to, the plain path gives the mean of all values
    and this one zero.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.dropout = config.attention_dropout

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """See `Attention`."""
        dropout = self.dropout if self.training else 0.0
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
