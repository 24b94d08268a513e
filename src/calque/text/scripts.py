"""Which script a text is written in; the standard library knows names of characters, no scripts."""

import unicodedata
from collections import Counter
from functools import cache

EAST_ASIAN = {"CJK", "HIRAGANA", "IDEOGRAPHIC", "KATAKANA", "KATAKANA-HIRAGANA"}
"""First words of character names that Chinese and Japanese text mixes: together they are "CJK"."""
NOT_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())


@cache
def script_of(letter: str) -> str | None:
    """The script of a character, such as "LATIN" or "CJK"; None for all but letters.

    Derived from the first word of the Unicode name, after NFKC: full-width Latin is Latin.
    """
    plain = unicodedata.normalize("NFKC", letter)[0]
    if not plain.isalpha():
        return None
    first_word = unicodedata.name(plain, "").partition(" ")[0]
    if first_word in EAST_ASIAN:
        return "CJK"
    return None if first_word in ("", "MODIFIER") else first_word


def main_script(text: str) -> str | None:
    """The script of more than half of the letters of a text; None where there is none."""
    ascii_letters = text.encode("ascii", "ignore").translate(None, delete=NOT_LETTERS)
    if 2 * len(ascii_letters) > len(text):  # most lines of most corpora, ten times faster so
        return "LATIN"
    letters: Counter[str] = Counter()
    for character, count in Counter(text).items():
        script = script_of(character)
        if script is not None:
            letters[script] += count
    return next((s for s, count in letters.items() if 2 * count > letters.total()), None)
