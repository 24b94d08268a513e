"""Search for the targets of sources that come with their dependency trees."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from calque.models.interface import Memory, Past


class Parsed:
    """A model for some sources, whose encoder it gives their trees; see `Seq2Seq`."""

    def __init__(self, model: Any, tree: Int[Tensor, "batch source"]) -> None:
        self.model, self.tree = model, tree
        self.config = model.config

    def __call__(
        self, source: Int[Tensor, "batch source"], target: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        memory = self.encode(source)
        return self.decode(target, memory, self.start(memory))

    def encode(self, source: Int[Tensor, "batch source"]) -> Memory:
        return self.model.encode(source, self.tree)

    def start(self, memory: Any) -> Past:
        return self.model.start(memory)

    def decode(
        self, target: Int[Tensor, "rows new"], memory: Any, past: Any
    ) -> Float[Tensor, "rows new vocab"]:
        return self.model.decode(target, memory, past)
