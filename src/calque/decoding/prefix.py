"""Search for targets whose beginning is given, as when a reader takes another word."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.config import CalqueError, choose
from calque.decoding.candidates import continuations
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import NORMALISATIONS, Hypothesis, Search
from calque.models.interface import Memory, Past, Seq2Seq


@torch.inference_mode()
def search_from(
    search: Search,
    model: Seq2Seq,
    source: Int[Tensor, "batch source"],
    prefix: Int[Tensor, "batch prefix"],
    config: DecodingConfig,
) -> list[list[Hypothesis]]:
    """As `search`, among the targets of each source that begin with the tokens of its prefix.

    The hypotheses are whole targets, prefix and all, and so are their scores; the search itself
    compares what follows the prefix. Raises CalqueError for a prefix of `config.max_length` tokens
    or more.
    """
    length = prefix.size(1)
    check_prefix(length, config)
    if not length:
        return search(model, source, config)
    begun = _Begun(model, prefix)
    found = search(begun, source, replace(config, max_length=config.max_length - length))
    beginnings = zip(prefix.tolist(), begun.log_probs.tolist(), strict=True)
    return [
        sorted(
            (_whole(*beginning, rest, config) for rest in of_source),
            key=lambda whole: whole.score,
            reverse=True,
        )
        for beginning, of_source in zip(beginnings, found, strict=True)
    ]


def check_prefix(length: int, config: DecodingConfig) -> None:
    """Raise CalqueError for a prefix of so many tokens that no target could go on from it."""
    if length >= config.max_length:
        raise CalqueError(f"prefix: {length} tokens, of at most {config.max_length} in a target")


@torch.inference_mode()
def likeliest_after(
    model: Seq2Seq,
    source: Int[Tensor, "batch source"],
    prefix: Int[Tensor, "batch prefix"],
    size: int,
) -> tuple[Float[Tensor, "batch size"], Int[Tensor, "batch size"]]:
    """The `size` tokens that most likely follow each prefix: log-probabilities, and the tokens."""
    memory = model.encode(source)
    past, last, _ = _feed(model, memory, prefix)
    none, may_go_on = torch.zeros_like(last), torch.zeros_like(last, dtype=torch.bool)
    found = continuations(model, last, memory, past, none.float()[:, None], may_go_on, size)
    return found.log_probs, found.tokens


class _Begun:
    """A model for one search, in which all targets have begun with a prefix; see `Seq2Seq`."""

    log_probs: Float[Tensor, "batch prefix"]
    """Of the prefix's tokens; known when the search has started."""

    def __init__(self, model: Seq2Seq, prefix: Int[Tensor, "batch prefix"]) -> None:
        self.model, self.prefix = model, prefix
        self.config = model.config
        self._last: Tensor | None = None

    def encode(self, source: Int[Tensor, "batch source"]) -> Memory:
        return self.model.encode(source)

    def start(self, memory: Any) -> Past:
        past, self._last, self.log_probs = _feed(self.model, memory, self.prefix)
        return past

    def decode(
        self, target: Int[Tensor, "rows new"], memory: Any, past: Any
    ) -> Float[Tensor, "rows new vocab"]:
        if self._last is not None:  # in place of the BOS with which every search begins
            target, self._last = self._last[:, None], None
        return self.model.decode(target, memory, past)


def _feed(
    model: Seq2Seq, memory: Any, prefix: Int[Tensor, "batch prefix"]
) -> tuple[Past, Int[Tensor, " batch"], Float[Tensor, "batch prefix"]]:
    """A past that holds all but the last token, that token, and the prefix's log-probabilities."""
    past = model.start(memory)
    last = prefix.new_full((prefix.size(0),), model.config.bos_id)
    log_probs = []
    for token in prefix.T:
        following = model.decode(last[:, None], memory, past)[:, -1].float().log_softmax(dim=-1)
        log_probs.append(following.gather(1, token[:, None]))
        last = token
    none = torch.zeros(prefix.size(0), 0, device=prefix.device)
    return past, last, torch.cat([none, *log_probs], dim=1)


def _whole(
    prefix: Sequence[int], log_probs: Sequence[float], rest: Hypothesis, config: DecodingConfig
) -> Hypothesis:
    token_log_probs = (*log_probs, *rest.token_log_probs)
    penalty = choose("length_normalisation", config.length_normalisation, NORMALISATIONS)
    length = torch.tensor([len(token_log_probs)])
    log_prob = sum(token_log_probs)
    score = log_prob / float(penalty(length, config.length_penalty))
    return Hypothesis((*prefix, *rest.tokens), log_prob, score, token_log_probs)
