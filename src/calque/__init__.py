"""Train, look inside and serve encoder-decoder Transformers on your own sequence pairs."""

import os
from typing import TYPE_CHECKING, Any

from calque.config import CalqueError

if TYPE_CHECKING:
    from calque.translator import Translation, Translator

SPINS = "3000"
"""How often a thread of PyTorch's looks whether the others are ready before it sleeps: 0.2 ms. The
300,000 of GNU OpenMP are some 10 ms of a core, for each operation in which a core that is waited
for is at something else: at our kernels, or at another program."""
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read once, when PyTorch is imported

__all__ = ["CalqueError", "Translation", "Translator"]


def __getattr__(name: str) -> Any:
    """Import the translator when it is first asked for (PEP 562): PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from calque import translator  # noqa: PLC0415

    return vars(translator)[name]
