"""The recurrent family: an RNN reads the source, another writes the target.

Without attention, the encoder's last states are all that the decoder gets: Sutskever et al.
(2014), arXiv:1409.3215. With it, the decoder looks back at every source position.

Attention comes after the decoder's cells, not before them: global attention of Luong et al. (2015),
arXiv:1508.04025, §3.1, without input feeding. What a state attends to is then no input of the next
state, so that training runs over all target positions in one call of the RNN and attends for all
of them at once, whatever the score. In Bahdanau et al. (2015), arXiv:1409.0473, from whom the
bidirectional encoder is, each step would wait for the attention of the one before.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from calque.config import choose
from calque.models.parts.recurrent_scores import RECURRENT_SCORES, Score
from calque.models.transformer import Attention, Part, Transformer, TransformerConfig

States = tuple[Tensor, ...]  # each [layers, rows, d_model]: of a GRU one, of an LSTM two


class GRU(nn.GRU):
    """Gated recurrent units: Cho et al. (2014), arXiv:1406.1078, §2.3.

    But as cuDNN has them: the reset gate scales U h, not h itself.
    """

    num_states = 1

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor | PackedSequence, states: States = ()
    ) -> tuple[Any, States]:
        """Outputs at all positions, and the last states; without `states`, from zeros."""
        outputs, last = super().forward(x, *states)
        return outputs, (last,)


class LSTM(nn.LSTM):
    """Long short-term memory: Hochreiter and Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735.

    With the forget gate of Gers et al. (2000), doi:10.1162/089976600300015015.
    """

    num_states = 2

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor | PackedSequence, states: States = ()
    ) -> tuple[Any, States]:
        """See `GRU`."""
        return super().forward(x, states or None)  # pyright: ignore[reportArgumentType, reportCallIssue]


CELLS = {"gru": GRU, "lstm": LSTM}


@dataclass(frozen=True, kw_only=True)
class RecurrentSizes:
    """Sizes of a recurrent model; the defaults are for some ten thousands of pairs."""

    cell: str = "gru"
    """A name in CELLS."""
    attention: str = "general"
    """A name in ATTENTIONS: none, or a score."""
    num_encoder_layers: int = 1
    num_decoder_layers: int = 1
    d_model: int = 256
    """Width of embedding and decoder states; each direction of the encoder has half."""
    dropout: float = 0.3

    def __post_init__(self) -> None:
        choose("cell", self.cell, CELLS)
        choose("attention", self.attention, ATTENTIONS)
        for name in ("num_encoder_layers", "num_decoder_layers", "d_model"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not at least 1")
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} is odd: the encoder halves it")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(RecurrentSizes):
    """Sizes, vocabularies, and the ids with a meaning."""

    source_vocab_size: int
    target_vocab_size: int
    pad_id: int = 0
    bos_id: int = 2
    eos_id: int = 3


@dataclass(frozen=True)
class Memory:
    """The encoded sources: the states that a decoder begins with, and what it may look back at."""

    states: States
    keys: Tensor  # [batch, 1, source, d_model]
    values: Tensor  # [batch, 1, source, d_model]
    mask: Tensor  # bool [batch, 1, 1, source]

    def select(self, rows: Int[Tensor, " kept"]) -> "Memory":
        states = tuple(state.index_select(1, rows) for state in self.states)
        return Memory(states, self.keys[rows], self.values[rows], self.mask[rows])


class Past:
    """The decoder's states after the target so far."""

    def __init__(self, states: States) -> None:
        self.states = states

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self.states = tuple(state.index_select(1, rows) for state in self.states)


class NoAttention(nn.Module):
    """The decoder's states go to the output as they are: arXiv:1409.3215, §2."""

    def __init__(self, _: TransformerConfig, /) -> None:
        super().__init__()

    def keys(
        self, states: Float[Tensor, "batch source d_model"]
    ) -> Float[Tensor, "batch source d_model"]:
        """What attention needs to know of each source position."""
        return states

    def forward(
        self, states: Float[Tensor, "rows new d_model"], _: Memory, /
    ) -> Float[Tensor, "rows new d_model"]:
        """What the output is predicted from."""
        return states


class GlobalAttention(nn.Module):
    """tanh(W [c; s]), c the source's states weighted by score: arXiv:1508.04025, §3.1."""

    def __init__(self, config: TransformerConfig, score: type[Score]) -> None:
        super().__init__()
        self.attention = Attention(config, score)
        self.combine = nn.Linear(2 * config.d_model, config.d_model, bias=False)

    def keys(
        self, states: Float[Tensor, "batch source d_model"]
    ) -> Float[Tensor, "batch source d_model"]:
        """See `NoAttention`."""
        return self.attention.score.keys(states)  # pyright: ignore[reportCallIssue]

    def forward(
        self, states: Float[Tensor, "rows new d_model"], memory: Memory, /
    ) -> Float[Tensor, "rows new d_model"]:
        """See `NoAttention`."""
        # The hypotheses of one source are so many more queries to its one row of memory.
        queries = states.unflatten(0, (memory.mask.size(0), -1)).flatten(1, 2)[:, None]
        context = self.attention(queries, memory.keys, memory.values, memory.mask)
        return self.combine(torch.cat([context.reshape(states.shape), states], dim=-1)).tanh()


ATTENTIONS: dict[str, Part] = {
    "none": NoAttention,
    **{name: partial(GlobalAttention, score=score) for name, score in RECURRENT_SCORES.items()},
}


class Recurrent(nn.Module):
    """A bidirectional encoder and a decoder, of GRU or LSTM cells.

    The decoder begins with a linear map of the encoder's last states, all layers and both
    directions, so that the two may differ in depth; their handing over as they are is among what
    it can learn. The output is predicted by the embedding's matrix.
    """

    embedding: Any  # a SharedEmbedding or SeparateEmbeddings

    def __init__(self, config: RecurrentConfig, embedding: Part) -> None:
        super().__init__()
        one_head = TransformerConfig(
            num_heads=1,
            d_model=config.d_model,
            source_vocab_size=config.source_vocab_size,
            target_vocab_size=config.target_vocab_size,
        )
        depths = config.num_encoder_layers, config.num_decoder_layers
        self.config = config
        self.embedding = embedding(one_head)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = _rnn(config, config.d_model // 2, depths[0], bidirectional=True)
        self.decoder = _rnn(config, config.d_model, depths[1])
        widths = (self.decoder.num_states * depth * config.d_model for depth in depths)
        self.bridge = nn.Linear(*widths)
        self.attention = ATTENTIONS[config.attention](one_head)
        self.apply(Transformer._initialise)

    def forward(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the token that follows each target position, given all tokens up to it."""
        memory = self.encode(source)
        return self.decode(target, memory, self.start(memory))

    def encode(self, source: Int[Tensor, "batch source"], _tree: Tensor | None = None) -> Memory:
        mask = source != self.config.pad_id
        words = self.dropout(self.embedding.source(source))
        lengths = mask.sum(dim=1).clamp(min=1).cpu()  # an RNN takes no source of no words
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = self.encoder(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.size(1))
        values = self.dropout(values)
        keys = self.attention.keys(values)  # pyright: ignore[reportCallIssue]
        return Memory(self._hand_over(last), keys[:, None], values[:, None], mask[:, None, None])

    def start(self, memory: Memory) -> Past:
        return Past(memory.states)

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
        words = self.dropout(self.embedding.target(target))
        states, past.states = self.decoder(words, past.states)
        return self.dropout(self.attention(states, memory))

    def _hand_over(self, last: States) -> States:
        """The decoder's first states from the encoder's last."""
        joined = torch.cat(last).transpose(0, 1).flatten(1)  # [batch, states * layers * d_model]
        first = self.bridge(joined).unflatten(1, (-1, self.config.d_model))
        return first.transpose(0, 1).contiguous().chunk(self.decoder.num_states)


def _rnn(config: RecurrentConfig, width: int, num_layers: int, bidirectional: bool = False) -> Any:
    between = config.dropout if num_layers > 1 else 0.0  # PyTorch warns where it has no effect
    return CELLS[config.cell](
        config.d_model,
        width,
        num_layers,
        batch_first=True,
        dropout=between,
        bidirectional=bidirectional,
    )
