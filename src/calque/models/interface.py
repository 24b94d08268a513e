"""What search and training may ask of a model, whatever its family. Protocols only."""

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
