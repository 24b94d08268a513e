"""The fast path of decoding on a CPU, in float32: all layers of a step in one call of a kernel.

Same weights and same results as `Transformer`. As in `FastTransformer`, hypotheses of one source
share one cache, to which a step only appends; memory is never moved.
"""

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from calque.kernels.layers import Panels, Words, lanes, whole
from calque.kernels.library import library
from calque.models import kernel_layers
from calque.models.interface import Continuations, Continuing
from calque.models.parts.positioned_attention import RotaryAttention
from calque.models.transformer import Transformer, TransformerConfig

GROWTH = 8
"""Steps that caches have room for, at first and then again and again."""


@dataclass(frozen=True)
class KernelMemory:
    """The encoded sources, as keys and values for each decoder layer's cross-attention."""

    numbers: Float[Tensor, " all"]
    places: Int[Tensor, " batch"]
    """Where among them those of a source begin."""
    lengths: Int[Tensor, " batch"]

    def select(self, rows: Int[Tensor, " kept"]) -> "KernelMemory":
        """The given rows, in the given order."""
        return KernelMemory(self.numbers, self.places[rows], self.lengths[rows])


class KernelPast:
    """Keys and values of tokens that were tried, the entries, and the descent of each hypothesis.

    An entry without descendants makes room for another.
    """

    def __init__(self, sources: int, layers: int, inner: int) -> None:
        self.steps = 0
        # To add to scores: 0 for an entry that a hypothesis descends from, else -inf.
        self.descent = torch.empty(sources, 1, 0)
        # Keys and values of each source and layer, where an entry has `inner` numbers.
        self.numbers = torch.empty(sources, layers, 2, 0)
        self.inner = inner
        self.kept = torch.arange(sources)
        # No source has more entries.
        self._most = 0

    @property
    def places(self) -> Int[Tensor, " sources"]:
        """Where the numbers of a source begin."""
        return self.kept * self.numbers.stride(0)

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with the given hypotheses, at least one: as many for each source that is kept.

        The sources stay in their order.
        """
        width = self.descent.size(1)
        kept = (rows // width).unique_consecutive()
        # Several times as fast as indexing, where there are few.
        descent = self.descent.flatten(0, 1).index_select(0, rows)
        self.descent = descent.unflatten(0, (len(kept), -1))
        self.kept = self.kept.index_select(0, kept)

    def begin_step(self) -> None:
        """Have room for the hypotheses, which become entries."""
        _, width, room = self.descent.shape
        if self._most + width > room:
            entries = (self.descent == 0).any(dim=1).sum(dim=1)
            self._most = int(entries.max())
        if self._most + width > room:
            self._grow(whole(self._most + GROWTH * width, lanes()))
        self._most += width
        self.steps += 1

    def _grow(self, room: int) -> None:
        old, old_room = self.numbers[self.kept], self.descent.size(2)
        self.numbers = pad(old, (0, (room - old_room) * self.inner))
        self.descent = pad(self.descent, (0, room - old_room), value=-torch.inf)
        self.kept = torch.arange(len(old))


class KernelTransformer(Continuing):
    """A Transformer for search alone, on a CPU; see `Seq2Seq` and `Continuing`.

    Takes one token of each hypothesis at a time. What it computes for a source does not depend on
    the others, to the last bit. In a source that is padding alone, it finds zeros.
    """

    def __init__(self, model: Transformer) -> None:
        self.model = model
        self.encoder = kernel_layers.encoder_stack(model)
        self.decoder = kernel_layers.decoder_stack(model)
        self.words = Panels(*model.output_weights)
        every = torch.arange(model.config.target_vocab_size)
        self.embeddings = model.embedding.target(every[None])[0].detach()
        # Of targets: they depend on the step alone.
        self.positions: dict[int, Float[Tensor, " d_model"]] = {}
        self.turns: dict[int, dict[str, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.model,)  # the addresses of another process are its own

    @staticmethod
    def can_take(model: nn.Module) -> TypeGuard[Transformer]:
        """Whether there are kernels, and all of a Transformer is what they know, in float32."""
        if not isinstance(model, Transformer) or library() is None:
            return False
        known = {(p.device.type, p.dtype) for p in model.parameters()} == {("cpu", torch.float32)}
        return known and kernel_layers.can_take(model)

    @property
    def config(self) -> TransformerConfig:
        return self.model.config

    def encode(
        self, source: Int[Tensor, "batch source"], tree: Int[Tensor, "batch source"] | None = None
    ) -> KernelMemory:
        model, stack = self.model, self.encoder
        present = source != model.config.pad_id
        places = present.flatten().nonzero().squeeze(1)
        positions = model.positions.source(source, tree).expand(*source.shape, -1)
        tokens = model.embedding.source(source.flatten()[places][None])[0]
        lengths = present.sum(dim=1)
        rooms = (lengths + lanes() - 1) // lanes() * lanes()
        ends = rooms.cumsum(dim=0) * (2 * stack.inner * len(model.decoder))
        starts = pad(ends[:-1], (1, 0))
        memory = KernelMemory(tokens.new_zeros(int(ends[-1])), starts, lengths)
        turns = self._turns(model.encoder[0], places % source.size(1), source.size(1))
        stack.run(
            tokens + positions.flatten(0, 1)[places],
            pad(lengths.cumsum(dim=0), (1, 0)),
            memory=memory.numbers,
            memory_at=memory.places,
            keys=memory.lengths,
            **turns,
        )
        return memory

    def start(self, memory: KernelMemory) -> KernelPast:
        return KernelPast(len(memory.places), len(self.model.decoder), self.decoder.inner)

    def decode(
        self, target: Int[Tensor, "rows 1"], memory: KernelMemory, past: KernelPast
    ) -> Float[Tensor, "rows 1 vocab"]:
        logits = torch.empty(len(target), self.words.made)
        self._step(target[:, 0], memory, past, logits=logits)
        return logits[:, None, : self.config.target_vocab_size]

    def continuations(
        self,
        last: Int[Tensor, " rows"],
        memory: KernelMemory,
        past: KernelPast,
        scores: Float[Tensor, "sentences width"],
        must_end: Bool[Tensor, " sentences"],
        size: int,
    ) -> Continuations:
        (sentences, width), ids = scores.shape, self.config
        size = min(size, width * ids.target_vocab_size)
        totals, log_probs = (torch.empty(sentences, size) for _ in range(2))
        parents, tokens = (last.new_empty(sentences, size) for _ in range(2))
        found = Continuations(totals, parents, tokens, log_probs)
        self._step(
            last,
            memory,
            past,
            scores=scores.contiguous(),
            must_end=must_end.long(),
            totals=totals,
            log_probs=log_probs,
            parents=parents,
            tokens=tokens,
            size=size,
            pad=ids.pad_id,
            bos=ids.bos_id,
            eos=ids.eos_id,
        )
        return found

    def _step(
        self, last: Int[Tensor, " rows"], memory: KernelMemory, past: KernelPast, **wanted: Any
    ) -> None:
        model, words, position = self.model, self.words, past.steps
        past.begin_step()
        if position not in self.positions:
            self.positions[position] = model.positions.target(last[:1, None], start=position)[0, 0]
            of_decoder = model.decoder[0], torch.tensor([position]), position + 1
            self.turns[position] = self._turns(*of_decoder)
        sizes = {"vocab": model.config.target_vocab_size, "made": words.made}
        self.decoder.run(
            self.embeddings.index_select(0, last) + self.positions[position],
            torch.arange(0, len(last) + 1, past.descent.size(1)),
            memory=memory.numbers,
            memory_at=memory.places,
            keys=memory.lengths,
            past=past.numbers,
            past_at=past.places,
            descent=past.descent,
            room=past.descent.size(2),
            words=Words(weight=words.weight, bias=words.bias, **sizes, **wanted),
            **(self.turns[position] | {"angles": 0}),
        )

    def _turns(self, layer: Any, places: Int[Tensor, " places"], length: int) -> dict[str, Any]:
        """By what the numbers of queries and keys at some places turn, if they do."""
        rotary, d_head = layer.self_attention.attention, self.decoder.d_head
        if not isinstance(rotary, RotaryAttention):
            return {}
        angle = rotary.angles(length)[places].repeat_interleave(2, dim=1)
        sign = torch.tensor([-1.0, 1.0]).repeat(angle.size(1) // 2)
        spare = 0, d_head - angle.size(1)
        cosine, sine = (pad(x, spare) for x in (angle.cos(), angle.sin() * sign))
        return {"cosine": cosine.contiguous(), "sine": sine.contiguous(), "angles": d_head}
