"""Capture of every attention matrix by forward hooks on the plain path."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from calque.config import CalqueError
from calque.models.transformer import MultiHeadAttention
from calque.translator import Translation, Translator


@contextmanager
def captured(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """While the block runs, the latest attention weights by the name of their module.

    Raises CalqueError for a model on the fused path, which never has them.
    """
    weights: dict[str, Tensor] = {}
    handles = []
    try:
        for name, module in model.named_modules():
            if isinstance(module, MultiHeadAttention):
                if not hasattr(module.attention, "softmax"):
                    raise CalqueError("attention is captured on the plain path; build the model so")
                softmax = module.attention.get_submodule("softmax")
                handles.append(softmax.register_forward_hook(_keep(weights, name)))
        yield weights
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Look:
    """A line, its translation, and what each head attended to."""

    source: list[str]
    """Pieces, with the end of the sentence."""
    target: list[str]
    """Pieces that were predicted, with the end of the sentence."""
    translation: Translation
    weights: dict[str, Tensor]
    """By module name, such as `decoder.0.cross_attention`: [heads, query, key]."""


@torch.inference_mode()
def look(translator: Translator, line: str) -> Look:
    """The best translation of a line, and the attention with which the model predicts it."""
    best = translator.n_best([line])[0][0]
    config, (ids,) = translator.model.config, translator.tokenizers.source.encode([line])
    source = torch.tensor([[*ids, config.eos_id]])
    target = torch.tensor([[config.bos_id, *best.hypothesis.tokens]])
    device = next(translator.model.parameters()).device
    with captured(translator.model) as weights:
        translator.model(source.to(device), target.to(device))
    return Look(
        source=[*translator.tokenizers.source.pieces(ids), "</s>"],
        target=[*translator.tokenizers.target.pieces(best.hypothesis.tokens), "</s>"],
        translation=best,
        weights={name: tensor[0].cpu() for name, tensor in weights.items()},
    )


def _keep(
    weights: dict[str, Tensor], name: str
) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
    def hook(_module: nn.Module, _inputs: tuple[Tensor], output: Tensor) -> None:
        weights[name] = output.detach()

    return hook
