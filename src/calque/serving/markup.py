"""HTML taken apart: its text by paragraphs, and the markup around and within them."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import accumulate, pairwise

INLINE = {
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em",
    "font", "i", "img", "ins", "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp",
    "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
}  # fmt: skip
"""Elements that may stand within a sentence; any other tag ends it."""
HIDDEN = {"math", "noscript", "object", "script", "style", "svg", "template", "textarea"}
"""Elements whose content is no text of the sentence that they stand in."""
UNTOUCHED = HIDDEN | {"code", "kbd", "samp", "var"}
"""Elements whose content is not translated."""
EMPTY = {
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
    "track", "wbr",
}  # fmt: skip
DEEPEST = 100
"""Elements of a sentence within each other, as they are placed by recursion, which Python bounds.
A tag further in stays where it is, as one without its other half."""
SPACE = re.compile(r"[ \t\n\r\f]+")


@dataclass(frozen=True)
class Element:
    """Markup within a paragraph, in the place of a stretch of its text."""

    start: int
    """Characters of the text; start and end are one where it holds none."""
    end: int
    open: str
    """As it was written; of what is not to be translated, all of it."""
    close: str = ""
    inner: list["Element"] = field(default_factory=list)
    untouched: bool = False


@dataclass(frozen=True)
class Paragraph:
    """Text that belongs together, with white space as a browser shows it."""

    before: str
    """White space as it was written."""
    text: str
    after: str
    elements: list[Element]


@dataclass(frozen=True)
class _Token:
    kind: str
    """open, close, empty, text, or other: comments, declarations."""
    name: str
    raw: str
    untouched: bool


def parse(document: str) -> list[str | Paragraph]:
    """Markup that stays as it is, and paragraphs to translate, in their order.

    Joined with the text of the paragraphs and all that is in them, it is the document. Raises
    ValueError for what cannot be read as HTML at all.
    """
    tokens, builder, place = _tokens(document), _Builder(), 0
    while place < len(tokens):
        token, after = tokens[place], place + 1
        if token.kind == "open" and token.untouched:
            after = _end(tokens, place)
            whole = tokens[place:after]
            builder.untouched(token.name, whole)
        elif token.kind == "text":
            builder.text(token.raw)
        elif token.name in INLINE or token.kind == "other":
            builder.inline(token)
        else:
            builder.boundary(token)
        place = after
    builder.flush()
    return builder.parts


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(text, quote=False).replace("\xa0", "&nbsp;")


class _Reader(HTMLParser):
    """Where in a document each of its tags, texts and other parts begins."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self._lines = [0, *accumulate(len(line) + 1 for line in document.split("\n"))]
        self.found: list[tuple[int, str, str, bool]] = []
        self.feed(document)
        self.close()

    def _note(self, kind: str, name: str = "", untouched: bool = False) -> None:
        line, column = self.getpos()
        self.found.append((self._lines[line - 1] + column, kind, name, untouched))

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        untouched = tag in UNTOUCHED or ("translate", "no") in attrs
        self._note("empty" if tag in EMPTY else "open", tag, untouched)

    def handle_startendtag(
        self,
        tag: str,
        attrs: Sequence[tuple[str, str | None]],  # noqa: ARG002
    ) -> None:
        self._note("empty", tag)

    def handle_endtag(self, tag: str) -> None:
        self._note("close", tag)

    def handle_data(self, data: str) -> None:  # noqa: ARG002
        self._note("text")

    def handle_comment(self, data: str) -> None:  # noqa: ARG002
        self._note("other")

    def handle_decl(self, decl: str) -> None:
        self.handle_comment(decl)

    handle_pi = unknown_decl = handle_comment


def _tokens(document: str) -> list[_Token]:
    try:
        found = _Reader(document).found
    except AssertionError:  # the library's answer to some broken declarations
        raise ValueError("not HTML") from None
    starts = [*(start for start, *_ in found), len(document)]
    return [
        _Token(kind, name, document[start:end], untouched)
        for (_, kind, name, untouched), (start, end) in zip(found, pairwise(starts), strict=True)
    ]


def _end(tokens: Sequence[_Token], start: int) -> int:
    """The place after the end of the element that begins at `start`."""
    name, depth = tokens[start].name, 0
    for place in range(start, len(tokens)):
        if tokens[place].name == name:
            depth += {"open": 1, "close": -1}.get(tokens[place].kind, 0)
            if not depth:
                return place + 1
    return len(tokens)


@dataclass
class _Open:
    """An element whose end has not come yet."""

    name: str
    start: int
    raw: str
    inner: list[Element] = field(default_factory=list)


class _Builder:
    """Paragraphs in the making."""

    def __init__(self) -> None:
        self.parts: list[str | Paragraph] = []
        self._preformatted = 0
        self._begin()

    def _begin(self) -> None:
        self._raw: list[str] = []
        self._text = self._before = self._after = ""
        self._stack = [_Open("", 0, "")]

    def text(self, raw: str) -> None:
        self._raw.append(raw)
        shown = html.unescape(raw)
        space = SPACE.match(shown)
        if not self._text and space:
            self._before += space[0]
            shown = shown[space.end() :]
        if not shown:
            return
        self._after = shown[len(shown.rstrip(" \t\n\r\f")) :]
        if not self._preformatted:
            shown = SPACE.sub(" ", shown)
            if self._text.endswith(" ") and shown.startswith(" "):
                shown = shown[1:]
                self._keep_space_after_markup()
        self._text += shown

    def inline(self, token: _Token) -> None:
        """A tag within a sentence, or a comment; a tag without its other half stays where it is."""
        self._raw.append(token.raw)
        if token.kind == "open" and len(self._stack) <= DEEPEST:
            self._stack.append(_Open(token.name, len(self._text), token.raw))
        elif token.kind == "close" and any(one.name == token.name for one in self._stack):
            while self._stack[-1].name != token.name:
                self._give_up()
            one = self._stack.pop()
            element = Element(one.start, len(self._text), one.raw, token.raw, one.inner)
            self._stack[-1].inner.append(element)
        else:
            self._stack[-1].inner.append(Element(len(self._text), len(self._text), token.raw))

    def untouched(self, name: str, tokens: Sequence[_Token]) -> None:
        """An element that is not to be translated; within a sentence its text is part of it."""
        raw = "".join(token.raw for token in tokens)
        if name not in INLINE | HIDDEN:
            self.boundary(_Token("other", name, raw, True))
            return
        start, kept = len(self._text), self._raw
        if name in INLINE:
            for token in tokens:
                if token.kind == "text":
                    self.text(token.raw)
        self._raw = [*kept, raw]
        self._stack[-1].inner.append(Element(start, len(self._text), raw, untouched=True))

    def boundary(self, token: _Token) -> None:
        """Markup between paragraphs."""
        self.flush()
        if token.name == "pre":
            change = {"open": 1, "close": -1}.get(token.kind, 0)
            self._preformatted = max(0, self._preformatted + change)
        self.parts.append(token.raw)

    def flush(self) -> None:
        """End the paragraph; one without a letter or digit is markup."""
        while len(self._stack) > 1:
            self._give_up()
        text = self._text.rstrip(" \t\n\r\f")
        if any(character.isalnum() for character in text):
            elements = list(_within(self._stack[0].inner, len(text)))
            after = self._after if len(text) < len(self._text) else ""
            self.parts.append(Paragraph(self._before, text, after, elements))
        elif self._raw:
            self.parts.append("".join(self._raw))
        self._begin()

    def _keep_space_after_markup(self) -> None:
        """Have markup without text, that has white space on both sides, take one along."""
        inner, place = self._stack[-1].inner, len(self._text)
        if inner and inner[-1].start == inner[-1].end == place:
            inner[-1] = replace(inner[-1], open=f"{inner[-1].open} ")

    def _give_up(self) -> None:
        """Take an opening tag as one without its other half."""
        one = self._stack.pop()
        self._stack[-1].inner += [Element(one.start, one.start, one.raw), *one.inner]


def _within(elements: Sequence[Element], end: int) -> Iterator[Element]:
    """Elements with their places no further than the end of the text."""
    for one in elements:
        inner = list(_within(one.inner, end))
        yield Element(
            min(one.start, end), min(one.end, end), one.open, one.close, inner, one.untouched
        )
