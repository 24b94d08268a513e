"""Embeddings: other ways to share, or not to share, the paper's one matrix (§3.4)."""

import math

from jaxtyping import Float, Int
from torch import Tensor, nn

from calque.models.transformer import SharedEmbedding, TransformerConfig


class SeparateEmbeddings(nn.Module):
    """One matrix for the source; another for the target, which also predicts the output.

    For languages with a vocabulary each; tying the target's two is arXiv:1608.05859, §3.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.source_table = nn.Embedding(config.source_vocab_size, config.d_model)
        self.target_table = nn.Embedding(config.target_vocab_size, config.d_model)
        self.scale = math.sqrt(config.d_model)

    def source(self, ids: Int[Tensor, "batch source"]) -> Float[Tensor, "batch source d_model"]:
        return self.source_table(ids) * self.scale

    def target(self, ids: Int[Tensor, "batch target"]) -> Float[Tensor, "batch target d_model"]:
        return self.target_table(ids) * self.scale

    @property
    def output_weight(self) -> Float[Tensor, "vocab d_model"]:
        return self.target_table.weight


EMBEDDINGS = {
    "joint": SharedEmbedding,
    "separate": SeparateEmbeddings,
    "shared": SharedEmbedding,
}
"""By what a recipe's `tokenizer.vocabulary` says."""
