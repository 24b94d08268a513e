"""What every search returns, and the rules that every search keeps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calque.config import choose
from calque.decoding.config import DecodingConfig
from calque.models.interface import Found, Seq2Seq

GROUP, SMALL = 16, 4  # sentences
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
    limits: Int[Tensor, " batch"], config: DecodingConfig
) -> Float[Tensor, " longest_and_eos"]:
    """What a target's log-probability is divided by, by |Y|, its length with EOS."""
    penalty = choose("length_normalisation", config.length_normalisation, NORMALISATIONS)
    lengths = torch.arange(int(limits.max()) + 2, device=limits.device)
    return penalty(lengths, config.length_penalty)


def wu(lengths: Int[Tensor, " lengths"], alpha: float) -> Float[Tensor, " lengths"]:
    """((5 + |Y|) / 6)^α: arXiv:1609.08144, eq. 14."""
    return ((5 + lengths) / 6) ** alpha


def power(lengths: Int[Tensor, " lengths"], alpha: float) -> Float[Tensor, " lengths"]:
    """|Y|^α, as Marian, CTranslate2 and transformers have it; 1 is the mean per token."""
    return lengths.clamp(min=1).float() ** alpha


NORMALISATIONS = {"wu": wu, "power": power}


def stay(waiting: Bool[Tensor, " sentences"]) -> Int[Tensor, " staying"]:
    """Sentences to go on with: those that wait for their end, and some that do not.

    Sentences leave in groups, as to close the gap takes a copy of what the others have in memory,
    and as a processor makes its fast kernels anew for each new number of rows.
    """
    number = int(waiting.sum())
    number = min(-(-number // GROUP) * GROUP, len(waiting)) if number > SMALL else number
    return waiting.float().topk(number).indices.sort().values


def hypotheses(found: Found, eos_id: int) -> list[list[Hypothesis]]:
    """What was found, up to each EOS; a score of -inf is no hypothesis."""
    numbers = found.tokens.tolist(), found.log_probs.tolist(), found.scores.tolist()
    return [
        [_until(eos_id, *one) for one in zip(*source, strict=True) if one[-1] != -torch.inf]
        for source in zip(*numbers, strict=True)
    ]


def _until(eos_id: int, tokens: list[int], log_probs: list[float], score: float) -> Hypothesis:
    end = tokens.index(eos_id)
    token_log_probs = tuple(log_probs[: end + 1])
    return Hypothesis(tuple(tokens[:end]), sum(token_log_probs), score, token_log_probs)
