"""Position tables are those of the model; scores tell what positions do to attention."""

from collections.abc import Callable

import numpy as np
import pytest

from calque.inspection.positions import LENGTH, SCORED, positions
from calque.models.build import FAMILIES
from calque.models.parts.patterns import PATTERNS
from calque.models.parts.positions import LEARNED, POSITIONS

ADDED = dict.fromkeys(["sinusoidal", "half_split", "learned", "count", "structural_relative"], 1)
ADDED |= dict.fromkeys(["normalised_count", "structural"], 2)  # other ones to sources and targets
RELATIVE = {"relative": 2 * 4, "structural_relative": 2 * 2}


@pytest.mark.parametrize("name", POSITIONS)
def test_a_table_for_what_is_added_and_one_for_what_is_relative(
    make_translator: Callable, name: str
) -> None:
    tables = positions(make_translator(positions=name))["tables"]
    name_of_all = "positions, added to the embeddings"
    added = [table for table in tables if table["name"].startswith(name_of_all)]
    assert len(added) == ADDED.get(name, 0)
    assert len(tables) - len(added) == RELATIVE.get(name, 0)


def test_a_count_over_the_length_is_that_of_each_side(make_translator: Callable) -> None:
    of_sources, of_targets = positions(make_translator(positions="normalised_count"))["tables"]
    assert (of_sources["name"][-10:], of_targets["name"][-10:]) == ("of sources", "of targets")
    count, later = np.arange(LENGTH), np.arange(LENGTH) / LEARNED
    np.testing.assert_allclose(np.array(of_sources["values"])[:, 0], count / count[-1], atol=5e-4)
    np.testing.assert_allclose(np.array(of_targets["values"])[:, 0], later, atol=6e-4)
    # These are all small, and have a digit more.
    np.testing.assert_allclose(of_targets["products"], np.outer(later, later), atol=6e-5)


@pytest.mark.parametrize("name", ["sinusoidal", "relative"])
def test_products_are_those_of_the_rows(make_translator: Callable, name: str) -> None:
    for table in positions(make_translator(positions=name))["tables"]:
        values, products = np.array(table["values"]), np.array(table["products"])
        np.testing.assert_allclose(products, values @ values.T, atol=0.05)


def test_sinusoids_product_depends_on_the_distance_alone(make_translator: Callable) -> None:
    (table,) = positions(make_translator(positions="sinusoidal"))["tables"]
    products = np.array(table["products"])
    for distance in (0, 1, 5, 30):
        assert np.ptp(np.diagonal(products, distance)) < 0.01
    assert (products.argmax(axis=1) == np.arange(len(products))).all()


@pytest.mark.parametrize("name", POSITIONS)
def test_scores_differ_by_position_unless_there_are_none(
    make_translator: Callable, name: str
) -> None:
    scores = np.array(positions(make_translator(positions=name))["scores"])
    assert scores.shape == (4, SCORED, SCORED)
    spread = np.ptp(scores, axis=(1, 2)).max()
    assert spread == 0 if name == "none" else spread > 0.01


@pytest.mark.parametrize("name", ["alibi", "rotary", "relative"])
def test_scores_of_relative_kinds_depend_on_the_distance_alone(
    make_translator: Callable, name: str
) -> None:
    scores = np.array(positions(make_translator(positions=name))["scores"])
    for distance in (-20, -3, 0, 3, 20):
        assert np.ptp(np.diagonal(scores, distance, axis1=1, axis2=2), axis=1).max() < 0.01


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_leave_no_number_that_json_lacks(make_translator: Callable, pattern: str) -> None:
    scores = positions(make_translator(pattern=pattern))["scores"]
    if pattern == "linformer":
        assert scores is None  # keys that are mixtures have no position
    else:
        assert np.abs(scores).max() < 1e6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_shows_what_it_has(make_translator: Callable, family: str) -> None:
    seen = positions(make_translator(family=family))
    assert len(seen["tables"]) == {"recurrent": 0, "convolutional": 2, "transformer": 1}[family]
    assert (seen["scores"] is None) == (family != "transformer")
