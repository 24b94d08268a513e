"""Shapes are checked at run time in every test; real data is found where it is."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

SHAPED = [
    f"calque.{part}"
    for part in (
        "models",
        "losses",
        "decoding",
        "embeddings",
        "inspection",
        "interchange.equivalence",
        "interchange.hugging_face",
        "translator",
    )
]
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


install_import_hook(SHAPED, "beartype.beartype")


# A busy machine takes its time over a first example.
settings.register_profile("calque", deadline=None)
settings.load_profile("calque")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; see DESIGN, "Tests"."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real data in {SHARED_DATA.name}/ beside the checkout")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests neither read nor fill the user's cache of tokenised corpora."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def random_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that come without a tree get one, where positions look at it: the same in each test.

    What stands at a place does not depend on the length of a source, but for its end.
    """
    from torch import Tensor, arange, tensor, where

    from calque.models.parts import structural_positions as parts  # after the hook above

    generator = random.Random(5)
    tree = [0]
    for place in range(1, 1100):
        before = [p for p in range(max(0, place - 9), place) if tree[p] >= 0]
        tree.append(generator.choice([*before, -1]))

    def of(ids: Tensor) -> Tensor:
        place = arange(ids.size(1), device=ids.device)
        last = (ids != 0).sum(dim=1, keepdim=True) - 1
        drawn = where(place < last, tensor(tree[: len(place)], device=ids.device), -1)
        return where(place == last, place, drawn)

    for kind in (parts.StructuralPositions, parts.StructuralRelativePositions):

        def source(self: Any, ids: Tensor, given: Any = None, plain: Any = kind.source) -> Tensor:
            return plain(self, ids, of(ids) if given is None else given)

        monkeypatch.setattr(kind, "source", source)


os.environ.setdefault("OMP_NUM_THREADS", "1")
