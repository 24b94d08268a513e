"""What search and training may ask of a model, whatever its family. No code of its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class ModelConfig(Protocol):
    """The ids with a meaning; each family adds its sizes."""

    @property
    def pad_id(self) -> int: ...
    @property
    def bos_id(self) -> int: ...
    @property
    def eos_id(self) -> int: ...
    @property
    def target_vocab_size(self) -> int: ...


@runtime_checkable
class Memory(Protocol):
    """What a decoder looks at: the encoded sources, one row each."""

    def select(self, rows: Int[Tensor, " kept"]) -> "Memory":
        """The given rows, in the given order."""
        ...


@runtime_checkable
class Past(Protocol):
    """What a decoder remembers of the targets so far, one row each; `decode` extends it."""

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        """Keep the given rows, in the given order; a row may be given several times."""
        ...


@runtime_checkable
class Seq2Seq(Protocol):
    """An encoder-decoder model.

    A memory of n sources serves targets of n*k rows: rows i*k to i*k+k-1 belong to source i, so a
    beam of k hypotheses shares one row of memory. Each family has a Memory and a Past of its own.
    """

    @property
    def config(self) -> ModelConfig: ...

    def encode(self, source: Int[Tensor, "batch source"]) -> Memory: ...

    def start(self, memory: Any) -> Past:
        """The past of an empty target, one row for each row of memory."""
        ...

    def decode(
        self, target: Int[Tensor, "rows new"], memory: Any, past: Any
    ) -> Float[Tensor, "rows new vocab"]:
        """Logits of what follows each of the `new` tokens, which themselves follow the past.

        A search may write over them.
        """
        ...


@dataclass(frozen=True)
class Continuations:
    """Prefixes of each sentence that are one token longer, best first."""

    scores: Float[Tensor, "sentences size"]
    """Log-probability of the whole; -inf where there is none."""
    parents: Int[Tensor, "sentences size"]
    """Which of the sentence's prefixes each continues."""
    tokens: Int[Tensor, "sentences size"]
    log_probs: Float[Tensor, "sentences size"]
    """Of the tokens."""


@dataclass(frozen=True)
class Found:
    """The targets of each source, best first."""

    tokens: Int[Tensor, "sources size length"]
    """Up to EOS; what stands behind it means nothing."""
    log_probs: Float[Tensor, "sources size length"]
    """Of the tokens."""
    scores: Float[Tensor, "sources size"]
    """Log-probability of the whole over the penalty of its length; -inf where there is none."""


class Searching(ABC):
    """A model that does a search itself, to the end."""

    @abstractmethod
    def search(
        self,
        source: Int[Tensor, "batch source"],
        limits: Int[Tensor, " batch"],
        penalties: Float[Tensor, " longest_and_eos"],
        size: int,
        *,
        greedy: bool,
    ) -> Found:
        """What `beam_search` finds with a beam of `size`, or `greedy_search`, where it is 1."""
