"""Batches: every pair once, within the budget, a function of seed and epoch, little padding."""

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calque.text.batching import Batch, collate, padding_waste, plan
from calque.text.data import CorpusConfig
from calque.text.store import TokenStore, prepare
from calque.text.tokenizers.frequent import Words
from calque.text.tokenizers.interface import SpecialIds, TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=80).map(
    lambda pairs: np.array(pairs, dtype=np.int32)
)
SEEDS = st.integers(0, 2**31)
SPECIAL = [SpecialIds(), SpecialIds(pad=99, unk=1, bos=99, eos=0)]
each_special = pytest.mark.parametrize("special", SPECIAL, ids=["ours", "Marian's"])


def tokens(lengths: np.ndarray, rows: np.ndarray) -> int:
    """What a batch costs: its rows times its longest side with EOS."""
    return len(rows) * (int(lengths[rows].max()) + 1)


@given(LENGTHS, st.integers(1, 300), SEEDS, SEEDS)
def test_each_pair_comes_once_and_within_the_budget(
    lengths: np.ndarray, budget: int, seed: int, epoch: int
) -> None:
    batches = plan(lengths, budget, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert all(len(rows) == 1 or tokens(lengths, rows) <= budget for rows in batches)


@given(LENGTHS, st.integers(60, 300))
def test_no_two_batches_that_follow_by_length_would_fit_into_one(
    lengths: np.ndarray, budget: int
) -> None:
    batches = plan(lengths, budget, seed=0, epoch=0)
    by_length = sorted(batches, key=lambda rows: (lengths[rows].max(), lengths[rows].max(1).min()))
    for rows, following in pairwise(by_length):
        assert tokens(lengths, np.concatenate([rows, following])) > budget


def test_the_plan_is_a_function_of_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, (500, 2), dtype=np.int32)

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in plan(lengths, 200, seed=seed, epoch=epoch)]

    assert order(1, 1) == order(1, 1)
    assert len({str(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_who_shares_a_batch_and_when_it_comes_change_from_epoch_to_epoch() -> None:
    lengths = np.full((400, 2), 9, dtype=np.int32)
    lengths[200:] = 19
    first, second = (plan(lengths, 200, seed=1, epoch=epoch) for epoch in (0, 1))
    assert {frozenset(rows) for rows in map(np.ndarray.tolist, first)}.isdisjoint(
        frozenset(rows) for rows in map(np.ndarray.tolist, second)
    )
    longest = [[int(lengths[rows].max()) for rows in batches] for batches in (first, second)]
    assert longest[0] != longest[1]
    assert longest[0] != sorted(longest[0])


def test_a_weight_is_how_often_a_pair_comes_per_epoch() -> None:
    weights = np.repeat(np.array([1, 0.25, 2, 3.5], dtype=np.float32), 2000)
    lengths = np.full((len(weights), 2), 5, dtype=np.int32)
    seen = np.zeros((4, len(weights)))
    for epoch in range(4):
        rows = np.concatenate(plan(lengths, 100, seed=3, epoch=epoch, weights=weights))
        seen[epoch] = np.bincount(rows, minlength=len(weights))
    assert (seen >= np.floor(weights)).all()
    assert (seen <= np.ceil(weights)).all()
    # 8000 draws each: four standard deviations are 0.02.
    means = seen.reshape(4, 4, 2000).mean(axis=(0, 2))
    assert means == pytest.approx([1, 0.25, 2, 3.5], abs=0.025)
    # A pair that is left out of one epoch is not left out of all.
    assert len({tuple(seen[:, pair]) for pair in range(2000, 4000)}) > 4


def test_padding_waste_counts_both_sides() -> None:
    lengths = np.array([[1, 3], [3, 3], [7, 0]], dtype=np.int32)
    # Widths 4 and 4 for the first two rows, of which one source has 2; none in the batch of one.
    waste = padding_waste(lengths, [np.array([0, 1]), np.array([2])])
    assert waste == pytest.approx(2 / (8 + 8 + 8 + 1))


def test_little_is_padding_even_where_the_sides_differ_in_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 30, (20_000, 2), dtype=np.int32)
    assert padding_waste(lengths, plan(lengths, 1000, seed=1, epoch=1)) <= 0.05


def test_at_most_a_tenth_is_padding_on_real_text(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "multi30k"
    sides = [(folder / f"train.{code}").read_text().split("\n")[:-1] for code in ("en", "de")]
    tokenizers = Tokenizers.train(
        TokenizerConfig(vocab_size=8000), lambda: zip(*sides, strict=True)
    )
    lengths = np.column_stack(
        [[len(ids) for ids in tokenizers.source.encode(side)] for side in sides]
    ).astype(np.int32)
    assert padding_waste(lengths, plan(lengths, 4096, seed=1, epoch=1)) <= 0.1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Sixty pairs of 1 to 12 words each."""
    folder = tmp_path_factory.mktemp("store")
    generator = random.Random(0)
    sides = [
        [" ".join(generator.choices("abcdefgh", k=generator.randint(1, 12))) for _ in range(60)]
        for _ in range(2)
    ]
    for name, lines in zip(("source", "target"), sides, strict=True):
        (folder / name).write_text("\n".join(lines) + "\n")
    words = Words.train(sides[0], 12)
    corpus = CorpusConfig(source=str(folder / "source"), target=str(folder / "target"))
    return prepare(
        [corpus], Tokenizers(words, words), max_length=None, max_ratio=None, cache=folder
    )


@each_special
def test_collate_frames_and_pads(store: TokenStore, special: SpecialIds) -> None:
    rows = np.array([3, 1, 4, 15])
    batch = collate(store, rows, special)
    assert batch.source.dtype == batch.target.dtype == torch.int64
    for source, target, (source_ids, target_ids) in zip(
        batch.source.tolist(),
        batch.target.tolist(),
        zip(*store.rows(rows), strict=True),
        strict=True,
    ):
        source_length, target_length = len(source_ids) + 1, len(target_ids) + 2
        assert source[:source_length] == [*source_ids, special.eos]
        assert target[:target_length] == [special.bos, *target_ids, special.eos]
        assert set(source[source_length:]) | set(target[target_length:]) <= {special.pad}
    longest = store.lengths[rows].max(axis=0)
    assert batch.source.shape == (4, longest[0] + 1)
    assert batch.target.shape == (4, longest[1] + 2)


@each_special
def test_num_tokens_are_the_labels(store: TokenStore, special: SpecialIds) -> None:
    rows = np.arange(10)
    assert collate(store, rows, special).num_tokens == (store.lengths[rows, 1] + 1).sum()


@each_special
@given(rows=st.lists(st.integers(0, 59), min_size=1, max_size=20), parts=st.integers(1, 25))
def test_the_parts_of_a_split_hold_what_the_batch_held(
    store: TokenStore, special: SpecialIds, rows: list[int], parts: int
) -> None:
    batch = collate(store, np.array(rows), special)
    groups = batch.split(parts)
    assert len(groups) == min(parts, len(rows))
    assert Counter(row for group in groups for row in group.rows.tolist()) == Counter(rows)
    assert sum(group.num_tokens for group in groups) == batch.num_tokens
    sizes = [len(group.rows) for group in groups]
    assert max(sizes) - min(sizes) <= 1
    for group in groups:
        assert_equal(group, collate(store, group.rows, special))


def assert_equal(batch: Batch, other: Batch) -> None:
    assert batch.source.equal(other.source)
    assert batch.target.equal(other.target)
    assert (batch.rows == other.rows).all()
    assert batch.pad_id == other.pad_id
