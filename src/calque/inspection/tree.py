"""The search for a translation as a tree, traced from outside of the search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import NORMALISATIONS, Hypothesis
from calque.models.interface import Memory, Seq2Seq


@dataclass(frozen=True)
class Node:
    """A prefix that the search went on with."""

    piece: str
    """Its last token; of the first node, which is empty, what the target begins with."""
    parent: int | None
    """The node of all tokens but the last."""
    step: int
    """How many tokens it has."""
    rank: int
    """Among the prefixes of its step, from 0."""
    log_prob: float
    """Of all its tokens, in nats."""
    score: float
    """`log_prob` over the length penalty, as if it ended here."""


@dataclass(frozen=True)
class End:
    """A hypothesis that the search returned."""

    node: int
    """The prefix that was ended."""
    text: str
    log_prob: float
    score: float


@dataclass(frozen=True)
class Tree:
    """What a search tried. Empty for one that does not go token by token."""

    nodes: list[Node]
    ends: list[End]
    """Best first."""

    def winners(self) -> set[int]:
        """The nodes that led to the best hypothesis."""
        found: set[int] = set()
        node = self.ends[0].node if self.ends else None
        while node is not None:
            found.add(node)
            node = self.nodes[node].parent
        return found


@dataclass
class Recorder:
    """A model that writes down what a search asks of it, for one source; see `Seq2Seq`.

    A search tells a model all there is to know: which tokens it goes on with (`decode`), and from
    which prefixes (`Past.select`).
    """

    model: Seq2Seq
    pieces: Callable[[list[int]], list[str]]
    decoding: DecodingConfig
    nodes: list[Node] = field(default_factory=list)
    places: dict[tuple[int, int], int] = field(default_factory=dict)
    """Of each node but the first, by its parent and its last token."""
    rows: list[int] = field(default_factory=list)
    """The node of each row of the latest step."""
    following: Float[Tensor, "rows vocab"] | None = None
    """Log-probabilities of what may follow them."""

    def __getattr__(self, name: str) -> Any:
        """Whatever else the search of a family asks of its models."""
        return getattr(self.model, name)

    @property
    def config(self) -> Any:
        return self.model.config

    def encode(self, source: Int[Tensor, "batch source"], *tree: Tensor) -> Memory:
        return self.model.encode(source, *tree)

    def start(self, memory: Any) -> "RecordedPast":
        return RecordedPast(self.model.start(memory))

    def decode(
        self, target: Int[Tensor, "rows new"], memory: Any, past: "RecordedPast"
    ) -> Float[Tensor, "rows new vocab"]:
        logits = self.model.decode(target, memory, past.past)
        if self.following is None:
            self.nodes.append(Node(self.pieces(target[0].tolist())[0], None, 0, 0, 0.0, 0.0))
            self.rows = [0]
        else:
            self._append(target[:, -1], past.selected or list(range(len(self.rows))))
        # A copy, as a fast path may use the memory of its logits again.
        self.following = logits[:, -1].float().log_softmax(dim=-1)
        past.selected = None
        return logits

    def tree(self, hypotheses: Sequence[Hypothesis], texts: Sequence[str]) -> Tree:
        """The prefixes that were tried, and where among them the hypotheses ended."""
        ends = []
        for hypothesis, text in zip(hypotheses, texts, strict=True) if self.nodes else ():
            place: int | None = 0
            for token in hypothesis.tokens:
                place = place if place is None else self.places.get((place, token))
            if place is not None:
                ends.append(End(place, text, hypothesis.log_prob, hypothesis.score))
        return Tree(self.nodes, ends)

    def _append(self, tokens: Int[Tensor, " rows"], selected: list[int]) -> None:
        """A node for each token, which follows the node of the row that was selected for it."""
        assert self.following is not None
        log_probs = self.following[selected, tokens].tolist()
        parents = [self.rows[row] for row in selected]
        step = self.nodes[parents[0]].step + 1
        penalise = NORMALISATIONS[self.decoding.length_normalisation]
        (penalty,) = penalise(torch.tensor([step]), self.decoding.length_penalty).tolist()
        ids = tokens.tolist()
        self.rows = list(range(len(self.nodes), len(self.nodes) + len(ids)))
        self.places |= dict(zip(zip(parents, ids, strict=True), self.rows, strict=True))
        each = zip(self.pieces(ids), parents, log_probs, strict=True)
        for rank, (piece, parent, log_prob) in enumerate(each):
            total = self.nodes[parent].log_prob + log_prob
            self.nodes.append(Node(piece, parent, step, rank, total, total / penalty))


@dataclass
class RecordedPast:
    """A past that remembers which of its rows were kept last; see `Past`."""

    past: Any
    selected: list[int] | None = None

    def select(self, rows: Int[Tensor, " kept"]) -> None:
        self.past.select(rows)
        self.selected = rows.tolist()
