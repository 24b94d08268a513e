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

CHARSET = re.compile(rb'"Content-Type:[^"\n]*charset=([^\s"\\;]+)')


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
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "utf-8.po"
        copy.write_bytes(_decoded(path).encode())
        try:
            return polib.pofile(str(copy), encoding="utf-8")
        except OSError as error:
            line, reason = re.findall(r"\(line (\d+)\)(.*)", str(error))[0]
            raise CalqueError(f"{path}:{line}: not PO{reason}") from None


def _decoded(path: Path) -> str:
    with open_bytes(path) as stream:
        content = stream.read()
    declared = CHARSET.search(content)
    charset = declared[1].decode("ascii", "backslashreplace") if declared else "utf-8"
    try:
        return content.decode(charset)
    except LookupError:
        raise CalqueError(f"{path}: unknown charset {charset!r}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        offset = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        raise CalqueError(
            f"{path}:{line}: not {charset} at byte {offset} of the line, counted from 0 "
            f"(0x{content[error.start]:02x})"
        ) from None
