"""The course of the batches through the epochs: a function of seed and epoch alone."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from calque.recipe import Recipe
from calque.text.batching import Batch, collate, plan
from calque.text.resampling import resample
from calque.text.store import TokenStore
from calque.text.tokenizers.pair import Tokenizers


def plan_weights(store: TokenStore) -> Float[np.ndarray, " pairs"] | None:
    """Of the pairs, for `plan`; None where all are 1, which saves memory."""
    return store.weights if np.any(store.weights != 1) else None


@dataclass(frozen=True)
class Course:
    """The training pairs in the order in which they are learnt."""

    store: TokenStore
    tokenizers: Tokenizers
    recipe: Recipe
    step_tokens: int
    """Token budget of one step of the optimizer: of all its micro-batches and processes."""
    segmentations: Path
    """Folder for the sampled segmentation of the epoch under way, in a folder of its own."""

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        store, training = self._segmented(epoch), self.recipe.training
        how = {"seed": training.seed, "epoch": epoch, "weights": plan_weights(store)}
        batches = plan(store.lengths, self.step_tokens, **how)
        for rows in batches[start:]:
            yield collate(store, rows, self.tokenizers.special)

    def _segmented(self, epoch: int) -> TokenStore:
        """The store; with subword sampling, one of this epoch's own segmentations."""
        strength = self.recipe.tokenizer.sampling
        if not strength:
            return self.store
        return resample(
            self.store,
            self.tokenizers,
            strength,
            seed=self.recipe.training.seed,
            epoch=epoch,
            cache=self.segmentations / str(epoch),
        )

    def longest(self, rows: Int[np.ndarray, " pairs"]) -> str:
        """Where the longest three of the given pairs come from."""
        longest_first = rows[self.store.lengths[rows].max(axis=1).argsort()[::-1]]
        return ", ".join(self.store.origin(int(row)) for row in longest_first[:3])

    def forget(self, epoch: int) -> None:
        """Remove the segmentation of an epoch that is over."""
        shutil.rmtree(self.segmentations / str(epoch), ignore_errors=True)
