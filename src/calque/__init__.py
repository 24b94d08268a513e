"""Train, look inside and serve encoder-decoder Transformers on your own sequence pairs."""

from typing import TYPE_CHECKING, Any

from calque.config import CalqueError

if TYPE_CHECKING:
    from calque.translator import Translation, Translator

__all__ = ["CalqueError", "Translation", "Translator"]


def __getattr__(name: str) -> Any:
    """Import the translator when it is first asked for (PEP 562): PyTorch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from calque import translator  # noqa: PLC0415

    return vars(translator)[name]
