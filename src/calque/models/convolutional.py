"""The convolutional family: Gehring et al. (2017), arXiv:1705.03122.

Stacked word windows with gates: each layer sees a little farther, and all positions of a layer are
computed at once. The decoder looks back at the source in every layer.

Departures from the paper: embedding and layers have one width, so that nothing maps between the
two; words come in with variance 1, not 0.01, and scores are therefore scaled by 1/√d_model; the
encoder's gradient is not divided by the number of attentions (§3.4), as Adam's steps do not depend
on its size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import glu, pad
from torch.nn.utils.parametrizations import weight_norm

from calque.models.parts.positions import LearnedPositions
from calque.models.transformer import Attention, Part, TransformerConfig

HALF = math.sqrt(0.5)  # keeps the variance of a sum of two, §3.4
Extend = Callable[[Tensor], Tensor]  # from new inputs to the window - 1 before them, and them


def interaction_distance(num_layers: int, window: int) -> int:
    """How many tokens to each side an output position of a stack of layers can see.

    A causal stack, as the decoder is, sees none ahead and twice as far back.
    """
    return num_layers * (window // 2)


@dataclass(frozen=True, kw_only=True)
class ConvolutionalSizes:
    """Sizes of a convolutional model; the defaults are for some ten thousands of pairs."""

    num_encoder_layers: int = 4
    num_decoder_layers: int = 3
    d_model: int = 256
    window: int = 3
    """Words that a layer sees at once; odd, as in the encoder they are as many to each side."""
    dropout: float = 0.3

    def __post_init__(self) -> None:
        for name in ("num_encoder_layers", "num_decoder_layers", "d_model", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not at least 1")
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} is even: it has a word in its middle")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")

    @property
    def interaction_distance(self) -> int:
        """Source tokens to each side that a position of the encoder's output can see."""
        return interaction_distance(self.num_encoder_layers, self.window)


@dataclass(frozen=True, kw_only=True)
class ConvolutionalConfig(ConvolutionalSizes):
    """Sizes, vocabularies, and the ids with a meaning."""

    source_vocab_size: int
    target_vocab_size: int
    pad_id: int = 0
    bos_id: int = 2
    eos_id: int = 3


class GatedWindows(nn.Module):
    """A ⊗ σ(B), where [A; B] is a convolution of the input, dropped out: §3.2."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.convolution = nn.Conv1d(config.d_model, 2 * config.d_model, config.window)

    def forward(
        self, x: Float[Tensor, "batch padded d_model"]
    ) -> Float[Tensor, "batch length d_model"]:
        """As many positions as there are whole windows."""
        windows = self.convolution(self.dropout(x).transpose(1, 2))
        return glu(windows, dim=1).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Windows with as many words to each side, and the input added: §3.2."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__()
        self.windows = GatedWindows(config)
        self.side = config.window // 2

    def forward(
        self, x: Float[Tensor, "batch source d_model"], padding: Tensor
    ) -> Float[Tensor, "batch source d_model"]:
        """`padding`, bool [batch, source, 1], is seen as the zeros beyond either end."""
        inputs = pad(x.masked_fill(padding, 0), (0, 0, self.side, self.side))
        return (self.windows(inputs) + x) * HALF


@dataclass(frozen=True)
class Memory:
    """The encoded sources: keys, and values in which the words are added to them (§3.3)."""

    keys: Tensor  # [batch, 1, source, d_model]
    values: Tensor  # [batch, 1, source, d_model]
    mask: Tensor  # bool [batch, 1, 1, source]

    def select(self, rows: Int[Tensor, " kept"]) -> "Memory":
        return Memory(self.keys[rows], self.values[rows], self.mask[rows])


class DecoderLayer(nn.Module):
    """Windows that end with the word itself, what they make the layer look at, and the input."""

    def __init__(self, config: ConvolutionalConfig, one_head: TransformerConfig) -> None:
        super().__init__()
        self.windows = GatedWindows(config)
        self.query = nn.Linear(config.d_model, config.d_model)
        self.attention = Attention(one_head)

    def forward(self, x: Tensor, words: Tensor, memory: Memory, extend: Extend) -> Tensor:
        seen = self.windows(extend(x))
        context = self._look_back((self.query(seen) + words) * HALF, memory)  # eq. 1 and 2
        return ((seen + context) * HALF + x) * HALF

    def _look_back(self, queries: Tensor, memory: Memory) -> Tensor:
        # The hypotheses of one source are so many more queries to its one row of memory.
        shared = queries.unflatten(0, (memory.mask.size(0), -1)).flatten(1, 2)[:, None]
        context = self.attention(shared, memory.keys, memory.values, memory.mask)
        return context.reshape(queries.shape)


class Past:
    """The last window - 1 inputs of each decoder layer: all that windows to come can see."""

    def __init__(self, layers: list[Tensor]) -> None:
        self.layers = layers  # each [rows, window - 1, d_model]; zeros before the first
        self.length = 0

    def extend(self, layer: int, new: Tensor) -> Tensor:
        """The inputs of a layer at new positions, after those that their windows reach back to."""
        inputs = torch.cat([self.layers[layer], new], dim=1)
        self.layers[layer] = inputs[:, new.size(1) :]
        return inputs

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self.layers = [inputs[rows] for inputs in self.layers]


class Convolutional(nn.Module):
    """The encoder-decoder of Figure 1; its positions are learned, and have an end.

    Raises CalqueError, in whatever takes ids, for a text that is longer than LearnedPositions.
    """

    embedding: Any  # a SharedEmbedding or SeparateEmbeddings
    encoder: list[EncoderLayer]
    decoder: list[DecoderLayer]

    def __init__(self, config: ConvolutionalConfig, embedding: Part) -> None:
        super().__init__()
        one_head = TransformerConfig(
            num_heads=1,
            d_model=config.d_model,
            source_vocab_size=config.source_vocab_size,
            target_vocab_size=config.target_vocab_size,
        )
        depth = config.num_encoder_layers, config.num_decoder_layers
        self.config = config
        self.embedding = embedding(one_head)
        self.source_positions = LearnedPositions(one_head)
        self.target_positions = LearnedPositions(one_head)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(depth[0]))  # pyright: ignore
        self.decoder = nn.ModuleList(DecoderLayer(config, one_head) for _ in range(depth[1]))  # pyright: ignore
        self.apply(self._initialise)

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token that follows each target position, given all tokens up to it."""
        memory = self.encode(source)
        return self.decode(target, memory, self.start(memory))

    def encode(self, source: Int[Tensor, "batch source"], _tree: Tensor | None = None) -> Memory:
        mask = source != self.config.pad_id
        words = self.embedding.source(source) + self.source_positions(source.size(1))
        x = words = self.dropout(words)
        for layer in self.encoder:
            x = layer(x, ~mask[..., None])
        # A mean of m vectors has 1/m of their variance: m √(1/m) gives it back (§3.4).
        spread = mask.sum(dim=1)[:, None, None].sqrt()
        values = (x + words) * (HALF * spread)
        return Memory(x[:, None], values[:, None], mask[:, None, None])

    def start(self, memory: Memory) -> Past:
        rows, _, _, d_model = memory.keys.shape
        before = memory.keys.new_zeros(rows, self.config.window - 1, d_model)
        return Past([before] * self.config.num_decoder_layers)

    def decode(
        self, target: Int[Tensor, "rows new"], memory: Memory, past: Past
    ) -> Float[Tensor, "rows new vocab"]:
        """Logits for `target`, the positions that follow those already held in `past`."""
        features = self.features(target, memory, past)
        return nn.functional.linear(features, *self.output_weights)

    @property
    def output_weights(self) -> tuple[Float[Tensor, "vocab d_model"], None]:
        """The matrix that makes logits of features; there is no bias."""
        return self.embedding.output_weight, None

    def features(
        self, target: Int[Tensor, "rows new"], memory: Memory, past: Past
    ) -> Float[Tensor, "rows new d_model"]:
        """What `decode` makes its logits from."""
        new = target.size(1)
        words = self.embedding.target(target) + self.target_positions(new, start=past.length)
        x = words = self.dropout(words)
        for i, layer in enumerate(self.decoder):
            x = layer(x, words, memory, partial(past.extend, i))
        past.length += new
        return self.dropout(x)

    def _initialise(self, module: nn.Module) -> None:
        """Weights that keep variance as it is, and weight normalisation: §3.5, §4.2."""
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if isinstance(module, nn.Conv1d):
            # Gates let a third of the variance through (a quarter, where it is small, as in the
            # paper); dropout has raised that of what comes in.
            kept = 1 - self.config.dropout
            inputs = module.in_channels * self.config.window
            nn.init.normal_(module.weight, std=math.sqrt(3 * kept / inputs))
        if isinstance(module, nn.Linear | nn.Conv1d):
            assert module.bias is not None
            nn.init.zeros_(module.bias)
            weight_norm(module)
