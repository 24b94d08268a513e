"""Load a run folder, map lines to lines: the library's front door."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from calque.checkpoint import RunFolder
from calque.config import choose, parse
from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import Hypothesis
from calque.decoding.parsed import Parsed
from calque.models.build import Model, attention_for
from calque.models.fast_decoding import FastTransformer
from calque.models.kernel_decoding import KernelTransformer
from calque.models.parts.structural_positions import needs_trees
from calque.models.precision import has_tiles, products, uses_bf16
from calque.text.batching import pad_trees
from calque.text.parsers import Parser
from calque.text.tokenizers.pair import Tokenizers
from calque.text.trees import token_trees

if TYPE_CHECKING:
    import calque.inspection

FIRST_WINDOW, LARGEST_WINDOW = 64, 4096  # lines
BATCH_TOKENS = 4096  # source tokens of a batch, padding counted


@dataclass(frozen=True)
class Translation:
    """One translation of one line."""

    text: str
    score: float
    """Log-probability over the length penalty, in nats; the higher the better."""
    hypothesis: Hypothesis
    """The tokens behind the text."""


EMPTY = Translation("", 0.0, Hypothesis((), 0.0, 0.0, ()))


class Translator:
    """A model, its tokenizers and a way of decoding; translates lines of text."""

    def __init__(
        self,
        model: Model,
        tokenizers: Tokenizers,
        decoding: DecodingConfig,
        parser: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizers = tokenizers
        self.decoding = decoding
        self.search = choose("decoding.search", decoding.search, SEARCHES)
        self.parser = Parser(parser) if parser and needs_trees(model) else None
        """Makes the trees of lines that come without."""
        self._needs_trees = needs_trees(model)
        self._modules = list(model.modules())  # of which only the weights change
        self._weights = _weights_of(self._modules)

    @classmethod
    def load(cls, run: str | Path, *, device: str = "cpu") -> "Translator":
        """The translator of a run folder, with the decoding that its recipe names.

        Raises CalqueError when a file of the folder is missing, altered or another model's.
        """
        folder = RunFolder(Path(run))
        model = folder.load_model(attention_for(torch.device(device))).to(device).eval()
        recipe = folder.recipe
        return cls(model, folder.tokenizers, recipe.decoding, recipe.data.parser)

    def with_decoding(
        self, *, beam_size: int | None = None, length_penalty: float | None = None
    ) -> "Translator":
        """The same model, searched otherwise; what is None stays.

        Raises CalqueError for a value that is out of its range.
        """
        given = {"beam_size": beam_size, "length_penalty": length_penalty}
        changes = {name: value for name, value in given.items() if value is not None}
        decoding = parse(DecodingConfig, {**asdict(self.decoding), **changes}, "decoding")
        return self.searching(decoding)

    def searching(self, decoding: DecodingConfig) -> "Translator":
        """The same model, searched so."""
        parser = self.parser.name if self.parser else None
        return Translator(self.model, self.tokenizers, decoding, parser)

    def translate(self, lines: Sequence[str]) -> list[str]:
        """The best translation of each line; an empty line stays empty."""
        return [best.text for best, *_ in self.n_best(lines)]

    def n_best(self, lines: Sequence[str]) -> list[list[Translation]]:
        """The translations of each line that the search ends with, best first.

        Raises CalqueError if the model needs trees, a line is no Sentence, which has one, and there
        is no parser.
        """
        lines = self.parsed(lines)
        ids = self.tokenizers.source.encode(lines)
        found: list[list[Translation]] = [[EMPTY] for _ in lines]
        self._notice_new_weights()
        for rows in _plan(lines, ids):
            with products("bf16" if self._bf16 else "ieee"):
                source = self._source([ids[row] for row in rows])
                searched = self.with_trees(self._searched, [lines[row] for row in rows])
                hypotheses = self.search(searched, source, self.decoding)
            for row, of_row in zip(rows, hypotheses, strict=True):
                found[row] = self._translations(of_row)
        return found

    def plan(self, lines: Sequence[str]) -> list[list[int]]:
        """The rows of each batch in which lines are translated; those of empty lines are in none.

        The lines of one batch, by themselves, are the same batch again.
        """
        return list(_plan(lines, self.tokenizers.source.encode(lines)))

    def parsed(self, lines: Sequence[str]) -> Sequence[str]:
        """The lines with their trees, if there is a parser."""
        return self.parser(lines) if self.parser else lines

    def with_trees(self, model: Any, lines: Sequence[str]) -> Any:
        """The model for these lines: if it needs their trees and they have them, with these."""
        trees = token_trees(lines, self.tokenizers.source) if self._needs_trees else []
        if not trees or not all(trees):
            return model
        return Parsed(model, pad_trees(trees).to(next(self.model.parameters()).device))

    def look(self, line: str) -> "calque.inspection.Look":
        """The best translation of a line, and how the model comes to it; see `inspection.look`."""
        from calque.inspection import look  # noqa: PLC0415 (which is above, and imports this file)

        return look(self, line)

    def stream(self, lines: Iterable[str]) -> Iterator[list[Translation]]:
        """As `n_best`, for any number of lines: in order, holding a few thousand at a time."""
        for window in windows(lines):
            yield from self.n_best(window)

    def _notice_new_weights(self) -> None:
        """Fast paths keep weights as they were, in a layout of their own."""
        weights = _weights_of(self._modules)
        if weights != self._weights:
            self._weights = weights
            self.__dict__.pop("_searched", None)

    @cached_property
    def _bf16(self) -> bool:
        """Whether products are of bf16."""
        device = next(self.model.parameters()).device
        if device.type != "cpu" or not uses_bf16(self.decoding.precision, device):
            return False
        # Of bf16 only tiles are worth more than to be spared the many small operations.
        free = self.decoding.precision == "auto" and not has_tiles()
        return not (free and KernelTransformer.can_take(self.model))

    @cached_property
    def _searched(self) -> Any:
        """The model, by the fastest path that takes it."""
        if not self._bf16 and KernelTransformer.can_take(self.model):
            return KernelTransformer(self.model)
        return FastTransformer(self.model) if FastTransformer.can_take(self.model) else self.model

    def _source(self, ids: Sequence[Sequence[int]]) -> Int[Tensor, "batch source"]:
        config = self.model.config
        rows = [torch.tensor([*row, config.eos_id]) for row in ids]
        padded = pad_sequence(rows, batch_first=True, padding_value=config.pad_id)
        return padded.to(next(self.model.parameters()).device)

    def _translations(self, hypotheses: Sequence[Hypothesis]) -> list[Translation]:
        texts = self.tokenizers.target.decode([h.tokens for h in hypotheses])
        return [Translation(t, h.score, h) for t, h in zip(texts, hypotheses, strict=True)]


def _weights_of(modules: Iterable[Module]) -> list[tuple[int, int]]:
    """Where all weights lie, and how often they have been written over there."""
    # Module.parameters takes five times as long, which a short line waits for.
    weights = (p for module in modules for p in module._parameters.values() if p is not None)
    return [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in weights]


def _plan(lines: Sequence[str], ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    wanted = [row for row, line in enumerate(lines) if line.strip()]
    # Long lines first: what does not fit into memory is then known at once.
    wanted.sort(key=lambda row: len(ids[row]), reverse=True)
    return batches(wanted, ids)


def windows(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines in order: the first come soon, later ones where like lengths find each other."""
    lines, size = iter(lines), FIRST_WINDOW
    while window := list(islice(lines, size)):
        yield window
        size = min(2 * size, LARGEST_WINDOW)


def batches(
    rows: Sequence[int], ids: Sequence[Sequence[int]], tokens: int = BATCH_TOKENS
) -> Iterator[list[int]]:
    """Rows, longest first, in batches of so many tokens; a longer row is a batch of its own."""
    start = 0
    while start < len(rows):
        size = max(1, tokens // (len(ids[rows[start]]) + 1))
        yield list(rows[start : start + size])
        start += size
