"""A Transformer's layers as steps of `kernels.layers`, where all their parts are such."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from calque.kernels.layers import Panels, Stack
from calque.models.parts.feed_forwards import (
    GeluFeedForward,
    SwiGLUFeedForward,
    SwishFeedForward,
)
from calque.models.parts.fused_attention import has_one_width, is_scaled_dot_product
from calque.models.parts.norms import NoNorm, RMSNorm
from calque.models.parts.positioned_attention import RotaryAttention, unturned
from calque.models.parts.residuals import NoResidual, PreNorm
from calque.models.transformer import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    LayerNorm,
    MultiHeadAttention,
    Residual,
    Transformer,
)

ACTIVATIONS = {FeedForward: "relu", SwishFeedForward: "swish", GeluFeedForward: "gelu"}
FEED_FORWARDS = {*ACTIVATIONS, SwiGLUFeedForward}
NORMS = {LayerNorm, RMSNorm, NoNorm}
RESIDUALS = {Residual, PreNorm, NoResidual}


def can_take(model: Transformer) -> bool:
    """Whether its layers are of parts that there are steps for."""
    layers = [*model.encoder, *model.decoder]
    residuals = [residual for layer in layers for residual in layer.residuals]
    heads = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    across = [layer.cross_attention.attention for layer in model.decoder]
    return (
        all(type(residual) in RESIDUALS and type(residual.norm) in NORMS for residual in residuals)
        and all(type(layer.feed_forward) in FEED_FORWARDS for layer in layers)
        and all(has_one_width(h) and is_scaled_dot_product(unturned(h.attention)) for h in heads)
        and all(map(is_scaled_dot_product, across))
    )


def encoder_stack(model: Transformer) -> Stack:
    """From embeddings to the keys and values of the decoder's layers."""
    made = _LayerSteps(model)
    for layer in model.encoder:
        made.attention(layer.residuals[0], layer.self_attention, "attend_own", 0)
        made.feed_forward(layer)
    made.norm(model.encoder_norm, made.stack.x)
    for number, layer in enumerate(model.decoder):
        made.project(layer.cross_attention, ["key", "value"], made.stack.x)
        made.stack.attend("keep", number)
    return made.stack


def decoder_stack(model: Transformer) -> Stack:
    """From embeddings to features."""
    made = _LayerSteps(model)
    for number, layer in enumerate(model.decoder):
        made.attention(layer.residuals[0], layer.self_attention, "attend_past", number)
        made.attention(layer.residuals[1], layer.cross_attention, "attend_memory", number)
        made.feed_forward(layer)
    made.norm(model.decoder_norm, made.stack.x)
    return made.stack


class _LayerSteps:
    """The steps of sub-layers, with the norms and the residual connections around them."""

    def __init__(self, model: Transformer) -> None:
        config = model.config
        self.d_head = config.d_head
        inner = Stack(config.d_model, config.num_heads, config.d_head, 0).inner
        widest = max(3 * inner, config.d_ff)
        self.stack = Stack(config.d_model, config.num_heads, config.d_head, widest)

    def attention(self, residual: Any, heads: MultiHeadAttention, kind: str, layer: int) -> None:
        """A sub-layer of attention of some kind."""
        stack, at = self.stack, self._before(residual)
        own = [] if kind == "attend_memory" else ["key", "value"]
        self.project(heads, ["query", *own], at)
        if isinstance(heads.attention, RotaryAttention):
            stack.turn()
        stack.attend(kind, layer)
        weight = heads.output.weight.unflatten(1, (stack.heads, -1))
        filled = pad(weight, (0, stack.d_head - self.d_head)).flatten(1)
        self._after(residual, stack.found, Panels(filled, heads.output.bias))

    def feed_forward(self, layer: EncoderLayer | DecoderLayer) -> None:
        """The last sub-layer of a layer."""
        residual, stack = layer.residuals[-1], self.stack
        inner: Any = layer.feed_forward
        at = self._before(residual)
        if isinstance(inner, SwiGLUFeedForward):
            stack.product(at, stack.work, _panels(inner.gate), "swish")
            stack.product(at, stack.work, _panels(inner.widen), how="multiply")
            self._after(residual, stack.work, _panels(inner.narrow))
            return
        widen, _, narrow = inner
        stack.product(at, stack.work, _panels(widen), ACTIVATIONS[type(inner)])
        self._after(residual, stack.work, _panels(narrow))

    def project(self, heads: MultiHeadAttention, names: Sequence[str], at: int) -> None:
        """By the projections of these names; queries are scaled, and heads filled up with zeros."""
        weights, biases = [], []
        for name in names:
            projection: nn.Linear = getattr(heads, name)
            scale = self.d_head**-0.5 if name == "query" else 1.0
            weights.append(self._filled(projection.weight * scale))
            if projection.bias is not None:
                biases.append(self._filled(projection.bias * scale))
        bias = torch.cat(biases) if biases else None
        self.stack.product(at, self.stack.work, Panels(torch.cat(weights), bias))

    def norm(self, norm: nn.Module, to: int) -> None:
        """Of x, if it is one."""
        if isinstance(norm, LayerNorm):
            self.stack.norm(to, norm.weight, norm.bias, norm.eps, centred=True)
        if isinstance(norm, RMSNorm):
            self.stack.norm(to, norm.weight, None, float(norm.eps or 0), centred=False)

    def _before(self, residual: Any) -> int:
        """The columns that a sub-layer starts from."""
        if isinstance(residual, PreNorm) and not isinstance(residual.norm, NoNorm):
            self.norm(residual.norm, self.stack.normed)
            return self.stack.normed
        return self.stack.x

    def _after(self, residual: Any, at: int, panels: Panels) -> None:
        how = "set" if isinstance(residual, NoResidual) else "add"
        self.stack.product(at, self.stack.x, panels, how=how)
        if not isinstance(residual, PreNorm):
            self.norm(residual.norm, self.stack.x)

    def _filled(self, x: Any) -> Tensor:
        """Of numbers for each head, so many that they are whole vectors."""
        heads = x.unflatten(0, (self.stack.heads, -1))
        spare = self.stack.d_head - self.d_head
        return pad(heads.movedim(1, -1), (0, spare)).movedim(-1, 1).flatten(0, 1)


def _panels(layer: Any) -> Panels:
    return Panels(layer.weight, layer.bias)
