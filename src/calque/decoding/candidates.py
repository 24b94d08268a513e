"""The likeliest next tokens, without sorting or normalising the whole vocabulary."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calque.models.interface import Memory, Past, Seq2Seq

GROUP = 64  # entries of the vocabulary
BLOCK = 64  # rows


def next_tokens(
    model: Seq2Seq,
    last: Int[Tensor, " rows"],
    memory: Memory,
    past: Past,
    must_end: Bool[Tensor, " rows"],
    size: int,
) -> tuple[Float[Tensor, "rows size"], Int[Tensor, "rows size"]]:
    """Log-probabilities of the `size` likeliest tokens that may follow `last`, and the tokens.

    PAD and BOS never follow, and where a target must end, only EOS does: others have -inf.
    What is ruled out keeps its share of the probability, so that a hypothesis scores what the
    model gives it, even where the length limit forced its end.
    """
    special = model.config
    never = {special.pad_id, special.bos_id}
    logits = model.decode(last[:, None], memory, past)[:, -1].float()
    spare = min(size + len(never), logits.size(1))
    # By blocks that stay in the processor's cache from one pass over them to the next.
    blocks = [_block(block, spare) for block in logits.split(BLOCK)]
    best, tokens, normaliser = (torch.cat(of_blocks) for of_blocks in zip(*blocks, strict=True))
    for ruled_out in never:
        best = best.masked_fill(tokens == ruled_out, -torch.inf)
    best, order = best.topk(size)
    tokens = tokens.gather(1, order)
    if must_end.any():
        best[must_end] = -torch.inf
        best[must_end, 0], tokens[must_end, 0] = logits[must_end, special.eos_id], special.eos_id
    return best - normaliser, tokens


def _block(
    logits: Float[Tensor, "rows vocab"], size: int
) -> tuple[Tensor, Tensor, Float[Tensor, "rows 1"]]:
    """The `size` largest logits, where they are, and log Σ exp of all."""
    best, tokens = largest(logits, size)
    rest = (logits - best[:, :1]).exp_().sum(dim=-1, keepdim=True)
    return best, tokens, rest.log_() + best[:, :1]


def largest(
    x: Float[Tensor, "rows entries"], size: int
) -> tuple[Float[Tensor, "rows size"], Int[Tensor, "rows size"]]:
    """As `x.topk(size)`: the `size` largest lie in the `size` groups with the largest maxima.

    To find the maxima of groups is one quick pass, to sort so much less what is left.
    """
    entries = x.size(1)
    if entries < 4 * size * GROUP:
        return x.topk(size)
    groups = x[:, : entries // GROUP * GROUP].unflatten(1, (-1, GROUP))
    chosen = groups.amax(dim=-1).topk(size).indices
    index = chosen[..., None] * GROUP + torch.arange(GROUP, device=x.device)
    rest = torch.arange(entries // GROUP * GROUP, entries, device=x.device)
    index = torch.cat([index.flatten(1), rest.expand(len(x), -1)], dim=1)
    values, where = x.gather(1, index).topk(size)
    return values, index.gather(1, where)
