"""Every model is tested with trees, if it looks at any."""

import pytest


@pytest.fixture(autouse=True)
def trees(random_trees: None) -> None:
    """See `random_trees`."""
