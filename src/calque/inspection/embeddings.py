"""The vocabulary as points: which pieces a model takes for alike."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from calque.inspection.rounding import numbers
from calque.text.tokenizers.interface import Tokenizer
from calque.translator import Translator

MOST = 20_000
"""Pieces of a vocabulary that are shown, the first ones; they are the most frequent."""
NEIGHBOURS = 8
BLOCK = 1024  # rows


@torch.inference_mode()
def embeddings(translator: Translator) -> dict[str, Any]:
    """Each vocabulary's plane and neighbours; see docs/looking-inside.md."""
    sides, embed = translator.tokenizers, translator.model.embedding
    source = _vectors(embed.source, sides.source, translator)
    target = _vectors(embed.target, sides.target, translator)
    if source.shape == target.shape and torch.equal(source, target):
        return {"both": _vocabulary(source, sides.target)}
    return {
        "source": _vocabulary(source, sides.source),
        "target": _vocabulary(target, sides.target),
    }


def plane(
    vectors: Float[Tensor, "pieces width"],
) -> tuple[Float[Tensor, "pieces 2"], Float[Tensor, " 2"]]:
    """The first two principal components, and the share of the variance that each holds."""
    centred = vectors.double() - vectors.double().mean(dim=0)
    variances, axes = torch.linalg.eigh(centred.T @ centred)
    axes, variances = axes[:, -2:].flip(1), variances[-2:].flip(0) / variances.sum()
    return (centred @ axes).to(vectors), variances.to(vectors)


def neighbours(
    vectors: Float[Tensor, "pieces width"], number: int
) -> tuple[Int[Tensor, "pieces number"], Float[Tensor, "pieces number"]]:
    """The nearest other pieces by cosine, best first, and their cosines."""
    unit = normalize(vectors, dim=1)
    found = []
    for rows in torch.arange(len(unit)).split(BLOCK):
        cosines = unit[rows] @ unit.T
        cosines[torch.arange(len(rows)), rows] = -torch.inf
        found.append(cosines.topk(number))
    return torch.cat([best.indices for best in found]), torch.cat([best.values for best in found])


def _vectors(
    embed: Callable[[Tensor], Tensor], tokenizer: Tokenizer, translator: Translator
) -> Float[Tensor, "pieces width"]:
    device = next(translator.model.parameters()).device
    ids = torch.arange(min(MOST, tokenizer.vocab_size), device=device)
    return embed(ids[None])[0].float().cpu()


def _vocabulary(vectors: Float[Tensor, "pieces width"], tokenizer: Tokenizer) -> dict[str, Any]:
    points, shares = plane(vectors)
    nearest, cosines = neighbours(vectors, min(NEIGHBOURS, len(vectors) - 1))
    return {
        "pieces": tokenizer.pieces(list(range(len(vectors)))),
        "left_out": tokenizer.vocab_size - len(vectors),
        "points": numbers(points, 3),
        "shares": numbers(shares, 3),
        "neighbours": nearest.tolist(),
        "cosines": numbers(cosines, 2),
    }
