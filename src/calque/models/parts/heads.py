"""Heads: how queries, keys and values are projected."""

from torch import Tensor

from calque.models.transformer import (
    KeysValues,
    MultiHeadAttention,
    Part,
    TransformerConfig,
)


class BiasedHeads(MultiHeadAttention):
    """Projections with a bias each, as most toolkits since the paper have them (Marian, BART)."""

    bias = True


class SharedQueryKey(MultiHeadAttention):
    """One matrix for queries and keys: scores become symmetric, the weights after softmax do not.

    What arXiv:2001.04451 (Reformer, §2) does for another end.
    """

    def __init__(self, config: TransformerConfig, attention: Part) -> None:
        super().__init__(config, attention)
        del self.key

    def keys_values(self, x: Tensor) -> KeysValues:
        return self._split_heads(self.query(x)), self._split_heads(self.value(x))


HEADS: dict[str, type[MultiHeadAttention]] = {
    "multi": MultiHeadAttention,
    "biased": BiasedHeads,
    "shared_query_key": SharedQueryKey,
}
