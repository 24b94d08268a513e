"""Subword sampling: a token store again, each text cut into other subwords than usual."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from calque.text.store import SCHEMA, SIDES, TokenStore, write_once
from calque.text.tokenizers.pair import Tokenizers


def resample(
    store: TokenStore,
    tokenizers: Tokenizers,
    strength: float,
    *,
    seed: int,
    epoch: int,
    cache: Path,
) -> TokenStore:
    """The same rows, each text in a random segmentation: a function of store, seed and epoch.

    A side that would become longer than `max_length` keeps its usual segmentation. The file lies
    at the result's `path`; whoever asked for it removes it.
    """
    key = json.dumps([store.path.stem, strength, seed, epoch])
    name = hashlib.sha256(key.encode()).hexdigest()
    chunks = _resampled(store, tokenizers, strength, (seed, epoch))
    return write_once(cache / f"{name}.arrow", chunks, store.summary)


def _resampled(
    store: TokenStore, tokenizers: Tokenizers, strength: float, seeds: tuple[int, int]
) -> Iterator[pa.RecordBatch]:
    limit = store.summary.max_length
    for number, chunk in enumerate(store.chunks()):
        columns = chunk.columns
        for side, tokenizer in enumerate((tokenizers.source, tokenizers.target)):
            seed = int(np.random.SeedSequence((*seeds, number, side)).generate_state(1)[0])
            usual, texts = chunk[f"{SIDES[side]}_ids"], chunk[SIDES[side]].to_pylist()
            sampled = tokenizer.sample(texts, strength, seed)
            for row, ids in enumerate(sampled):
                if limit is not None and len(ids) > limit:
                    sampled[row] = usual[row].as_py()
            columns[side] = pa.array(sampled, usual.type)
        yield pa.record_batch(columns[: len(SCHEMA)], schema=SCHEMA)  # trees: of usual tokens
