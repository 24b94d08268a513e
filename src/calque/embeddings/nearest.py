"""Which pieces mean alike, by the angle between their vectors."""

from collections.abc import Sequence
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from calque.config import CalqueError
from calque.embeddings.vectors import Vectors
from calque.text.tokenizers.interface import Tokenizer

NEAREST = 8
Answer = list[tuple[str, float]]
"""Pieces and their cosines, best first."""


class Neighbourhood:
    """Vectors of a tokenizer's pieces, to be asked about words and about each other."""

    def __init__(self, vectors: Vectors, tokenizer: Tokenizer) -> None:
        self.vectors, self.tokenizer = vectors, tokenizer
        self.unit = normalize(vectors.matrix, dim=1)

    def near(self, word: str) -> Answer:
        """The pieces nearest to a word; of one that has several pieces, to their mean.

        Raises CalqueError for a word that the text did not have.
        """
        ids = self._ids(word)
        return self._nearest(self.unit[ids].mean(dim=0), without=ids)

    def analogy(self, first: str, second: str, third: str) -> Answer:
        """What `third` is to as `first` is to `second`, by the offset of their vectors.

        Mikolov et al. 2013, "Linguistic Regularities in Continuous Space Word Representations",
        NAACL, §4: the pieces nearest to second - first + third, these three left out. Raises
        CalqueError as `near` does.
        """
        ids = [self._ids(word) for word in (first, second, third)]
        one, two, three = (normalize(self.unit[of_word].mean(dim=0), dim=0) for of_word in ids)
        return self._nearest(two - one + three, without=list(chain(*ids)))

    def of_frequent(self, number: int) -> dict[str, Answer]:
        """The neighbours of `number` pieces out of the most frequent, punctuation left out."""
        by_count = self.vectors.counts.argsort(descending=True, stable=True)
        known = [i for i in by_count.tolist() if self.vectors.counts[i] and self._is_text(i)]
        # The very first are such as "the", whose neighbours tell little: some of many.
        shown = known[: 20 * number : max(1, min(20, len(known) // number))][:number]
        return {
            self.tokenizer.pieces([i])[0]: self._nearest(self.unit[i], without=[i]) for i in shown
        }

    def pieces(self, word: str) -> list[str]:
        """What the tokenizer cuts a word into."""
        return self.tokenizer.pieces(self.tokenizer.encode([word])[0])

    def _nearest(self, direction: Float[Tensor, " d_model"], without: Sequence[int]) -> Answer:
        cosines = self.unit @ normalize(direction, dim=0)
        cosines[~self.vectors.seen] = -torch.inf
        cosines[list(without)] = -torch.inf
        best = cosines.topk(min(NEAREST, len(cosines)))
        best_first = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(self.tokenizer.pieces([i])[0], c) for i, c in best_first if c > -torch.inf]

    def _ids(self, word: str) -> list[int]:
        ids = self.tokenizer.encode([word])[0]
        unknown = self.tokenizer.special.unk
        if not ids or unknown in ids or not self.vectors.seen[ids].all():
            cut = " ".join(self.pieces(word))
            raise CalqueError(f"{word!r}: the text did not have it (its pieces: {cut or 'none'})")
        return ids

    def _is_text(self, piece: int) -> bool:
        special = self.tokenizer.special
        if piece in (special.pad, special.unk, special.bos, special.eos):
            return False
        return any(character.isalpha() for character in self.tokenizer.decode([[piece]])[0])
