"""word2vec: a piece's vector is learnt from the pieces around it (arXiv:1301.3781).

With negative sampling and fewer of the most frequent pieces (arXiv:1310.4546, §2.2 and §2.3), by
gensim and, but for the number of passes, with its usual sizes: five pieces to each side, five
negative ones. Departures: the words are the tokenizer's pieces, and rare ones are kept.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from calque.config import CalqueError, choose
from calque.embeddings.vectors import Vectors, hash_of_pieces
from calque.recipe import Recipe
from calque.text.files import expand, text_lines
from calque.text.tokenizers.interface import Tokenizer

ALGORITHMS = {"cbow": 0, "skip_gram": 1}
"""A piece from the mean of those around it, or each of those from the piece: gensim's `sg`."""
LINES = 1000
"""That are cut into pieces at once."""
LONGEST = 10_000
"""Pieces of a line that gensim reads; it would leave out the rest."""
PASSES, MOST_PASSES = 5, 20
ENOUGH = 5_000_000
"""Pieces in all passes together; text that is too short for that is read more often."""


def learn_vectors(
    recipe: Recipe,
    tokenizer: Tokenizer,
    side: str,
    texts: Sequence[str],
    algorithm: str,
    console: Console,
) -> Vectors:
    """Vectors as wide as the recipe's model, from plain text files (paths or globs).

    The same text and recipe give the same vectors on one machine. Raises CalqueError for an
    unknown algorithm, files that cannot be read or have no text, and where gensim is missing.
    """
    skip_gram = choose("--algorithm", algorithm, ALGORITHMS)
    make = _word2vec()
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        text = _Text(expand(tuple(texts)), tokenizer, bar)
        counts = text.count()
        pieces = int(counts.sum())
        if not pieces:
            raise CalqueError(f"{', '.join(texts)}: no text in it")
        passes = passes_over(pieces)
        text.begin(f"{algorithm}, {passes} passes over {pieces:,} pieces", total=passes * pieces)
        model = make(
            vector_size=recipe.model.d_model,
            sg=skip_gram,
            min_count=1,
            workers=1,  # several would take turns as chance has it
            seed=int(np.random.SeedSequence(recipe.training.seed).generate_state(1)[0]),
            epochs=passes,
        )
        model.build_vocab_from_freq({str(i): int(counts[i]) for i in counts.nonzero()[0]})
        model.train(text, total_examples=text.rows_of_a_pass, total_words=pieces, epochs=passes)
        if text.error:
            raise text.error
    matrix = torch.zeros(tokenizer.vocab_size, recipe.model.d_model)
    matrix[[int(key) for key in model.wv.index_to_key]] = torch.from_numpy(model.wv.vectors)
    return Vectors(matrix, torch.from_numpy(counts), side, algorithm, hash_of_pieces(tokenizer))


def passes_over(pieces: int) -> int:
    """How often a text of so many pieces is read."""
    return min(MOST_PASSES, max(PASSES, ENOUGH // pieces))


class _Text:
    """The pieces of the lines of some files, cut anew in every pass."""

    def __init__(self, files: list[Path], tokenizer: Tokenizer, bar: Progress) -> None:
        self.files, self.tokenizer, self.bar = files, tokenizer, bar
        self.begin("counting the pieces", total=None)
        self.rows_of_a_pass = 0
        self.error: Exception | None = None

    def begin(self, what: str, total: int | None) -> None:
        """Say what the passes that now come are for."""
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.task = self.bar.add_task(what, total=total)
        if self.bar.disable:
            self.bar.console.print(what, highlight=False)

    def count(self) -> Int[np.ndarray, " vocab"]:
        """How often each piece occurs."""
        counts = np.zeros(self.tokenizer.vocab_size, dtype=np.int64)
        for row in self._rows():
            self.rows_of_a_pass += 1
            np.add.at(counts, row, 1)
        return counts

    def __iter__(self) -> Iterator[list[str]]:
        # In a thread of gensim's, which would wait for ever if this one died of an error.
        try:
            for row in self._rows():
                yield [str(piece) for piece in row]
        except (CalqueError, OSError) as error:
            self.error = error

    def _rows(self) -> Iterator[list[int]]:
        for file in self.files:
            lines = text_lines(file)
            while some := list(islice(lines, LINES)):
                rows = self.tokenizer.encode(some)
                for row in rows:
                    yield from (row[at : at + LONGEST] for at in range(0, len(row), LONGEST))
                self.bar.advance(self.task, sum(map(len, rows)))


def _word2vec() -> Callable[..., Any]:
    try:
        from gensim.models.word2vec import Word2Vec  # noqa: PLC0415
    except ImportError:
        raise CalqueError(
            "embed: gensim is not installed; pip install 'calque[embeddings]'"
        ) from None
    return Word2Vec
