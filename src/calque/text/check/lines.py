"""What can be wrong with a line by itself."""

import html.entities
import re
import unicodedata
from collections.abc import Iterator

CHARACTERS = {
    "control": re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]"),
    # Not the joiners U+200C and U+200D: Persian, Indic scripts and emoji are spelt with them.
    "zero_width": re.compile("[\xad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"),
    "replacement": re.compile("\ufffd"),
    "private_use": re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]"),
    "no_break_space": re.compile("\xa0"),
}
ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|([A-Za-z][A-Za-z0-9]*));")


def look_at(text: str) -> Iterator[tuple[str, int, int]]:
    """Each kind of finding on a line, with how often it occurs and the character it begins at."""
    # All of CHARACTERS but U+FFFD are unprintable, and few lines have any unprintable character.
    if not text.isprintable() or "\ufffd" in text:
        for kind, characters in CHARACTERS.items():
            if found := characters.findall(text):
                yield kind, len(found), text.index(found[0])
    if "&" in text and (entity := _entity(text)):
        yield "html_entity", 1, entity.start()
    if not unicodedata.is_normalized("NFC", text):
        yield "not_nfc", 1, 0
    stripped = text.strip()
    if stripped and stripped != text:
        yield "outer_space", 1, 0 if text[0].isspace() else len(text) - 1
    if "  " in stripped:
        yield "double_space", 1, text.index("  ", text.index(stripped))


def _entity(text: str) -> re.Match[str] | None:
    known = html.entities.html5
    found = ENTITY.finditer(text)
    return next((e for e in found if e[1] is None or f"{e[1]};" in known), None)


def comparison_key(text: str) -> str:
    """The letters and digits of a text after NFKC and casefold, by which repeats are recognised.

    Empty for a text that has neither.
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
