"""The course of the batches: a function of seed and epoch, that can be taken up anywhere."""

import numpy as np
import pytest

from calque.text.tokenizers.interface import PAD
from calque.text.tokenizers.pair import Tokenizers
from calque.training.course import Course
from calque.training.preparation import learn_tokenizers, prepare_corpora


@pytest.fixture
def course(tiny, tmp_path, console):
    def make(**changes):
        recipe = tiny(**changes)
        tokenizers: Tokenizers = learn_tokenizers(recipe, console)
        store = prepare_corpora(recipe, tokenizers, console).train
        return Course(store, tokenizers, recipe, 400, tmp_path / "segmentations")

    return make


def rows(batches):
    return [batch.rows.tolist() for batch in batches]


def test_an_epoch_has_every_pair_once(course):
    seen = np.concatenate([batch.rows for batch in course().batches(0, 0)])
    assert sorted(seen) == list(range(160))


def test_epochs_and_seeds_differ_and_come_again(course):
    one, other = course(), course(training={"seed": 2})
    orders = [rows(one.batches(0, 0)), rows(one.batches(1, 0)), rows(other.batches(0, 0))]
    assert orders[0] == rows(course().batches(0, 0))
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


@pytest.mark.parametrize("start", [0, 1, 7, 1000])
def test_an_epoch_can_be_taken_up_anywhere(start, course):
    one = course()
    assert rows(one.batches(3, start)) == rows(one.batches(3, 0))[start:]


def test_weights_repeat_pairs(course, corpus):
    both = {side: str(corpus / f"train.{side}") for side in ("en", "de")}
    weighted = {"source": both["en"], "target": both["de"], "weight": 2.0}
    seen = np.concatenate([b.rows for b in course(data={"train": [weighted]}).batches(0, 0)])
    assert sorted(seen) == sorted([*range(160)] * 2)


def test_sampled_segmentations_differ_by_epoch_and_spell_the_same_text(course, tmp_path):
    one = course(tokenizer={"sampling": 0.2})
    texts = []
    for epoch in (0, 1):
        segments = {}
        for batch in one.batches(epoch, 0):
            for row, ids in zip(batch.rows.tolist(), batch.source.tolist(), strict=True):
                segments[row] = [i for i in ids if i != PAD]
        texts.append(segments)
    assert texts[0] != texts[1]
    decode = one.tokenizers.source.decode
    for row in range(160):
        assert decode([texts[0][row]]) == decode([texts[1][row]])


def test_forgets_the_segmentation_of_one_epoch_alone(course, tmp_path):
    one = course(tokenizer={"sampling": 0.2})
    for epoch in (0, 1):
        next(one.batches(epoch, 0))
    one.forget(0)
    assert [folder.name for folder in (tmp_path / "segmentations").iterdir()] == ["1"]
    one.forget(5)  # none was made
