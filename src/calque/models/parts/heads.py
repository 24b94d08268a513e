"""Heads: how queries, keys and values are projected."""

from calque.models.transformer import MultiHeadAttention


class BiasedHeads(MultiHeadAttention):
    """Projections with a bias each, as most toolkits since the paper have them (Marian, BART)."""

    bias = True


HEADS: dict[str, type[MultiHeadAttention]] = {
    "multi": MultiHeadAttention,
    "biased": BiasedHeads,
}
