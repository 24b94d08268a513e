"""The fast path of decoding: a Transformer that gives the next token of many hypotheses.

Same weights and same results as `Transformer.decode`, token by token, for the paper's attention.
Hypotheses of one source share one cache, to which a step only appends; a mask says which of its
entries a hypothesis descends from. So a beam is reordered without moving a key or a value.
"""

from dataclasses import dataclass
from functools import partial
from typing import TypeGuard

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention

from calque.models.parts.fused_attention import has_one_width, is_scaled_dot_product
from calque.models.parts.positioned_attention import RotaryAttention, turned, unturned
from calque.models.precision import WIDTH, products
from calque.models.transformer import (
    MultiHeadAttention,
    Transformer,
    TransformerConfig,
)

BLOCK, PADDED = 256, 64  # rows
GROWTH = 8
"""Steps that caches have room for, at first and then again and again."""


@dataclass(frozen=True)
class FastMemory:
    """The encoded sources, as keys and values for each decoder layer's cross-attention."""

    keys_values: Float[Tensor, "layers 2 batch heads keys d_head"]
    """A multiple of WIDTH keys, the last of them masked."""
    mask: Float[Tensor, "batch 1 1 keys"]
    """To add to the scores: 0 or the lowest number."""

    def select(self, rows: Int[Tensor, " kept"]) -> "FastMemory":
        """The given rows, in the given order."""
        return FastMemory(self.keys_values.index_select(2, rows), self.mask[rows])


class FastPast:
    """Keys and values of tokens that were tried, the entries, and the descent of each hypothesis.

    Entries without descendants are forgotten now and then.
    """

    def __init__(self, sources: int, config: TransformerConfig, device: torch.device) -> None:
        self.steps = 0
        self.heads = config.num_heads
        # Which entries each hypothesis descends from: [sources, width, entries].
        self.descent = torch.ones(sources, 1, 0, dtype=torch.bool, device=device)
        # Of WIDTH zeros, of the entries, and room for more: [layers, room, sources, both].
        shape = config.num_decoder_layers, WIDTH, sources, 2 * config.d_model
        self.keys_values = torch.zeros(shape, device=device)
        # Used again in each step: as much new memory takes longer to get than to fill.
        self.logits = torch.empty(0, device=device)

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with the given hypotheses, at least one: as many for each source that is kept.

        The sources stay in their order.
        """
        sources, width, _ = self.descent.shape
        kept = (rows // width).unique_consecutive()
        self.descent = self.descent.flatten(0, 1)[rows].unflatten(0, (len(kept), -1))
        if len(kept) < sources:
            self._tidy(kept)

    def begin_step(self) -> Float[Tensor, "sources 1 width keys"]:
        """Make the hypotheses entries; what to add to their scores against all keys.

        Keys are the entries and, up to a multiple of WIDTH, zeros before them.
        """
        sources, width, entries = self.descent.shape
        if self.keys_values.size(1) < WIDTH + entries + width:
            self._tidy(torch.arange(sources, device=self.descent.device))
        own = torch.eye(width, dtype=torch.bool, device=self.descent.device)
        self.descent = torch.cat([self.descent, own.expand(sources, -1, -1)], dim=2)
        self.steps += 1
        return _to_add(pad(self.descent, (-self.descent.size(2) % WIDTH, 0)))[:, None]

    def append(
        self, layer: int, new: Float[Tensor, "sources width both"]
    ) -> Float[Tensor, "2 sources heads keys d_head"]:
        """All keys and values of a layer, with those of this step."""
        entries = self.descent.size(2)
        keys = self.keys_values[layer, WIDTH - -entries % WIDTH : WIDTH + entries]
        keys[-new.size(1) :] = new.transpose(0, 1)
        return keys.unflatten(-1, (2, self.heads, -1)).permute(2, 1, 3, 0, 4)

    def _tidy(self, kept: Int[Tensor, " kept"]) -> None:
        """Keep these sources, and of their entries those with descendants; make room for more."""
        used = self.descent.any(dim=1)
        number = int(used.sum(dim=1).amax()) if used.numel() else 0
        entries = used.int().topk(number).indices  # [kept, number]
        width = self.descent.size(1)
        self.descent = self.descent.gather(2, entries[:, None].expand(-1, width, -1))
        old, (layers, _, sources, size) = self.keys_values, self.keys_values.shape
        rows = (entries.T * sources + kept).flatten()
        room = WIDTH + number + GROWTH * width
        self.keys_values = old.new_empty(layers, room, len(kept), size)
        self.keys_values[:, :WIDTH] = 0
        for before, after in zip(old[:, WIDTH:], self.keys_values[:, WIDTH:], strict=True):
            moved = after[:number].flatten(0, 1)
            torch.index_select(before.flatten(0, 1), 0, rows, out=moved)


class FastTransformer:
    """A Transformer for search alone; see `Seq2Seq`.

    Takes one token of each hypothesis at a time; its logits last until the next.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.layers = [_FastLayer(layer.self_attention) for layer in model.decoder]
        weight, self.bias = model.output_weights
        # Turned, for products with few rows, which are up to half as fast again by it.
        self.weight = weight.detach().T.contiguous()

    @staticmethod
    def can_take(model: nn.Module) -> TypeGuard[Transformer]:
        """Whether all attention of a decoder is the paper's, which this path computes itself.

        In self-attention, queries and keys may turn with their positions.
        """
        if not isinstance(model, Transformer):
            return False
        heads = [
            h for layer in model.decoder for h in (layer.self_attention, layer.cross_attention)
        ]
        own = [unturned(layer.self_attention.attention) for layer in model.decoder]
        across = [layer.cross_attention.attention for layer in model.decoder]
        return all(map(has_one_width, heads)) and all(map(is_scaled_dot_product, own + across))

    @property
    def config(self) -> TransformerConfig:
        return self.model.config

    def encode(
        self, source: Int[Tensor, "batch source"], tree: Int[Tensor, "batch source"] | None = None
    ) -> FastMemory:
        memory = self.model.encode(source, tree)
        keys_values = torch.stack([torch.stack(of_layer) for of_layer in memory.keys_values])
        spare = -keys_values.size(-2) % WIDTH
        mask = pad(memory.mask, (0, spare))
        return FastMemory(pad(keys_values, (0, 0, 0, spare)), _to_add(mask))

    def start(self, memory: FastMemory) -> FastPast:
        return FastPast(memory.mask.size(0), self.config, memory.mask.device)

    def decode(
        self, target: Int[Tensor, "rows 1"], memory: FastMemory, past: FastPast
    ) -> Float[Tensor, "rows 1 vocab"]:
        model, mask = self.model, past.begin_step()
        x = model.embedding.target(target) + model.positions.target(target, start=past.steps - 1)
        x = x.view(*past.descent.shape[:2], -1)  # [sources, width, d_model]
        for i, (layer, fast) in enumerate(zip(model.decoder, self.layers, strict=True)):
            x = layer.residuals[0](x, partial(fast.attend_to_past, past=past, layer=i, mask=mask))
            look_back = partial(_look_back, layer.cross_attention, memory=memory, layer=i)
            x = layer.residuals[1](x, look_back)
            x = layer.residuals[2](x, layer.feed_forward)
        return self._logits(model.decoder_norm(x).flatten(0, 1), past)[:, None]

    def _logits(
        self, features: Float[Tensor, "rows d_model"], past: FastPast
    ) -> Float[Tensor, "rows vocab"]:
        # In blocks of few sizes: bf16 kernels are made anew, slowly, for each number of rows.
        rows = len(features)
        spare = -rows % PADDED if rows > PADDED // 4 else 0
        if len(past.logits) < rows + spare:
            past.logits = features.new_empty(rows + spare, self.weight.size(1))
        logits = past.logits[: rows + spare]
        padded = pad(features, (0, 0, 0, spare))
        for some, result in zip(padded.split(BLOCK), logits.split(BLOCK), strict=True):
            torch.mm(some, self.weight, out=result)
        return logits[:rows] if self.bias is None else logits[:rows].add_(self.bias)


class _FastLayer:
    """Self-attention of one decoder layer, with one product for queries, keys and values."""

    def __init__(self, attention: MultiHeadAttention) -> None:
        self.heads, self.output = attention.num_heads, attention.output
        inner = attention.attention
        self.rotary = inner if isinstance(inner, RotaryAttention) else None
        projections = attention.query, attention.key, attention.value
        self.weight = torch.cat([projection.weight.detach() for projection in projections])
        self.bias = None
        if attention.query.bias is not None:
            self.bias = torch.cat([projection.bias.detach() for projection in projections])

    def attend_to_past(
        self, x: Float[Tensor, "sources width d_model"], past: FastPast, layer: int, mask: Tensor
    ) -> Float[Tensor, "sources width d_model"]:
        projected = linear(x, self.weight, self.bias)
        if self.rotary is not None:
            self._turn(projected, self.rotary, past.steps - 1)
        query, new = projected.split([x.size(-1), 2 * x.size(-1)], dim=-1)
        query = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = past.append(layer, new)
        return self.output(_attend(query, key, value, mask))

    def _turn(self, projected: Tensor, rotary: RotaryAttention, position: int) -> None:
        """Queries and keys, all of the same position, by its angles."""
        turning = projected[..., : 2 * projected.size(-1) // 3]
        vectors = turning.unflatten(-1, (2 * self.heads, -1))
        angle = rotary.angles(position + 1)[-1]
        turning.copy_(turned(vectors, angle.expand(2 * self.heads, -1)).flatten(-2))


def _look_back(
    attention: MultiHeadAttention, x: Tensor, memory: FastMemory, layer: int
) -> Float[Tensor, "sources width d_model"]:
    query = attention.query(x).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    key, value = memory.keys_values[layer]
    return attention.output(_attend(query, key, value, memory.mask))


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Eq. 1 for all heads, joined."""
    with products("ieee"):  # its many small products only lose time by the change to bf16
        heads = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return heads.transpose(1, 2).flatten(2)


def _to_add(mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, lowest)
