"""How a model knows where a token stands, as tables and as what comes of them."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.inspection.attention import plain, scored
from calque.inspection.rounding import numbers, scaled_numbers
from calque.models.parts.relative_attention import CLIP, RelativeAttention
from calque.models.transformer import PositionTable
from calque.translator import Translator

LENGTH = 128
"""Positions of a table that are shown."""
SCORED = 48
"""Positions whose scores are compared."""
WORDS = 32
"""Tokens over which scores are averaged."""


@torch.inference_mode()
def positions(translator: Translator) -> dict[str, Any]:
    """What there is to see of a model's positions; see docs/looking-inside.md.

    A table is added to embeddings (arXiv:1706.03762, §3.5) or, by distance, to keys and values
    (arXiv:1803.02155, §3.2). Whatever else a model has shows in the scores: those of the first
    self-attention for a sentence that says the same token again and again, the mean over some
    tokens, less that of each head. Were there no positions, they would all be zero.

    Where positions look at a tree, each word hangs on the one before.
    """
    model = plain(translator.model)
    device, special = next(model.parameters()).device, translator.tokenizers.special
    ids = torch.full((1, LENGTH), special.eos, device=device)
    tables = []
    for name, module in model.named_modules():
        if isinstance(module, PositionTable):
            tables += _added(f"{name}, added to the embeddings", module, ids)
        if isinstance(module, RelativeAttention):
            # Heads of a layer share both.
            for part in ("relative_key", "relative_value"):
                weight = module.get_parameter(f"{part}.weight")
                tables.append(_table(f"{name.removesuffix('.attention')}, {part}", -CLIP, weight))
    scores = _scores(model, translator)
    return {"tables": tables, "scores": None if scores is None else numbers(scores, 3)}


def _added(name: str, module: PositionTable, ids: Int[Tensor, "1 length"]) -> list[dict[str, Any]]:
    """What is added to each position of a sentence, unless it is the same for all."""
    source, target = module.source(ids, _chain(ids))[0], module.target(ids, 0)[0]
    sides = {f"{name} of sources": source, f"{name} of targets": target}
    if torch.equal(source, target):
        sides = {name: source}
    added = ((side, rows.expand(LENGTH, -1)) for side, rows in sides.items())
    return [_table(side, 0, rows) for side, rows in added if not (rows == rows[0]).all()]


def _chain(ids: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """A tree in which each word hangs on the one before."""
    return (torch.arange(ids.size(1), device=ids.device) - 1).clamp(min=0).expand_as(ids)


def _table(name: str, first: int, values: Float[Tensor, "positions width"]) -> dict[str, Any]:
    return {
        "name": name,
        "first": first,
        "values": scaled_numbers(values, 3),
        "products": scaled_numbers(values @ values.T, 3),
    }


def _scores(model: Any, translator: Translator) -> Float[Tensor, "heads query key"] | None:
    """Of the first self-attention of the encoder; None where there is none."""
    special = translator.tokenizers.special
    ids = torch.arange(min(translator.tokenizers.source.vocab_size, 4096))
    ids = ids[~torch.isin(ids, torch.tensor([special.pad, special.unk, special.bos, special.eos]))]
    tokens = ids[torch.linspace(0, len(ids) - 1, min(WORDS, len(ids))).long()]
    source = tokens[:, None].expand(-1, SCORED).contiguous()
    with scored(model) as calls:
        source = source.to(next(model.parameters()).device)
        model.encode(source, _chain(source))
    first = next((of[0] for name, of in calls.items() if name.startswith("encoder")), None)
    if first is None or first.shape[2:] != (SCORED, SCORED):
        return None
    means = first.float().mean(dim=0).cpu()
    # What a pattern leaves out has no score: it is shown as the least of those that there are.
    there = means > torch.finfo(torch.float32).min / 2
    means = means.masked_fill(~there, float(means[there].min()))
    return means - means.mean(dim=(1, 2), keepdim=True)
