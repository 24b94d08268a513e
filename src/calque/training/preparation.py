"""From the files that a recipe names to token stores: the tokenizer is learnt on the way."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from calque.recipe import Recipe
from calque.text.batching import padding_waste, plan
from calque.text.corpus import read_pairs
from calque.text.store import TokenStore, prepare
from calque.text.tokenizers.pair import Tokenizers


@dataclass(frozen=True)
class Corpora:
    """What training reads, tokenised."""

    train: TokenStore
    valid: TokenStore


def cache_folder() -> Path:
    """Where tokenised corpora are kept between runs: `calque` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "calque"


def learn_tokenizers(recipe: Recipe) -> Tokenizers:
    """Tokenizers learnt on the training pairs."""

    def texts() -> Iterator[tuple[str, str]]:
        for corpus in recipe.data.train:
            for pair in read_pairs(corpus, Counter()):
                yield pair.source, pair.target

    return Tokenizers.train(recipe.tokenizer, texts)


def prepare_corpora(recipe: Recipe, tokenizers: Tokenizers) -> Corpora:
    """Training and validation pairs, tokenised once and kept for the next run that asks."""
    data, cache = recipe.data, cache_folder()
    train = prepare(
        data.train, tokenizers, max_length=data.max_length, max_ratio=data.max_ratio, cache=cache
    )
    valid = prepare(data.valid, tokenizers, max_length=None, max_ratio=None, cache=cache)
    return Corpora(train, valid)


def describe(corpora: Corpora, recipe: Recipe) -> dict[str, object]:
    """What was prepared: pairs, tokens, what was left out and why, and how much is padding."""
    lengths, training = corpora.train.lengths, recipe.training
    batches = plan(lengths, training.batch_tokens, seed=training.seed, epoch=0)
    return {
        "train": _counts(corpora.train),
        "valid": _counts(corpora.valid),
        "batches_per_epoch": len(batches),
        "padding": round(padding_waste(lengths, batches), 4),
    }


def show(description: dict[str, object], console: Console) -> None:
    """The description in a few lines."""
    for split in ("train", "valid"):
        counts = description[split]
        assert isinstance(counts, dict)
        left_out = counts["left_out"]
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
        console.print(
            f"{split}: {counts['pairs']:,} pairs, {counts['source_tokens']:,} + "
            f"{counts['target_tokens']:,} tokens; left out: {reasons or 'none'}",
            highlight=False,
        )
    console.print(
        f"batches: {description['batches_per_epoch']:,} per epoch, "
        f"{description['padding']:.1%} padding",
        highlight=False,
    )


def _counts(store: TokenStore) -> dict[str, object]:
    source, target = store.lengths.sum(axis=0, dtype="int64").tolist()
    return {
        "pairs": len(store),
        "source_tokens": source,
        "target_tokens": target,
        "left_out": dict(store.left_out),
        "fingerprint": store.path.stem,
    }
