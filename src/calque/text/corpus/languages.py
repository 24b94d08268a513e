"""Language codes: what they mean, and those by which a corpus names its sides."""

from dataclasses import replace

from calque.config import CalqueError
from calque.text.data import CorpusConfig, DataConfig, is_language_code
from calque.text.files import expand, inner_suffix

CODED = {".tmx", ".xlf", ".xliff"}
"""Files in which languages have names that are not the user's own, as those of columns are."""
SIDES = ("source", "target")


def normal(code: str) -> str:
    """A code as all spellings of it are compared: `en_US` as `en-us`."""
    return code.lower().replace("_", "-")


def means(language: str, stated: str) -> bool:
    """Whether a text that is stated to be in one language is in another: `en-US` is in `en`."""
    return f"{normal(stated)}-".startswith(f"{normal(language)}-")


def codes_of(corpus: CorpusConfig) -> dict[str, str]:
    """The codes of a corpus's source and target, by side; none unless it is TMX or XLIFF.

    Raises CalqueError for a file that is not there.
    """
    files = expand(corpus.file) if corpus.file is not None else []
    if CODED.isdisjoint(inner_suffix(file).lower() for file in files):
        return {}
    sides = {side: getattr(corpus, side) for side in SIDES}
    return {side: code for side, code in sides.items() if isinstance(code, str)}


def with_languages_of_corpora(data: DataConfig) -> DataConfig:
    """The section, with the languages that it leaves out as its training corpora name them.

    Only a code on which all of them agree that have any. Raises CalqueError as `codes_of` does.
    """
    codes = [codes_of(corpus) for corpus in data.train]
    found = {}
    for side in SIDES:
        of_side = [of_corpus[side] for of_corpus in codes if side in of_corpus]
        agreed = len(set(map(normal, of_side))) == 1 and is_language_code(of_side[0])
        if agreed and getattr(data, f"{side}_language") is None:
            found[f"{side}_language"] = of_side[0]
    return replace(data, **found)


def refuse_other_languages(corpus: CorpusConfig, where: str, data: DataConfig, named: str) -> None:
    """Raise CalqueError if the codes of a corpus do not mean the languages of `data`.

    The first stand at `where`; the others in `named`.
    """
    for side, code in codes_of(corpus).items():
        language = getattr(data, f"{side}_language")
        if language and not (means(language, code) or means(code, language)):
            raise CalqueError(
                f"{where}: {side} is {code!r}, but data.{side}_language is {language!r} in {named}"
            )
