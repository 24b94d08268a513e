"""Synthetic batches are batches as training has them; a reader finds every figure."""

import numpy as np
import pytest
from rich.console import Console

from calque.benchmark.run import Benchmark, Decoding, Training, synthetic_batches, table
from calque.text.batching import Batch

LENGTHS = np.random.default_rng(2).integers(1, 20, size=(100, 2)).astype(np.int32)
BUDGET, VOCABULARIES = 128, (10, 40)


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    return list(synthetic_batches(LENGTHS, VOCABULARIES, BUDGET))


def test_every_pair_comes_once_in_its_lengths(batches):
    found = [
        (row, (source != 0).sum() - 1, (target != 0).sum() - 2)
        for batch in batches
        for row, source, target in zip(batch.rows, batch.source, batch.target, strict=True)
    ]
    assert len(found) == len(LENGTHS)
    assert all(LENGTHS[row].tolist() == [source, target] for row, source, target in found)


def test_batches_keep_the_budget_and_the_form(batches):
    for batch in batches:
        source, target = batch.source, batch.target
        assert len(source) * max(source.size(1), target.size(1) - 1) <= BUDGET
        assert (target[:, 0] == 2).all()
        for ids, size in zip((source, target), VOCABULARIES, strict=True):
            assert ((ids == 3).sum(dim=1) == 1).all()
            assert ids.max() < size


def test_the_table_has_every_figure():
    result = Benchmark(
        processor="A processor",
        threads=2,
        parameters=1234567,
        float32_rate=111e9,
        bf16_rate=222e9,
        training=Training(
            tokens_per_second=3333, seconds_per_step=0.44, precision="bf16", operations_per_second=1
        ),
        decoding=Decoding(
            sentences="sentences", beam_size=7, sentences_per_second=555, seconds_for_one=0.066
        ),
        share=0.77,
    )
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table(result))
    shown = "A processor|2 threads|1,234,567|111 G|222 G|3,333|0.44|77%|beam 7|555|66 ms|bf16"
    assert [text for text in shown.split("|") if text not in captured.get()] == []
