"""Beam search: the likeliest few prefixes of each target grow side by side."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from calque.decoding.candidates import continuations
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import (
    Hypothesis,
    hypotheses,
    length_limits,
    length_penalties,
    stay,
)
from calque.models.interface import Continuations, Found, Searching, Seq2Seq


@dataclass(frozen=True)
class Beam(Found):
    """Targets of each sentence as they grow or, before the search has ended, have ended."""

    def select(self, sentences: Int[Tensor, " kept"] | Bool[Tensor, " sentences"]) -> "Beam":
        return Beam(self.tokens[sentences], self.log_probs[sentences], self.scores[sentences])

    def best(self, size: int) -> "Beam":
        """The `size` best."""
        scores, order = self.scores.topk(size)
        whole = order[..., None].expand(-1, -1, self.tokens.size(2))
        return Beam(self.tokens.gather(1, whole), self.log_probs.gather(1, whole), scores)


@torch.inference_mode()
def beam_search(
    model: Seq2Seq, source: Int[Tensor, "batch source"], config: DecodingConfig
) -> list[list[Hypothesis]]:
    """Up to `config.beam_size` hypotheses for each source.

    A sentence is done when no unfinished hypothesis, as it stands, outdoes the worst of its
    `beam_size` finished ones (as in transformers; a bound over all longer lengths takes twice as
    many steps, for the same BLEU).
    """
    special = model.config
    limits = length_limits(source, special.pad_id, config.max_length)
    penalties = length_penalties(limits, config)
    if isinstance(model, Searching):
        whole = model.search(source, limits, penalties, config.beam_size, greedy=False)
        return hypotheses(whole, special.eos_id)
    memory = model.encode(source)
    past = model.start(memory)
    growing, finished = _start(source, config.beam_size)
    # Twice the beam, as one candidate of each row may be EOS: there is always enough to go on.
    candidates = 2 * config.beam_size
    sentences = torch.arange(source.size(0), device=source.device)
    waiting = torch.ones_like(sentences, dtype=torch.bool)
    last = torch.full_like(sentences, special.bos_id)
    n_best: dict[int, list[Hypothesis]] = {}
    for step, penalty in enumerate(penalties[1:].tolist()):
        width = growing.scores.size(1)
        found = continuations(model, last, memory, past, growing.scores, limits <= step, candidates)
        growing, parents, finished = _step(growing, finished, found, penalty, special.eos_id)
        rows = parents + torch.arange(0, len(parents) * width, width, device=source.device)[:, None]
        bound = growing.scores[:, 0] / penalty
        done = waiting & ((bound <= finished.scores[:, -1]) | (limits == step))
        if done.any():
            ready, waiting = finished.select(done), waiting & ~done
            ended = hypotheses(ready, special.eos_id)
            n_best.update(zip(sentences[done].tolist(), ended, strict=True))
            staying = stay(waiting)
            if not len(staying):
                break
            if len(staying) < len(sentences):
                sentences, waiting, limits = sentences[staying], waiting[staying], limits[staying]
                growing, finished = growing.select(staying), finished.select(staying)
                memory, rows = memory.select(staying), rows[staying]
        past.select(rows.flatten())
        last = growing.tokens[..., -1].flatten()
    return [n_best[sentence] for sentence in range(source.size(0))]


def _start(source: Int[Tensor, "batch source"], size: int) -> tuple[Beam, Beam]:
    """One empty unfinished target for each sentence, and no finished one."""
    batch = source.size(0)
    zero = torch.zeros(batch, 1, device=source.device)
    growing = Beam(source.new_empty(batch, 1, 0), zero.new_empty(batch, 1, 0), zero)
    none = zero.new_full((batch, size), -torch.inf)
    finished = Beam(source.new_empty(batch, size, 0), zero.new_empty(batch, size, 0), none)
    return growing, finished


def _step(
    growing: Beam,
    finished: Beam,
    found: Continuations,
    penalty: float,
    eos_id: int,
) -> tuple[Beam, Int[Tensor, "sentences width"], Beam]:
    """What grows on, the rows of `growing` that it grew from, and what is finished by now."""
    size = finished.scores.size(1)
    ended = found.tokens == eos_id
    # An end that ranks below the beam is no rival of the prefixes that go on.
    if ended[:, :size].any():
        scores = (found.scores / penalty).masked_fill(~ended, -torch.inf)
        scores[:, size:] = -torch.inf
        ends = _continued(growing, replace(found, scores=scores))
        finished = _side_by_side(finished, ends).best(size)
    scores = found.scores.masked_fill(ended, -torch.inf)
    scores, order = scores.topk(min(size, scores.size(1)))
    others = (x.gather(1, order) for x in (found.parents, found.tokens, found.log_probs))
    going = Continuations(scores, *others)
    return _continued(growing, going), going.parents, finished


def _continued(growing: Beam, found: Continuations) -> Beam:
    """The prefixes with their next tokens.

    There are fewer where a small vocabulary has no more to offer: the beam widens with the steps.
    """
    whole = found.parents[..., None].expand(-1, -1, growing.tokens.size(2))
    tokens = torch.cat([growing.tokens.gather(1, whole), found.tokens[..., None]], dim=2)
    log_probs = torch.cat([growing.log_probs.gather(1, whole), found.log_probs[..., None]], dim=2)
    return Beam(tokens, log_probs, found.scores)


def _side_by_side(finished: Beam, candidates: Beam) -> Beam:
    """Both in one; as the candidates are longer, the finished are padded."""
    longer = 0, candidates.tokens.size(2) - finished.tokens.size(2)
    return Beam(
        torch.cat([pad(finished.tokens, longer), candidates.tokens], dim=1),
        torch.cat([pad(finished.log_probs, longer), candidates.log_probs], dim=1),
        torch.cat([finished.scores, candidates.scores], dim=1),
    )
