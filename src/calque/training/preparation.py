"""From the files that a recipe names to token stores: the tokenizer is learnt on the way."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from calque.checkpoint import writing
from calque.recipe import Recipe
from calque.text.batching import padding_waste, plan
from calque.text.corpus import read_pairs
from calque.text.store import TokenStore, fingerprint, prepare
from calque.text.tokenizers.pair import Tokenizers

SHOW_EVERY = 10_000  # pairs


@dataclass(frozen=True)
class Corpora:
    """What training reads, tokenised."""

    train: TokenStore
    valid: TokenStore


def cache_folder() -> Path:
    """Where tokenised corpora are kept between runs: `calque` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "calque"


def learn_tokenizers(recipe: Recipe, console: Console) -> Tokenizers:
    """Tokenizers learnt on the training pairs."""
    with _under_way("learning the tokenizer", console) as read:

        def texts() -> Iterator[tuple[str, str]]:
            number = 0
            for corpus in recipe.data.train:
                for pair in read_pairs(corpus, Counter()):
                    number += 1
                    if number % SHOW_EVERY == 0:
                        read(number)
                    yield pair.source, pair.target

        return Tokenizers.train(recipe.tokenizer, texts)


def prepare_corpora(recipe: Recipe, tokenizers: Tokenizers, console: Console) -> Corpora:
    """Training and validation pairs, tokenised once and kept for the next run that asks."""
    cache, stores = cache_folder(), {}
    for split, settings in _settings(recipe).items():
        with writing(cache), _under_way(f"tokenising the {split} pairs", console) as read:
            stores[split] = prepare(tokenizers=tokenizers, cache=cache, progress=read, **settings)
    return Corpora(**stores)


def changed_split(recipe: Recipe, tokenizers: Tokenizers, description: dict[str, Any]) -> str:
    """Which data, train or valid, are no longer those described; "" when all are the same."""
    for split, settings in _settings(recipe).items():
        if fingerprint(tokenizers=tokenizers, **settings) != description[split]["fingerprint"]:
            return split
    return ""


def describe(corpora: Corpora, recipe: Recipe) -> dict[str, Any]:
    """What was prepared: pairs, tokens, what was left out and why, and how much is padding."""
    lengths, training = corpora.train.lengths, recipe.training
    batches = plan(lengths, training.batch_tokens, seed=training.seed, epoch=0)
    return {
        "train": _counts(corpora.train),
        "valid": _counts(corpora.valid),
        "batches_per_epoch": len(batches),
        "padding": round(padding_waste(lengths, batches), 4),
    }


def show(description: dict[str, Any], console: Console) -> None:
    """The description in a few lines."""
    for split in ("train", "valid"):
        counts = description[split]
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts["left_out"].items())
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


def _settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What `prepare` is to be told of each split."""
    data = recipe.data
    limits = {"max_length": data.max_length, "max_ratio": data.max_ratio}
    return {
        "train": {"corpora": data.train, **limits},
        "valid": {"corpora": data.valid, **dict.fromkeys(limits)},
    }


@contextmanager
def _under_way(what: str, console: Console) -> Iterator[Callable[[int], None]]:
    """Say what is going on, and with which pair, while the block runs."""
    if not console.is_terminal:
        console.print(what, highlight=False)
    with console.status(what) as status:
        yield lambda pairs: status.update(f"{what}: {pairs:,} pairs")


def _counts(store: TokenStore) -> dict[str, object]:
    source, target = store.lengths.sum(axis=0, dtype="int64").tolist()
    return {
        "pairs": len(store),
        "source_tokens": source,
        "target_tokens": target,
        "left_out": dict(store.left_out),
        "fingerprint": store.path.stem,
    }
