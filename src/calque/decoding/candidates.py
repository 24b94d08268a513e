"""The likeliest next tokens, without sorting or normalising the whole vocabulary."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calque.models.interface import Memory, Past, Seq2Seq

GROUP = 64  # entries of the vocabulary
BLOCK = 32  # rows whose logits stay in the processor's cache from one pass over them to the next


@dataclass(frozen=True)
class Continuations:
    """Prefixes of each sentence that are one token longer, best first."""

    scores: Float[Tensor, "sentences size"]
    """Log-probability of the whole; -inf where there is none."""
    parents: Int[Tensor, "sentences size"]
    """Which of the sentence's prefixes each continues."""
    tokens: Int[Tensor, "sentences size"]
    log_probs: Float[Tensor, "sentences size"]
    """Of the tokens."""


def continuations(
    model: Seq2Seq,
    last: Int[Tensor, " rows"],
    memory: Memory,
    past: Past,
    scores: Float[Tensor, "sentences width"],
    must_end: Bool[Tensor, " sentences"],
    size: int,
) -> Continuations:
    """The `size` best continuations of each sentence's prefixes, or all if they are fewer.

    The prefixes end in `last` and have the log-probabilities `scores`. PAD and BOS never follow,
    and where a target must end, only EOS does. What is ruled out keeps its share of the
    probability, so that a hypothesis scores what the model gives it, even where the length limit
    forced its end.
    """
    special = model.config
    logits = model.decode(last[:, None], memory, past)[:, -1].float()
    blocks = [_maxima_and_normalisers(block) for block in logits.split(BLOCK)]
    maxima, normalisers = (torch.cat(of_blocks) for of_blocks in zip(*blocks, strict=True))
    never = torch.zeros(logits.size(1), dtype=torch.bool, device=logits.device)
    never[[special.pad_id, special.bos_id]] = True
    for group in {special.pad_id // GROUP, special.bos_id // GROUP}:
        some = slice(group * GROUP, (group + 1) * GROUP)
        maxima[:, group] = logits[:, some].masked_fill(never[some], -torch.inf).amax(dim=1)
    maxima, logits = (x.unflatten(0, scores.shape) for x in (maxima, logits))
    normalisers = normalisers.view_as(scores)
    found = _largest(logits, maxima, normalisers, scores, never, size)
    if must_end.any():
        log_probs = logits[must_end, :, special.eos_id] - normalisers[must_end]
        _end(found, must_end, scores[must_end], log_probs, special.eos_id)
    return found


def _maxima_and_normalisers(
    logits: Float[Tensor, "rows vocab"],
) -> tuple[Float[Tensor, "rows groups"], Float[Tensor, " rows"]]:
    """The largest logit of each GROUP entries, and log Σ exp of all."""
    groups = logits.size(1) // GROUP
    whole, rest = logits.split([groups * GROUP, logits.size(1) % GROUP], dim=1)
    maxima = whole.unflatten(1, (groups, GROUP)).amax(dim=2)
    if rest.size(1):
        maxima = torch.cat([maxima, rest.amax(dim=1, keepdim=True)], dim=1)
    largest = maxima.amax(dim=1, keepdim=True)
    sums = (logits - largest).exp_().sum(dim=1)
    return maxima, sums.log_() + largest[:, 0]


def _largest(
    logits: Float[Tensor, "sentences width vocab"],
    maxima: Float[Tensor, "sentences width groups"],
    normalisers: Float[Tensor, "sentences width"],
    scores: Float[Tensor, "sentences width"],
    never: Bool[Tensor, " vocab"],
    size: int,
) -> Continuations:
    """The `size` best lie in the `size` groups with the best maxima: little is left to sort."""
    groups, vocab = maxima.size(2), logits.size(2)
    best = (scores[..., None] + (maxima - normalisers[..., None])).flatten(1)
    chosen = best.topk(min(size, best.size(1))).indices[..., None]
    in_group = torch.arange(GROUP, device=logits.device)
    tokens = (chosen % groups * GROUP + in_group).flatten(1)
    parents = (chosen // groups).expand(-1, -1, GROUP).flatten(1)
    there = tokens.clamp(max=vocab - 1)  # the last group may be smaller
    log_probs = logits.flatten(1).gather(1, parents * vocab + there) - normalisers.gather(
        1, parents
    )
    totals = scores.gather(1, parents) + log_probs
    totals = totals.masked_fill(never[there] | (tokens >= vocab), -torch.inf)
    totals, order = totals.topk(min(size, scores.size(1) * vocab))
    return Continuations(totals, *(x.gather(1, order) for x in (parents, there, log_probs)))


def _end(
    found: Continuations,
    which: Bool[Tensor, " sentences"],
    scores: Float[Tensor, "ending width"],
    log_probs: Float[Tensor, "ending width"],
    eos_id: int,
) -> None:
    """Leave some sentences nothing but the end of each prefix, at its log-probability."""
    totals, order = (scores + log_probs).sort(dim=1, descending=True)
    kept = slice(min(found.scores.size(1), scores.size(1)))
    found.scores[which] = -torch.inf
    found.tokens[which] = eos_id
    for place, value in (
        (found.scores, totals),
        (found.parents, order),
        (found.log_probs, log_probs.gather(1, order)),
    ):
        place[which, kept] = value[:, kept]
