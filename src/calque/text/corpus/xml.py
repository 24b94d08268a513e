"""Translation memories and translators' exchange files in XML: TMX and XLIFF."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lxml.etree import Entity, QName, XMLSyntaxError, iterparse

from calque.config import CalqueError
from calque.text.corpus.languages import means, normal
from calque.text.corpus.pair import Pair, one_line
from calque.text.files import open_bytes

NATIVE_CODES = {"bpt", "ept", "it", "ph", "ut"}
"""Inline elements of TMX and XLIFF whose content is a document's own markup instead of text."""

XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

Element = Any
"""An lxml element; lxml has no public type for it."""


def read_tmx(path: Path, source: str, target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of a translation memory (TMX 1.1 to 1.4); `source`, `target` are language codes.

    Codes compare without case, and where no variant of a unit has just this code, "en" also means
    "en-US". A unit without one of the two languages is left out, and of several variants in one
    language all but the first.
    """
    for _, unit in _elements(path, ("end",), "tu"):
        sides = [_variants(unit, language) for language in (source, target)]
        if not all(sides):
            missing = target if sides[0] else source
            left_out[f"TMX units without {missing!r}"] += 1
        else:
            for language, (_, *further) in zip((source, target), sides, strict=True):
                if further:
                    left_out[f"further TMX variants in {language!r}"] += len(further)
            yield _pair(path, unit, *(segments[0] for segments in sides))
        _forget(unit)


def _variants(unit: Element, language: str) -> list[Element]:
    """The segments in a language, those first whose code is just this."""
    found = []
    for variant in unit.iterfind("{*}tuv"):
        stated = variant.get(XML_LANG) or variant.get("lang", "")  # `lang` until TMX 1.1
        segment = variant.find("{*}seg")
        if segment is not None and means(language, stated):
            found.append((normal(stated) != normal(language), segment))
    return [segment for _, segment in sorted(found, key=lambda one: one[0])]


def read_xliff(path: Path, source: str, target: str, left_out: Counter[str]) -> Iterator[Pair]:
    """The pairs of an XLIFF file (1.2 or 2.0); a unit or segment without a target is left out.

    Language codes compare as in `read_tmx`. Raises CalqueError if the file states others.
    """
    for event, element in _elements(
        path, ("start", "end"), "xliff", "file", "trans-unit", "segment"
    ):
        if event == "start":
            _check_language(path, element, ("source-language", "srcLang"), source)
            _check_language(path, element, ("target-language", "trgLang"), target)
        elif QName(element).localname in ("trans-unit", "segment"):
            # Children only: a unit's <alt-trans> holds other people's sources and targets.
            segments = element.find("{*}source"), element.find("{*}target")
            if None in segments:
                left_out["XLIFF units without a target"] += 1
            else:
                for segment, language in zip(segments, (source, target), strict=True):
                    _check_language(path, segment, (XML_LANG,), language)
                yield _pair(path, element, *segments)
            _forget(element)


def _check_language(path: Path, element: Element, names: tuple[str, ...], language: str) -> None:
    for name in names:
        stated = element.get(name)
        if stated is not None and not means(language, stated):
            raise CalqueError(
                f"{path}:{element.sourceline}: {name.replace(XML_LANG, 'xml:lang')} is "
                f"{stated!r}, but the corpus says {language!r}"
            )


def _elements(path: Path, events: tuple[str, ...], *names: str) -> Iterator[tuple[str, Element]]:
    """The elements of these names in any namespace, while the file is being read."""
    with open_bytes(path) as stream:
        # The file is a stranger's: no entity is resolved, nothing else opened, and `huge_tree`
        # stays off because it lifts libxml2's limits on depth, text size and entity expansion.
        parser = iterparse(
            stream,
            events=events,
            tag=[f"{{*}}{name}" for name in names],
            resolve_entities=False,
            load_dtd=False,
            no_network=True,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
            collect_ids=False,
        )
        try:
            yield from parser
        except XMLSyntaxError as error:
            # The log knows line and cause where the exception may not (an undeclared entity).
            causes = [(entry.line, entry.message.strip()) for entry in parser.error_log]
            line, message = causes[-1] if causes else (1, error.msg)
            raise CalqueError(f"{path}:{line}: not XML: {message}") from None


def _forget(element: Element) -> None:
    """Free a read element and everything before it, at every level; only then memory is bounded."""
    element.clear()
    while (parent := element.getparent()) is not None:
        while parent[0] is not element:
            del parent[0]
        element = parent


def _pair(path: Path, unit: Element, source: Element, target: Element) -> Pair:
    return Pair(_text(source, path), _text(target, path), str(path), unit.sourceline)


def _text(segment: Element, path: Path) -> str:
    return one_line("".join(_texts(segment, path)))


def _texts(element: Element, path: Path) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        if child.tag is Entity:
            raise CalqueError(f"{path}:{child.sourceline}: entity {child.text} is not resolved")
        if QName(child).localname not in NATIVE_CODES:
            yield from _texts(child, path)
        yield child.tail or ""
