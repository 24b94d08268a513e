"""The fast path of decoding: a Transformer that gives the next token of many hypotheses.

Same weights and same results as `Transformer.decode`, token by token, for the paper's attention.
Hypotheses of one source share one cache, to which a step only appends; a mask says which of its
entries a hypothesis descends from. So a beam is reordered without moving a key or a value.
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from calque.models.parts.fused_attention import FusedAttention
from calque.models.transformer import (
    Attention,
    MultiHeadAttention,
    ScaledDotProduct,
    Transformer,
    TransformerConfig,
)

BLOCK, PADDED = 256, 64  # rows
GROWTH = 16
"""Steps that caches have room for, at first and then again and again."""


@dataclass(frozen=True)
class FastMemory:
    """The encoded sources, as keys and values for each decoder layer's cross-attention."""

    keys_values: Float[Tensor, "layers 2 batch heads source d_head"]
    mask: Float[Tensor, "batch 1 1 source"]
    """To add to the scores: 0 or the lowest number."""

    def select(self, rows: Int[Tensor, " kept"]) -> "FastMemory":
        """The given rows, in the given order."""
        return FastMemory(self.keys_values[:, :, rows], self.mask[rows])


class FastPast:
    """Keys and values of all tokens that were tried, and the descent of each hypothesis."""

    def __init__(self, sources: int, config: TransformerConfig, device: torch.device) -> None:
        self.steps = 0
        # Which entries each hypothesis descends from: [sources, width, entries].
        self.descent = torch.ones(sources, 1, 0, dtype=torch.bool, device=device)
        shape = config.num_decoder_layers, 2, sources, config.num_heads, 0, config.d_head
        self.keys_values = torch.empty(shape, device=device)  # room for more than the entries

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with the given hypotheses; each source kept has the same number of them."""
        sources, width, _ = self.descent.shape
        kept = (rows // width).unique_consecutive()
        self.descent = self.descent.flatten(0, 1)[rows].unflatten(0, (len(kept), -1))
        if len(kept) < sources:
            self.keys_values = self.keys_values[:, :, kept]

    def begin_step(self) -> Float[Tensor, "sources 1 width entries"]:
        """Make the hypotheses entries; what to add to their scores against all entries."""
        sources, width, _ = self.descent.shape
        own = torch.eye(width, dtype=torch.bool, device=self.descent.device)
        self.descent = torch.cat([self.descent, own.expand(sources, -1, -1)], dim=2)
        self.steps += 1
        if self.keys_values.size(4) < self.descent.size(2):
            self.keys_values = pad(self.keys_values, (0, 0, 0, GROWTH * width))
        return _to_add(self.descent)[:, None]

    def append(
        self, layer: int, new: Float[Tensor, "2 sources heads width d_head"]
    ) -> Float[Tensor, "2 sources heads entries d_head"]:
        """The keys and values of all entries in a layer, with those of this step."""
        end = self.descent.size(2)
        entries = self.keys_values[layer, :, :, :, :end]
        entries[:, :, :, end - new.size(3) :] = new
        return entries


class FastTransformer:
    """A Transformer for search alone; see `Seq2Seq`. Takes one token of each hypothesis a time."""

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.layers = [_FastLayer(layer.self_attention) for layer in model.decoder]

    @staticmethod
    def can_take(model: Transformer) -> bool:
        """Whether all of a model's attention is the paper's, which this path computes itself."""
        attentions = [m.attention for m in model.modules() if isinstance(m, MultiHeadAttention)]
        return all(
            isinstance(attention, FusedAttention)
            or (type(attention) is Attention and type(attention.score) is ScaledDotProduct)
            for attention in attentions
        )

    @property
    def config(self) -> TransformerConfig:
        return self.model.config

    def encode(self, source: Int[Tensor, "batch source"]) -> FastMemory:
        memory = self.model.encode(source)
        keys_values = torch.stack([torch.stack(of_layer) for of_layer in memory.keys_values])
        return FastMemory(keys_values, _to_add(memory.mask))

    def start(self, memory: FastMemory) -> FastPast:
        return FastPast(memory.mask.size(0), self.config, memory.mask.device)

    def decode(
        self, target: Int[Tensor, "rows 1"], memory: FastMemory, past: FastPast
    ) -> Float[Tensor, "rows 1 vocab"]:
        model, mask = self.model, past.begin_step()
        x = model.embedding.target(target) + model.positions(1, start=past.steps - 1)
        x = x.view(*past.descent.shape[:2], -1)  # [sources, width, d_model]
        for i, (layer, fast) in enumerate(zip(model.decoder, self.layers, strict=True)):
            x = layer.residuals[0](x, partial(fast.attend_to_past, past=past, layer=i, mask=mask))
            look_back = partial(_look_back, layer.cross_attention, memory=memory, layer=i)
            x = layer.residuals[1](x, look_back)
            x = layer.residuals[2](x, layer.feed_forward)
        return self._logits(model.decoder_norm(x).flatten(0, 1))[:, None]

    def _logits(self, features: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows vocab"]:
        # In blocks of few sizes: bf16 kernels are made anew, slowly, for each number of rows.
        rows = len(features)
        spare = -rows % PADDED if rows > PADDED // 4 else 0
        blocks = pad(features, (0, 0, 0, spare)).split(BLOCK)
        weight = self.model.embedding.output_weight
        return torch.cat([self.model.output(block, weight) for block in blocks])[:rows]


class _FastLayer:
    """Self-attention of one decoder layer, with one product for queries, keys and values."""

    def __init__(self, attention: MultiHeadAttention) -> None:
        self.heads, self.output = attention.num_heads, attention.output
        projections = attention.query, attention.key, attention.value
        self.weight = torch.cat([projection.weight.detach() for projection in projections])
        self.bias = None
        if attention.query.bias is not None:
            self.bias = torch.cat([projection.bias.detach() for projection in projections])

    def attend_to_past(
        self, x: Float[Tensor, "sources width d_model"], past: FastPast, layer: int, mask: Tensor
    ) -> Float[Tensor, "sources width d_model"]:
        split = linear(x, self.weight, self.bias).unflatten(-1, (3, self.heads, -1))
        split = split.permute(2, 0, 3, 1, 4)
        key, value = past.append(layer, split[1:])
        heads = scaled_dot_product_attention(split[0], key, value, attn_mask=mask)
        return self.output(heads.transpose(1, 2).flatten(2))


def _look_back(
    attention: MultiHeadAttention, x: Tensor, memory: FastMemory, layer: int
) -> Float[Tensor, "sources width d_model"]:
    query = attention.query(x).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    key, value = memory.keys_values[layer]
    heads = scaled_dot_product_attention(query, key, value, attn_mask=memory.mask)
    return attention.output(heads.transpose(1, 2).flatten(2))


def _to_add(mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, lowest)
