"""Catalogues of program messages: gettext's PO files."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import polib

from calque.config import CalqueError
from calque.text.corpus.pair import Pair, one_line
from calque.text.files import open_bytes

STRING = r'"((?:\\.|[^"\\])*)"'
KEYWORD = r"(?:#~\s*)?(?:(?:msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)\s*)?"
ENTRY = re.compile(rf"\s*(?:#(?!~).*|#~\|.*|{KEYWORD}{STRING}\s*|(?:#~)?\s*)")
"""What a line may be: a comment, a string with a keyword or without, nothing."""
CHARSET = re.compile(r"charset=([^\s;\\]+)", re.IGNORECASE)


def read_po(path: Path, _source: str, _target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The translated messages of a PO file, which is read whole: catalogues are small.

    A PO file has one source and one target, so the corpus's names for them choose nothing. Both
    forms of a message with two plural forms are pairs. Obsolete, fuzzy and untranslated messages,
    and those with another number of plural forms, are left out.
    """
    for entry in _catalogue(path):
        reason = _reason_to_leave_out(entry)
        if reason is not None:
            left_out[reason] += 1
            continue
        for source, target in _sides(entry):
            # polib numbers the very first entry 0.
            yield Pair(one_line(source), one_line(target), str(path), entry.linenum or 1)


def _reason_to_leave_out(entry: polib.POEntry) -> str | None:
    if entry.obsolete:
        return "obsolete PO messages"
    if entry.fuzzy:
        return "fuzzy PO messages"
    if not entry.translated():
        return "untranslated PO messages"
    if entry.msgid_plural and set(entry.msgstr_plural) != {0, 1}:
        return "PO messages without exactly two plural forms"
    return None


def _sides(entry: polib.POEntry) -> list[tuple[str, str]]:
    if not entry.msgid_plural:
        return [(entry.msgid, entry.msgstr)]
    singular, plural = entry.msgstr_plural[0], entry.msgstr_plural[1]
    return [(entry.msgid, singular), (entry.msgid_plural, plural)]


def _catalogue(path: Path) -> polib.POFile:
    # By way of a decoded copy: polib would read an unknown charset as UTF-8 without a word, and
    # a text given as a string would be split at U+2028 and its like.
    text = _decoded(path)
    for number, line in enumerate(text.split("\n"), start=1):
        # polib takes the first and last character of a string off, whatever they are.
        if not ENTRY.fullmatch(line):
            expected = "a keyword and a text between double quotes"
            raise CalqueError(f"{path}:{number}: not PO: expected {expected}")
    text = re.sub(r"(?m)^(\s*#,)(?=\S)", r"\1 ", text)  # polib knows no flags without the space
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "utf-8.po"
        copy.write_bytes(text.encode())
        try:
            return polib.pofile(str(copy), encoding="utf-8")
        except OSError as error:
            line, reason = re.findall(r"\(line (\d+)\)(.*)", str(error))[0]
            raise CalqueError(f"{path}:{line}: not PO{reason}") from None


def _decoded(path: Path) -> str:
    with open_bytes(path) as stream:
        content = stream.read()
    declared = CHARSET.search(_header(content))
    charset = declared[1] if declared else "utf-8"
    try:
        return content.decode(charset)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        offset = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        raise CalqueError(
            f"{path}:{line}: not {charset} at byte {offset} of the line, counted from 0 "
            f"(0x{content[error.start]:02x})"
        ) from None
    except (LookupError, ValueError):
        raise CalqueError(f"{path}: unknown charset {charset!r}") from None


def _header(content: bytes) -> str:
    """The translation of the first message, if that one is empty: it tells about the file."""
    strings: list[str] = []
    translated = False
    for line in content.decode("ascii", "backslashreplace").split("\n"):
        found, word = ENTRY.fullmatch(line), line.lstrip()
        if found is None or found[1] is None:
            continue
        if word.startswith("msgstr"):
            translated = True
        elif translated and not word.startswith('"'):
            break
        if translated:
            strings.append(found[1])
        elif found[1]:
            return ""
    return "".join(strings)
