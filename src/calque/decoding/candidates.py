"""The likeliest next tokens of all prefixes of a sentence, without sorting the vocabulary."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calque.models.interface import Continuations, Memory, Past, Seq2Seq

GROUP = 64  # entries of the vocabulary


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
    # In their own place: as much memory again would take longer to fill than to compute.
    torch.log_softmax(logits, dim=1, out=logits)
    log_probs = logits.unflatten(0, scores.shape)
    ends = log_probs[must_end, :, special.eos_id]
    log_probs[..., [special.pad_id, special.bos_id]] = -torch.inf
    found = _largest(log_probs, scores, size)
    if len(ends):
        _end(found, must_end, scores[must_end], ends, special.eos_id)
    return found


def _largest(
    log_probs: Float[Tensor, "sentences width vocab"],
    scores: Float[Tensor, "sentences width"],
    size: int,
) -> Continuations:
    """The `size` best lie in the `size` groups with the best maxima: little is left to sort."""
    vocab = log_probs.size(2)
    maxima = _maxima(log_probs)
    best = (scores[..., None] + maxima).flatten(1)
    chosen = best.topk(min(size, best.size(1))).indices[..., None]
    in_group = torch.arange(GROUP, device=scores.device)
    tokens = (chosen % maxima.size(2) * GROUP + in_group).flatten(1)
    parents = (chosen // maxima.size(2)).expand(-1, -1, GROUP).flatten(1)
    there = tokens.clamp(max=vocab - 1)  # the last group may be smaller
    steps = log_probs.flatten(1).gather(1, parents * vocab + there)
    totals = (scores.gather(1, parents) + steps).masked_fill_(tokens >= vocab, -torch.inf)
    totals, order = totals.topk(min(size, scores.size(1) * vocab))
    return Continuations(totals, *(x.gather(1, order) for x in (parents, there, steps)))


def _maxima(x: Float[Tensor, "sentences width vocab"]) -> Float[Tensor, "sentences width groups"]:
    """Of each GROUP entries; of fewer, where some are left."""
    whole, rest = x.split([x.size(2) // GROUP * GROUP, x.size(2) % GROUP], dim=2)
    maxima = whole.unflatten(2, (whole.size(2) // GROUP, GROUP)).amax(dim=3)
    return torch.cat([maxima, rest.amax(dim=2, keepdim=True)], dim=2) if rest.size(2) else maxima


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
