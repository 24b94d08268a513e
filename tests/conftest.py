"""Shapes are checked at run time in every test; real data is found where it is."""

import os
from pathlib import Path

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


os.environ.setdefault("OMP_NUM_THREADS", "1")
