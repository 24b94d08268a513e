"""HTML taken apart and put together."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calque.serving.loaded import Linked
from calque.serving.markup import Element, Paragraph, escape, parse
from calque.serving.placement import place

PIECES = st.sampled_from(
    [
        "<p>", "</p>", "<b>", "</b>", "<i class='x'>", "</i>", "<br>", "<img src=a.png>", "<code>",
        "</code>", "<script>", "</script>", "<!-- c -->", "<span translate=no>", "</span>", "<pre>",
        "</pre>", "<div translate='no'>", "</div>", "<svg>", "</svg>", "<!DOCTYPE html>", "<![x",
        "<?php ?>", "</", "a", "dog", " ", "\n", "&amp;", "&nbsp;", "&lt;", "<", ">", "&", "é",
        "狗",
    ]
)  # fmt: skip
DOCUMENTS = st.lists(PIECES, max_size=20).map("".join) | st.text()


def parts(document: str) -> list[str | Paragraph]:
    try:
        return parse(document)
    except ValueError:
        return []


def paragraphs(document: str) -> list[Paragraph]:
    return [part for part in parts(document) if isinstance(part, Paragraph)]


def elements(found: list[Element]) -> Iterator[Element]:
    for one in found:
        yield one
        yield from elements(one.inner)


def word_for_word(text: str) -> Linked:
    """A translation that is its source."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    return Linked(words, words, [(i, i) for i in range(len(words))])


@given(DOCUMENTS)
def test_all_markup_is_kept_once(document: str):
    found = parts(document)
    markup = [part for part in found if isinstance(part, str)]
    for paragraph in paragraphs(document):
        of_paragraph = list(elements(paragraph.elements))
        markup += [tag for one in of_paragraph for tag in (one.open, one.close)]
        placed = place(paragraph, word_for_word(paragraph.text))
        assert all(placed.count(one.open) >= 1 for one in of_paragraph)
    if found:
        for tag in ("<b>", "</b>", "<br>", "<img src=a.png>", "</p>", "<pre>"):
            assert sum(part.count(tag) for part in markup) == document.count(tag)


@given(DOCUMENTS)
def test_elements_lie_within_the_text_and_each_other(document: str):
    for paragraph in paragraphs(document):
        assert paragraph.text.strip(" \t\n\r\f") == paragraph.text != ""
        for one in elements(paragraph.elements):
            assert 0 <= one.start <= one.end <= len(paragraph.text)
            assert all(one.start <= i.start <= i.end <= one.end for i in one.inner)


@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_any_alignment_keeps_every_tag_once_and_nested(document: str, random):
    for paragraph in paragraphs(document):
        source = word_for_word(paragraph.text).source
        target = [f"w{i} " for i in range(random.randint(0, 6))]
        links = [
            (t, random.randrange(len(source))) for t in range(len(target)) if random.random() < 0.8
        ]
        placed = place(paragraph, Linked(source, target, links))
        for one in elements(paragraph.elements):
            inner = placed[placed.index(one.open) + len(one.open) :]
            assert one.close in inner


@pytest.mark.parametrize(
    "document",
    [
        "A dog runs.",
        "<p>A <b>big</b> dog.</p>",
        "<p class='x'>A <a href=\"?a&amp;b\">big <i>old</i></a> dog.</p>\n<p>B</p>",
        "  <b>All of it</b>  ",
        "one<br>two<br/>three",
        "<p>5 &lt; 6 &amp; 7&nbsp;m</p>",
        "<!DOCTYPE html>\n<html><head><title>A dog</title><style>p {}</style></head>\n</html>",
        "<pre>one\n  two</pre>",
        "Run <code>ls -l</code> now.",
        "A <img src=x> b <!-- c --> d",
        "<b>no end <i>here</b> too</i>",
    ],
)
def test_the_same_words_give_the_same_document(document: str):
    placed = [
        part if isinstance(part, str) else place(part, word_for_word(part.text))
        for part in parse(document)
    ]
    assert "".join(placed) == document


@pytest.mark.parametrize("close", ["</b>", ""])
def test_tags_may_be_nested_as_deep_as_a_text_is_long(close: str):
    document = "<b>" * 5000 + "A dog" + close * 5000
    (paragraph,) = parse(document)
    assert isinstance(paragraph, Paragraph)
    assert paragraph.text == "A dog"
    assert place(paragraph, word_for_word(paragraph.text)) == document


@pytest.mark.parametrize(
    "document, texts",
    [
        ("<p>One</p>two<div>three</div>", ["One", "two", "three"]),
        ("<p>A\n   <b>big</b>\n dog</p>", ["A big dog"]),
        ("<script>if (a < b) {}</script>", []),
        ("<div translate='no'>Name</div>", []),
        ("<p>My name is <span translate=no>Ann</span>.</p>", ["My name is Ann."]),
        ("a <svg><text>x</text></svg> b", ["a b"]),
        ("<p>—</p><p> &nbsp; </p>", []),
        ("&eacute;t&#233;", ["été"]),
    ],
)
def test_texts(document: str, texts: list[str]):
    assert [paragraph.text for paragraph in paragraphs(document)] == texts


def linked(source: str, target: str, links: list[tuple[int, int]]) -> Linked:
    return Linked(word_for_word(source).source, word_for_word(target).source, links)


@pytest.mark.parametrize(
    "document, target, links, expected",
    [
        (
            "I <b>see</b> dogs",
            "Hunde sehe ich",
            [(0, 2), (1, 1), (2, 0)],
            "Hunde <b>sehe</b> ich",
        ),
        (
            "I <b>get up</b> now",
            "Jetzt stehe ich auf",
            [(0, 3), (1, 1), (2, 0), (3, 2)],
            "Jetzt <b>stehe</b> ich auf",
        ),
        (
            "I <b>get <i>up</i></b>",
            "ich stehe auf",
            [(0, 0), (1, 1), (2, 2)],
            "ich <b>stehe <i>auf</i></b>",
        ),
        ("a <b>b</b> <i>c</i>", "C B A", [(0, 2), (1, 1), (2, 0)], "<i>C</i> <b>B</b> A"),
        ("a <img> b", "B A", [(0, 1), (1, 0)], "<img> B A"),
        ("run <code>ls -l</code> now", "jetzt ls aus", [(0, 3), (1, 1), (2, 0)],
         "jetzt <code>ls -l</code> aus"),
        ("run <code>ls</code> now", "jetzt aus", [(0, 2), (1, 0)], "<code>ls</code> jetzt aus"),
        ("run <code>ls</code>!", "aus !", [(0, 0)], "aus ! <code>ls</code>"),
        ("<b>a b</b>", "A < B", [(0, 0)], "<b>A &lt; B</b>"),
        ("a <b>b</b>", "A", [(0, 0)], "A<b></b>"),
        ("a <b>b</b>.", "A .", [(0, 0), (1, 1)], "A .<b></b>"),
    ],
)  # fmt: skip
def test_tags_go_where_their_words_went(document, target, links, expected):
    (paragraph,) = parse(document)
    assert isinstance(paragraph, Paragraph)
    assert place(paragraph, linked(paragraph.text, target, links)) == expected


@given(st.text())
def test_escaped_text_is_one_paragraph_of_it(text: str):
    found = parts(escape(text.replace("\0", "")))
    assert all(isinstance(part, str) or not part.elements for part in found)


def test_a_tag_of_whose_words_nothing_was_made_goes_to_the_nearest():
    (paragraph,) = parse("a <b>b</b> c")
    assert isinstance(paragraph, Paragraph)
    words = linked(paragraph.text, "C A", [(0, 2), (1, 0)])
    nearest = Linked(words.source, words.target, words.links, {0: 1, 1: 0, 2: 0})
    assert place(paragraph, nearest) == "<b>C</b> A"
