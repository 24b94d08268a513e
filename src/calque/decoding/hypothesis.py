"""What every search returns, and the rules that every search keeps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calque.decoding.config import DecodingConfig
from calque.models.interface import Memory, Past, Seq2Seq

LONGER_THAN_SOURCE = 50  # tokens: arXiv:1706.03762, §6.1


@dataclass(frozen=True)
class Hypothesis:
    """One possible target of a source; log-probabilities are natural logarithms."""

    tokens: tuple[int, ...]
    """Without BOS and EOS."""
    log_prob: float
    """Of the whole target, its EOS included."""
    score: float
    """`log_prob` over the length penalty; the higher the better."""
    token_log_probs: tuple[float, ...]
    """Of each token and, at the end, of EOS."""


Search = Callable[[Seq2Seq, Int[Tensor, "batch source"], DecodingConfig], list[list[Hypothesis]]]
"""From a model in evaluation mode and sources on its device to hypotheses, best first, for each."""


def length_limits(
    source: Int[Tensor, "batch source"], pad_id: int, max_length: int
) -> Int[Tensor, " batch"]:
    """Longest target of each source, in tokens without EOS."""
    return ((source != pad_id).sum(dim=1) + LONGER_THAN_SOURCE).clamp(max=max_length)


def length_penalties(
    limits: Int[Tensor, " batch"], alpha: float
) -> Float[Tensor, " longest_and_eos"]:
    """lp(Y) = ((5 + |Y|) / 6)^α by |Y|: arXiv:1609.08144, eq. 14. |Y| counts EOS."""
    lengths = torch.arange(int(limits.max()) + 2, device=limits.device)
    return ((5 + lengths) / 6) ** alpha


def next_log_probs(
    model: Seq2Seq,
    last: Int[Tensor, " rows"],
    memory: Memory,
    past: Past,
    must_end: Bool[Tensor, " rows"],
) -> Float[Tensor, "rows vocab"]:
    """Log-probabilities of what may follow `last`; -inf for what may not.

    PAD and BOS never follow, and where a target must end, only EOS does.
    What is ruled out keeps its share of the probability, so that a hypothesis scores what the
    model gives it, even where the length limit forced its end.
    """
    special = model.config
    logits = model.decode(last[:, None], memory, past)[:, -1]
    log_probs = logits.log_softmax(dim=-1, dtype=torch.float32)
    log_probs[:, special.pad_id] = -torch.inf
    log_probs[:, special.bos_id] = -torch.inf
    if must_end.any():
        goes_on = torch.arange(log_probs.size(1), device=log_probs.device) != special.eos_id
        log_probs.masked_fill_(must_end[:, None] & goes_on, -torch.inf)
    return log_probs


def hypotheses(
    tokens: Int[Tensor, "sentences width length"],
    log_probs: Float[Tensor, "sentences width length"],
    scores: Float[Tensor, "sentences width"],
    eos_id: int,
) -> list[list[Hypothesis]]:
    """What the tensors hold up to each EOS; a score of -inf is no hypothesis."""
    return [
        [_until(eos_id, *one) for one in zip(*sentence, strict=True) if one[-1] != -torch.inf]
        for sentence in zip(tokens.tolist(), log_probs.tolist(), scores.tolist(), strict=True)
    ]


def _until(eos_id: int, tokens: list[int], log_probs: list[float], score: float) -> Hypothesis:
    end = tokens.index(eos_id)
    token_log_probs = tuple(log_probs[: end + 1])
    return Hypothesis(tuple(tokens[:end]), sum(token_log_probs), score, token_log_probs)
