"""Greedy search: the likeliest next token, again and again."""

import torch
from jaxtyping import Int
from torch import Tensor

from calque.decoding.candidates import continuations
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import (
    Hypothesis,
    hypotheses,
    length_limits,
    length_penalties,
    stay,
)
from calque.models.interface import Found, Searching, Seq2Seq


@torch.inference_mode()
def greedy_search(
    model: Seq2Seq, source: Int[Tensor, "batch source"], config: DecodingConfig
) -> list[list[Hypothesis]]:
    """One hypothesis for each source; `config.beam_size` plays no part."""
    special = model.config
    limits = length_limits(source, special.pad_id, config.max_length)
    penalties = length_penalties(limits, config)
    if isinstance(model, Searching):
        found = model.search(source, limits, penalties, size=1, greedy=True)
        return hypotheses(found, special.eos_id)
    memory = model.encode(source)
    past = model.start(memory)
    tokens = source.new_full((source.size(0), len(penalties) - 1), special.pad_id)
    log_probs = torch.zeros_like(tokens, dtype=torch.float32)

    active = torch.arange(source.size(0), device=source.device)
    waiting = torch.ones_like(active, dtype=torch.bool)
    last = torch.full_like(active, special.bos_id)
    none = torch.zeros(source.size(0), 1, device=source.device)
    step = 0
    while waiting.any():
        must_end, before = limits[active] <= step, none[: len(active)]
        likeliest = continuations(model, last, memory, past, before, must_end, size=1)
        last = likeliest.tokens[:, 0]
        log_probs[active[waiting], step] = likeliest.log_probs[waiting, 0]
        tokens[active[waiting], step] = last[waiting]
        waiting &= last != special.eos_id
        staying = stay(waiting)
        if 0 < len(staying) < len(active):
            active, last, waiting = active[staying], last[staying], waiting[staying]
            memory = memory.select(staying)
            past.select(staying)
        step += 1

    lengths = (tokens != special.pad_id).sum(dim=1)
    scores = log_probs.sum(dim=1) / penalties[lengths]
    found = Found(tokens[:, None], log_probs[:, None], scores[:, None])
    return hypotheses(found, special.eos_id)
