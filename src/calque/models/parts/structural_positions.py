"""Positions in a dependency tree: Wang et al. (2019), arXiv:1909.00383.

A `tree` says of each token that begins a word where the word's head begins (its own place, if it
is the root), and -1 of every other token: it belongs to the word before it. The end of the sentence
is a word of its own, its own head, and the last. Only sources have trees; targets keep sinusoids.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from calque.config import CalqueError
from calque.models.parts.relative_attention import RelativeAttention
from calque.models.transformer import SinusoidalPositions, TransformerConfig

Tree = Int[Tensor, "batch length"]


def ancestors(tree: Tree) -> tuple[Bool[Tensor, "batch length length"], Tree]:
    """Whether the word of each token is, or hangs below, the word that begins at each place.

    Beside it, the place where the word of each token begins. The way up is walked in leaps of 1, 2,
    4 ... words, so that a batch takes as many steps as the logarithm of its length.
    """
    place = torch.arange(tree.size(1), device=tree.device).expand_as(tree)
    word = torch.where(tree >= 0, place, 0).cummax(dim=1).values
    above = tree.clamp(min=0).gather(1, word)
    reached = (word[..., None] == place[:, None]) | (above[..., None] == place[:, None])
    for _ in range(tree.size(1).bit_length()):
        reached = reached | reached.gather(1, above[..., None].expand_as(reached))
        above = above.gather(1, above)
    return reached, word


def depths(reached: Bool[Tensor, "batch length length"], word: Tree) -> Tree:
    """Absolute structural positions (§3.1): how many words lie between each and its root, plus one.

    A root's is 0; tokens of one word share theirs. That of the end of the sentence is the first
    integer above all others.
    """
    depth = reached.sum(dim=2) - 1
    end = word == word[:, -1:]
    return torch.where(end, depth.amax(dim=1, keepdim=True) + 1, depth)


def relations(tree: Tree) -> Int[Tensor, "batch length length"]:
    """Relative structural positions (§3.1) of each token (query) to each other (key).

    On one way down from the root, the difference of their depths; else the sum of their depths,
    negative where the query comes first. The paper writes "edge" for what is read here as way: its
    difference would otherwise always be 1.
    """
    reached, word = ancestors(tree)
    depth = depths(reached, word)
    below = reached.gather(2, word[:, None].expand_as(reached))
    query, key = depth[:, :, None], depth[:, None, :]
    order = (word[:, :, None] - word[:, None, :]).sign()
    return torch.where(below | below.mT, query - key, order * (query + key))


class StructuralPositions(SinusoidalPositions):
    """tanh(W s + V t), of the sinusoids s of the place in the sequence and t of the depth: §3.2."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.sequence = nn.Linear(config.d_model, config.d_model, bias=False)
        self.structure = nn.Linear(config.d_model, config.d_model, bias=False)

    def source(self, ids: Int[Tensor, "batch length"], tree: Tree | None = None) -> Tensor:
        """See `PositionTable`. Raises CalqueError without a tree."""
        table = self(ids.size(1) + 1)
        depth = depths(*ancestors(_given(tree)))
        return torch.tanh(self.sequence(table[:-1]) + self.structure(table)[depth])


class Told:
    """What positions tell the attention of the same pass."""

    relations: Int[Tensor, "batch length length"] | None = None


class StructuralRelativePositions(SinusoidalPositions):
    """The paper's sinusoids; beside them, how words lie to each other in the tree (§3.2).

    `StructuralAttention` is told, through an object that both of them hold (see `introduce`): so a
    model serves one thread at a time.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.told = Told()

    def source(self, ids: Int[Tensor, "batch length"], tree: Tree | None = None) -> Tensor:
        """See `PositionTable`. Raises CalqueError without a tree."""
        self.told.relations = relations(_given(tree))
        return super().source(ids)


class StructuralAttention(RelativeAttention):
    """Relative attention whose distances are relative structural positions."""

    told: Told

    def offsets(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: ARG002
        """See `RelativeAttention`."""
        assert self.told.relations is not None
        return self.told.relations[:, None]


def introduce(positions: nn.Module, model: nn.Module) -> None:
    """Have every StructuralAttention of a model listen to its positions."""
    for module in model.modules():
        if isinstance(module, StructuralAttention):
            assert isinstance(positions, StructuralRelativePositions)
            module.told = positions.told


def needs_trees(model: nn.Module) -> bool:
    """Whether the sources of a model must come with their trees."""
    kinds = StructuralPositions, StructuralRelativePositions
    return any(isinstance(module, kinds) for module in model.children())


def _given(tree: Tree | None) -> Tree:
    if tree is None:
        raise CalqueError(
            "this model has structural positions: it needs the dependency tree of each source "
            "(see docs/data.md)"
        )
    return tree
