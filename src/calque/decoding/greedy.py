"""Greedy search: the likeliest next token, again and again."""

import torch
from jaxtyping import Int
from torch import Tensor

from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import (
    Hypothesis,
    hypotheses,
    length_limits,
    length_penalties,
    next_log_probs,
)
from calque.models.interface import Seq2Seq


@torch.inference_mode()
def greedy_search(
    model: Seq2Seq, source: Int[Tensor, "batch source"], config: DecodingConfig
) -> list[list[Hypothesis]]:
    """One hypothesis for each source; `config.beam_size` plays no part."""
    special = model.config
    memory = model.encode(source)
    past = model.start(memory)
    limits = length_limits(source, special.pad_id, config.max_length)
    penalties = length_penalties(limits, config.length_penalty)
    tokens = source.new_full((source.size(0), len(penalties) - 1), special.pad_id)
    log_probs = torch.zeros_like(tokens, dtype=torch.float32)

    active = torch.arange(source.size(0), device=source.device)
    last = torch.full_like(active, special.bos_id)
    step = 0
    while len(active):
        scores = next_log_probs(model, last, memory, past, limits[active] == step)
        log_probs[active, step], last = scores.max(dim=-1)
        tokens[active, step] = last
        going = (last != special.eos_id).nonzero().squeeze(1)
        if len(going) < len(active):
            active, last = active[going], last[going]
            memory = memory.select(going)
            past.select(going)
        step += 1

    lengths = (tokens != special.pad_id).sum(dim=1)
    scores = log_probs.sum(dim=1) / penalties[lengths]
    return hypotheses(tokens[:, None], log_probs[:, None], scores[:, None], special.eos_id)
