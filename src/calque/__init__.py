"""Train, look inside and serve encoder-decoder Transformers on your own sequence pairs."""

from calque.config import CalqueError
from calque.translator import Translation, Translator

__all__ = ["CalqueError", "Translation", "Translator"]
