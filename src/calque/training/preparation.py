"""From the files that a recipe names to token stores: the tokenizer is learnt on the way."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console

from calque.config import CalqueError
from calque.recipe import Recipe
from calque.text.batching import padding_waste, plan
from calque.text.corpus import read_pairs
from calque.text.data import CorpusConfig
from calque.text.store import TokenStore, fingerprint, prepare
from calque.text.tokenizers.pair import Tokenizers
from calque.training.course import plan_weights
from calque.writing import cache_folder, writing

SHOW_EVERY = 10_000  # pairs


@dataclass(frozen=True)
class Corpora:
    """What training reads, tokenised."""

    train: TokenStore
    valid: TokenStore


def learn_tokenizers(recipe: Recipe, console: Console) -> Tokenizers:
    """Tokenizers learnt on the training pairs."""
    with _under_way("learning the tokenizer", console) as read:

        def texts() -> Iterator[tuple[str, str]]:
            number = 0
            for corpus in _without_trees(recipe.data.train):
                for pair in read_pairs(corpus, Counter()):
                    number += 1
                    if number % SHOW_EVERY == 0:
                        read(number)
                    yield pair.source, pair.target

        return Tokenizers.train(recipe.tokenizer, texts)


def prepare_corpora(recipe: Recipe, tokenizers: Tokenizers, console: Console) -> Corpora:
    """Training and validation pairs, tokenised once and kept for the next run that asks.

    Raises CalqueError for a validation pair that is longer than the model has places for.
    """
    cache, stores = cache_folder(), {}
    for split, settings in _settings(recipe).items():
        with writing(cache), _under_way(f"tokenising the {split} pairs", console) as read:
            stores[split] = prepare(tokenizers=tokenizers, cache=cache, progress=read, **settings)
    longest = stores["valid"].lengths.max(axis=1)
    reach = recipe.model.reach
    if reach is not None and longest.max() >= reach:
        raise CalqueError(
            f"{stores['valid'].origin(int(longest.argmax()))}: {longest.max():,} tokens; "
            f"the model has a place for {reach - 1:,}"
        )
    return Corpora(**stores)


def changed_split(recipe: Recipe, tokenizers: Tokenizers, description: dict[str, Any]) -> str:
    """Which data, train or valid, are no longer those described; "" when all are the same."""
    for split, settings in _settings(recipe).items():
        if fingerprint(tokenizers=tokenizers, **settings) != description[split]["fingerprint"]:
            return split
    return ""


def describe(corpora: Corpora, recipe: Recipe, tokenizers: Tokenizers) -> dict[str, Any]:
    """What was prepared: pairs, tokens, what was left out and why, and how much is padding."""
    unknown = tokenizers.special.unk
    lengths, training = corpora.train.lengths, recipe.training
    how = {"seed": training.seed, "epoch": 0, "weights": plan_weights(corpora.train)}
    batches = plan(lengths, training.batch_tokens, **how)
    return {
        "train": _counts(corpora.train, unknown),
        "valid": _counts(corpora.valid, unknown),
        "batches_per_epoch": len(batches),
        "padding": round(padding_waste(lengths, batches), 4),
    }


def show(description: dict[str, Any], recipe: Recipe, console: Console) -> None:
    """The description in a few lines, and what the recipe lacks to be served."""
    for split in ("train", "valid"):
        counts = description[split]
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts["left_out"].items())
        unknown = counts["source_unknown"], counts["target_unknown"]
        among = f" (unknown: {unknown[0]:,} + {unknown[1]:,})" if any(unknown) else ""
        console.print(
            f"{split}: {counts['pairs']:,} pairs, {counts['source_tokens']:,} + "
            f"{counts['target_tokens']:,} tokens{among}; left out: {reasons or 'none'}",
            highlight=False,
        )
    console.print(
        f"batches: {description['batches_per_epoch']:,} per epoch, "
        f"{description['padding']:.1%} padding",
        highlight=False,
    )
    if not (recipe.data.source_language and recipe.data.target_language):
        console.print(
            "languages: unknown, so that this run cannot be served; name data.source_language and "
            "data.target_language",
            highlight=False,
            soft_wrap=True,
        )


def _settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What `prepare` is to be told of each split."""
    data = recipe.data
    limits = {"max_length": data.max_length, "max_ratio": data.max_ratio}
    train, valid, parser = data.train, data.valid, data.parser
    if not recipe.model.needs_trees:
        train, valid, parser = _without_trees(train), _without_trees(valid), None
    return {
        "train": {"corpora": train, "parser": parser, **limits},
        "valid": {"corpora": valid, "parser": parser, **dict.fromkeys(limits)},
    }


def _without_trees(corpora: Sequence[CorpusConfig]) -> list[CorpusConfig]:
    return [replace(corpus, trees=None) for corpus in corpora]


@contextmanager
def _under_way(what: str, console: Console) -> Iterator[Callable[[int], None]]:
    """Say what is going on, and with which pair, while the block runs."""
    if not console.is_terminal:
        console.print(what, highlight=False)
    with console.status(what) as status:
        yield lambda pairs: status.update(f"{what}: {pairs:,} pairs")


def _counts(store: TokenStore, unknown: int) -> dict[str, object]:
    source, target = store.lengths.sum(axis=0, dtype="int64").tolist()
    without_entry = np.zeros(2, dtype=int)
    for chunk in store.chunks():
        ids = (chunk[side].flatten().to_numpy() for side in ("source_ids", "target_ids"))
        without_entry += [np.count_nonzero(of_side == unknown) for of_side in ids]
    return {
        "pairs": len(store),
        "source_tokens": source,
        "target_tokens": target,
        "source_unknown": int(without_entry[0]),
        "target_unknown": int(without_entry[1]),
        "left_out": dict(store.left_out),
        "fingerprint": store.path.stem,
    }
