"""The fast path of decoding on a CPU, in float32: a search, or all layers of a step, in one call of
a kernel.

Same weights and same results as `Transformer`. As in `FastTransformer`, hypotheses of one source
share one cache, to which a step only appends; memory is never moved.
"""

from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from calque.kernels.layers import Panels, Words, lanes, whole
from calque.kernels.library import library
from calque.models import kernel_layers
from calque.models.interface import Found, Searching
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
        self.descent = self.descent.flatten(0, 1)[rows].unflatten(0, (len(kept), -1))
        self.kept = self.kept[kept]

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


class KernelTransformer(Searching):
    """A Transformer for search alone, on a CPU; see `Seq2Seq` and `Searching`.

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
        # Of targets, for all steps so far: they depend on the step alone.
        self.positions = self.embeddings.new_empty(0, model.config.d_model)
        self.turns: dict[str, Any] = {}

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

    def search(
        self,
        source: Int[Tensor, "batch source"],
        limits: Int[Tensor, " batch"],
        penalties: Float[Tensor, " longest_and_eos"],
        size: int,
        *,
        greedy: bool,
    ) -> Found:
        memory, ids, longest = self.encode(source), self.config, int(limits.max())
        self._have_steps(longest + 1)
        shape = len(source), size, longest + 1
        found = Found(limits.new_zeros(shape), torch.zeros(shape), torch.empty(shape[:2]))
        candidates = 1 if greedy else 2 * size  # one of each row may be EOS
        words = self._words(size=candidates, pad=ids.pad_id, bos=ids.bos_id, eos=ids.eos_id)
        self.decoder.search(
            self._of_memory(memory) | self.turns | {"angles": 0, "words": words},
            len(source),
            embeddings=self.embeddings,
            positions=self.positions,
            limits=limits,
            penalties=penalties,
            tokens=found.tokens,
            log_probs=found.log_probs,
            scores=found.scores,
            beam=size,
            longest=longest,
            greedy=greedy,
            depth=len(self.model.decoder),
        )
        return found

    def decode(
        self, target: Int[Tensor, "rows 1"], memory: KernelMemory, past: KernelPast
    ) -> Float[Tensor, "rows 1 vocab"]:
        step, last = past.steps, target[:, 0]
        past.begin_step()
        self._have_steps(step + 1)
        logits = torch.empty(len(target), self.words.made)
        turns = {name: of_steps[step] for name, of_steps in self.turns.items()}
        self.decoder.run(
            self.embeddings[last] + self.positions[step],
            torch.arange(0, len(last) + 1, past.descent.size(1)),
            past=past.numbers,
            past_at=past.places,
            descent=past.descent,
            room=past.descent.size(2),
            words=self._words(logits=logits),
            **(self._of_memory(memory) | turns | {"angles": 0}),
        )
        return logits[:, None, : self.config.target_vocab_size]

    def _words(self, **wanted: Any) -> Words:
        words = self.words
        sizes = {"vocab": self.config.target_vocab_size, "made": words.made}
        return Words(weight=words.weight, bias=words.bias, **sizes, **wanted)

    def _of_memory(self, memory: KernelMemory) -> dict[str, Any]:
        return {"memory": memory.numbers, "memory_at": memory.places, "keys": memory.lengths}

    def _have_steps(self, number: int) -> None:
        """Have positions, and turns, for so many steps."""
        known = len(self.positions)
        if number <= known:
            return
        turns = self._turns(self.model.decoder[0], torch.arange(number), number)
        self.turns = {name: turns[name] for name in ("cosine", "sine") if turns}
        bos, target = torch.tensor([[self.config.bos_id]]), self.model.positions.target
        new = [target(bos, start=step)[0] for step in range(known, number)]
        self.positions = torch.cat([self.positions, *new]).detach()

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
