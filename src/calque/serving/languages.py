"""Names of languages, and which of them a text is in."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from babel import Locale, UnknownLocaleError
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from calque.serving.sentences import base


def name_of(code: str) -> str:
    """The English name of a BCP 47 code; the code itself where it has none."""
    try:
        return Locale.parse(code, sep="-").get_display_name("en") or code
    except (UnknownLocaleError, ValueError):
        return code


@dataclass(frozen=True)
class Detected:
    """A language that a text may be in."""

    language: str
    confidence: float
    """In percent: its share among all languages that the detector knows."""


class Detector:
    """Which of the served languages a text is in, by py3langid (naive Bayes over byte n-grams)."""

    def __init__(self, served: Collection[str]) -> None:
        """A detector among `served`, codes as the runs have them."""
        self._model = _model()
        self._codes: dict[str, list[str]] = {}
        for code in sorted(served):
            self._codes.setdefault(base(code), []).append(code)

    def detect(self, text: str) -> list[Detected]:
        """The served languages, the likeliest first; of those it does not know the confidence is 0.

        Where several are variants of one, such as pt-BR and pt-PT, it does not tell them apart.
        """
        shares = dict(self._model.rank(text))
        found = [
            Detected(code, round(100 * shares.get(language, 0.0), 2))
            for language, codes in self._codes.items()
            for code in codes
        ]
        return sorted(found, key=lambda one: -one.confidence)


@cache
def _model() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
