"""The Transformer: Vaswani et al. (2017), "Attention Is All You Need", arXiv:1706.03762.

Read from top to bottom; the sections follow §3 of the paper. This file imports nothing from
calque. A variant lives in `parts/` and takes the place of one field of `Parts`.

Axes   batch · source, target, query, key: positions · d_model: width of the residual stream
       heads · d_head: width of one head, d_model / num_heads (the paper's d_k = d_v)
Masks  boolean, True = may attend, as in torch.nn.functional.scaled_dot_product_attention
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]  # each [batch, heads, key, d_head]
Extend = Callable[[KeysValues], KeysValues]  # from those of new positions to those of all


@dataclass(frozen=True, kw_only=True)
class TransformerSizes:
    """Sizes of a Transformer; the defaults are the base model of Table 3."""

    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    d_model: int = 512
    d_ff: int = 2048
    num_heads: int = 8
    d_key: int | None = None  # of a head's queries and keys; None: as of its values, d_head
    dropout: float = 0.1
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ValueError(f"d_model {self.d_model} is no multiple of num_heads {self.num_heads}")

    @property
    def d_head(self) -> int:
        return self.d_model // self.num_heads

    @property
    def key_width(self) -> int:
        return self.d_key or self.d_head


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TransformerSizes):
    """Sizes, vocabularies, and the ids with a meaning."""

    source_vocab_size: int
    target_vocab_size: int
    pad_id: int = 0
    bos_id: int = 2
    eos_id: int = 3


Part = Callable[[TransformerConfig], nn.Module]


class LayerNorm(nn.LayerNorm):
    """Each position by itself, to mean 0 and variance 1 over its features: arXiv:1607.06450."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.d_model)


class Residual(nn.Module):
    """LayerNorm(x + Dropout(Sublayer(x))), §3.1 and §5.4; a variant puts the norm elsewhere."""

    def __init__(self, config: TransformerConfig, norm: Part) -> None:
        super().__init__()
        self.norm = norm(config)
        self.dropout = nn.Dropout(config.dropout)

    @staticmethod
    def final_norm(_config: TransformerConfig, _norm: Part, /) -> nn.Module:
        """Norm to apply after the last layer of a stack."""
        return nn.Identity()

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        return self.norm(x + self.dropout(sublayer(x)))


class ScaledDotProduct(nn.Module):
    """Compatibility of each query with each key, Q Kᵀ / √d_head: eq. 1, §3.2.1."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(config.key_width)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
    ) -> Float[Tensor, "batch heads query key"]:
        return (query * self.scale) @ key.transpose(-2, -1)


class Attention(nn.Module):
    """softmax(Q Kᵀ / √d_head) V: eq. 1, Figure 2 left. Hook `softmax` to capture the weights.

    Where a mask leaves a query nothing to attend to, it attends to all alike: never to NaN.
    """

    def __init__(
        self,
        config: TransformerConfig,
        score: Part = ScaledDotProduct,
    ) -> None:
        super().__init__()
        self.score = score(config)
        self.softmax = nn.Softmax(dim=-1)
        self.dropout = nn.Dropout(config.attention_dropout)

    def forward(
        self,
        query: Float[Tensor, "batch heads query d_key"],
        key: Float[Tensor, "batch heads key d_key"],
        value: Float[Tensor, "batch heads key d_head"],
        mask: Bool[Tensor, "#batch 1 #query key"],
    ) -> Float[Tensor, "batch heads query d_head"]:
        scores = self.score(query, key)
        weights = self.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min))
        return self.dropout(weights) @ value


class MultiHeadAttention(nn.Module):
    """Concat(head_1, …, head_h) W^O: §3.2.2, Figure 2 right."""

    bias = False

    def __init__(self, config: TransformerConfig, attention: Part) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        narrow = config.d_model, config.num_heads * config.key_width, self.bias
        square = config.d_model, config.d_model, self.bias
        self.query, self.key = nn.Linear(*narrow), nn.Linear(*narrow)
        self.value, self.output = nn.Linear(*square), nn.Linear(*square)
        self.attention = attention(config)

    def keys_values(self, x: Float[Tensor, "batch key d_model"]) -> KeysValues:
        return self._split_heads(self.key(x)), self._split_heads(self.value(x))

    def forward(
        self,
        x: Float[Tensor, "batch query d_model"],
        keys_values: KeysValues,
        mask: Bool[Tensor, "#batch 1 #query key"],
    ) -> Float[Tensor, "batch query d_model"]:
        heads = self.attention(self._split_heads(self.query(x)), *keys_values, mask)
        return self.output(heads.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """max(0, x W₁ + b₁) W₂ + b₂: eq. 2, §3.3."""

    def __init__(self, config: TransformerConfig) -> None:
        widen, narrow = (config.d_model, config.d_ff), (config.d_ff, config.d_model)
        super().__init__(nn.Linear(*widen), nn.ReLU(), nn.Linear(*narrow))


class SharedEmbedding(nn.Module):
    """One matrix embeds source and target, times √d_model, and predicts the output: §3.4."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.source_vocab_size != config.target_vocab_size:
            raise ValueError("a shared embedding needs one vocabulary for both languages")
        self.table = nn.Embedding(config.target_vocab_size, config.d_model)
        self.scale = math.sqrt(config.d_model)

    def source(self, ids: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length d_model"]:
        return self.table(ids) * self.scale

    target = source

    @property
    def output_weight(self) -> Float[Tensor, "vocab d_model"]:
        return self.table.weight


class PositionTable(nn.Module):
    """A vector for each position, to be added to the embedding: `forward(length, start)`."""

    def source(
        self, ids: Int[Tensor, "batch length"], _tree: Tensor | None = None
    ) -> Float[Tensor, "#batch length d_model"]:
        return self(ids.size(1))[None]

    def target(
        self, ids: Int[Tensor, "batch length"], start: int
    ) -> Float[Tensor, "#batch length d_model"]:
        return self(ids.size(1), start)[None]


class SinusoidalPositions(PositionTable):
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i+1) = cos of the same: §3.5."""

    frequency: Tensor  # [d_model / 2], radians per position

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        frequency = 10000 ** (-torch.arange(0, config.d_model, 2) / config.d_model)
        self.register_buffer("frequency", frequency, persistent=False)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "length d_model"]:
        position = torch.arange(start, start + length, device=self.frequency.device)
        angle = position[:, None] * self.frequency
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Output(nn.Module):
    """The linear transformation before the softmax, §3.4: by the embedding's matrix, no bias."""

    bias: Tensor | None  # [vocab]

    def __init__(self, _: TransformerConfig, /) -> None:
        super().__init__()
        self.register_parameter("bias", None)

    def forward(
        self, features: Float[Tensor, "*rows d_model"], weight: Float[Tensor, "vocab d_model"]
    ) -> Float[Tensor, "*rows vocab"]:
        return nn.functional.linear(features, weight, self.bias)


@dataclass(frozen=True)
class Parts:
    """The pluggable parts; the defaults are the paper's."""

    embedding: Part = SharedEmbedding
    positions: Part = SinusoidalPositions
    encoder_attention: Part = Attention
    decoder_attention: Part = Attention
    cross_attention: Part = Attention
    heads: type[MultiHeadAttention] = MultiHeadAttention
    feed_forward: Part = FeedForward
    norm: Part = LayerNorm
    residual: type[Residual] = Residual
    output: type[Output] = Output


class EncoderLayer(nn.Module):
    """Figure 1, left."""

    def __init__(self, config: TransformerConfig, parts: Parts) -> None:
        super().__init__()
        self.self_attention = parts.heads(config, parts.encoder_attention)
        self.feed_forward = parts.feed_forward(config)
        self.residuals = nn.ModuleList(parts.residual(config, parts.norm) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attend = self.self_attention
        x = self.residuals[0](x, lambda x: attend(x, attend.keys_values(x), mask))
        return self.residuals[1](x, self.feed_forward)


class DecoderLayer(nn.Module):
    """Figure 1, right."""

    def __init__(self, config: TransformerConfig, parts: Parts) -> None:
        super().__init__()
        self.self_attention = parts.heads(config, parts.decoder_attention)
        self.cross_attention = parts.heads(config, parts.cross_attention)
        self.feed_forward = parts.feed_forward(config)
        self.residuals = nn.ModuleList(parts.residual(config, parts.norm) for _ in range(3))

    def forward(
        self, x: Tensor, mask: Tensor, memory: KeysValues, memory_mask: Tensor, extend: Extend
    ) -> Tensor:
        attend = self.self_attention
        x = self.residuals[0](x, lambda x: attend(x, extend(attend.keys_values(x)), mask))
        x = self.residuals[1](x, lambda x: self._look_back(x, memory, memory_mask))
        return self.residuals[2](x, self.feed_forward)

    def _look_back(self, x: Tensor, memory: KeysValues, mask: Tensor) -> Tensor:
        # The hypotheses of one source are so many more queries to its one row of memory.
        shared = x.unflatten(0, (mask.size(0), -1)).flatten(1, 2)  # [sources, k * new, d_model]
        return self.cross_attention(shared, memory, mask).view_as(x)


class Past:
    """Keys and values of the target positions that each decoder layer has already seen."""

    def __init__(self, num_layers: int) -> None:
        self.layers: list[KeysValues | None] = [None] * num_layers

    @property
    def length(self) -> int:
        return 0 if self.layers[0] is None else self.layers[0][0].size(2)

    def extend(self, layer: int, new: KeysValues) -> KeysValues:
        """The keys and values of a layer, with those of new positions."""
        if (old := self.layers[layer]) is not None:
            new = torch.cat([old[0], new[0]], dim=2), torch.cat([old[1], new[1]], dim=2)
        self.layers[layer] = new
        return new

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self.layers = [seen and (seen[0][rows], seen[1][rows]) for seen in self.layers]


@dataclass(frozen=True)
class Memory:
    """The encoded sources, as keys and values for each decoder layer's cross-attention."""

    keys_values: list[KeysValues]
    mask: Tensor  # bool [batch, 1, 1, source]

    def select(self, rows: Int[Tensor, " kept"]) -> "Memory":
        return Memory(
            [(key[rows], value[rows]) for key, value in self.keys_values], self.mask[rows]
        )


class Transformer(nn.Module):
    """The encoder-decoder of Figure 1."""

    embedding: Any  # a SharedEmbedding, or what Parts puts in its place
    positions: Any  # a PositionTable
    encoder: list[EncoderLayer]
    decoder: list[DecoderLayer]

    def __init__(self, config: TransformerConfig, parts: Parts | None = None) -> None:
        super().__init__()
        parts = parts or Parts()
        self.config = config
        self.embedding = parts.embedding(config)
        self.positions = parts.positions(config)
        self.dropout = nn.Dropout(config.dropout)
        depth = config.num_encoder_layers, config.num_decoder_layers
        self.encoder = nn.ModuleList(EncoderLayer(config, parts) for _ in range(depth[0]))  # pyright: ignore
        self.decoder = nn.ModuleList(DecoderLayer(config, parts) for _ in range(depth[1]))  # pyright: ignore
        self.encoder_norm = parts.residual.final_norm(config, parts.norm)
        self.decoder_norm = parts.residual.final_norm(config, parts.norm)
        self.output = parts.output(config)
        self.apply(self._initialise)

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token that follows each target position, given all tokens up to it."""
        memory = self.encode(source)
        return self.decode(target, memory, self.start(memory))

    def encode(
        self, source: Int[Tensor, "batch source"], tree: Int[Tensor, "batch source"] | None = None
    ) -> Memory:
        """The memory of the sources; `tree` is for positions that look at one."""
        mask = (source != self.config.pad_id)[:, None, None, :]
        x = self.dropout(self.embedding.source(source) + self.positions.source(source, tree))
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        return Memory([layer.cross_attention.keys_values(x) for layer in self.decoder], mask)

    def start(self, memory: Memory) -> Past:
        return Past(len(memory.keys_values))

    def decode(
        self, target: Int[Tensor, "rows new"], memory: Memory, past: Past
    ) -> Float[Tensor, "rows new vocab"]:
        """Logits for `target`, the positions that follow those already held in `past`."""
        return self.output(self.features(target, memory, past), self.embedding.output_weight)

    @property
    def output_weights(
        self,
    ) -> tuple[Float[Tensor, "vocab d_model"], Float[Tensor, " vocab"] | None]:
        """The matrix and the bias that make logits of features."""
        return self.embedding.output_weight, self.output.bias

    def features(
        self, target: Int[Tensor, "rows new"], memory: Memory, past: Past
    ) -> Float[Tensor, "rows new d_model"]:
        """What `decode` makes its logits from."""
        seen, new = past.length, target.size(1)
        causal = target.new_ones(new, seen + new, dtype=torch.bool).tril(diagonal=seen)[None, None]
        x = self.dropout(self.embedding.target(target) + self.positions.target(target, start=seen))
        for i, (layer, keys_values) in enumerate(
            zip(self.decoder, memory.keys_values, strict=True)
        ):
            x = layer(x, causal, keys_values, memory.mask, partial(past.extend, i))
        return self.decoder_norm(x)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        # The paper does not say; its code (tensor2tensor) draws so: products keep their variance.
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
