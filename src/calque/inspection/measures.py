"""What attention matrices say in numbers: the habits of heads, and which word is made of which."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calque.inspection.words import Word


@dataclass(frozen=True)
class Head:
    """The habits of one head in one sentence, each the mean over its queries."""

    attention: str
    """One of KINDS."""
    layer: int
    head: int
    entropy: float
    """Of its weights, in nats: 0 looks at one token, ln n at all n alike."""
    distance: float
    """From query to key, weighted, in positions."""


@dataclass(frozen=True)
class Alignment:
    """Which source words a target word was made of, read from cross-attention."""

    layer: int
    weights: Float[Tensor, "target_words source_words"]
    links: list[tuple[int, int]]
    """Of target and source words; the ends of the sentences are not linked."""


def measure(attention: str, layer: int, weights: Float[Tensor, "heads query key"]) -> list[Head]:
    """The habits of all heads of a layer."""
    weights = weights.double()
    entropies = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    query, key = torch.arange(weights.size(1)), torch.arange(weights.size(2))
    apart = (key - query[:, None]).abs()
    distances = (weights * apart).sum(dim=-1).mean(dim=-1)
    both = zip(entropies.tolist(), distances.tolist(), strict=True)
    return [Head(attention, layer, head, *habits) for head, habits in enumerate(both)]


def align(
    layers: Sequence[Float[Tensor, "heads target source"]],
    target: Sequence[Word],
    source: Sequence[Word],
) -> Alignment | None:
    """Word alignment from cross-attention; None for a model that has none.

    As in arXiv:1909.02074, §4.2: the mean over the heads of the penultimate layer, and each target
    piece is linked to the source piece with the largest weight; words are linked where any of their
    pieces are. The source's end takes no part in that: heads rest on it when they have nothing to
    say. Weights of words are the sum over the pieces of a source word and the mean over those of
    a target word (arXiv:1906.04341, §4.1).
    """
    if not layers:
        return None
    layer = max(0, len(layers) - 2)
    weights = layers[layer].mean(dim=0)
    by_source = torch.stack([weights[:, w.first : w.end].sum(dim=1) for w in source], dim=1)
    by_words = torch.stack([by_source[w.first : w.end].mean(dim=0) for w in target])
    links: set[tuple[int, int]] = set()
    if len(source) > 1:
        likeliest = weights[:, : source[-1].first].argmax(dim=1).tolist()
        word_of = [i for i, word in enumerate(source) for _ in range(word.first, word.end)]
        for i, word in enumerate(target[:-1]):
            links |= {(i, word_of[piece]) for piece in likeliest[word.first : word.end]}
    return Alignment(layer, by_words, sorted(links))
