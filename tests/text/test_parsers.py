"""What parsers find becomes one tree per line; the libraries are stood in for, as they are large.

The stand-ins have the attributes of spaCy 3.8 and stanza 1.10 that are used, and find chains: each
word of a sentence hangs on the one before.
"""

import pickle
import re
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from calque.config import CalqueError
from calque.text.parsers import Parser
from calque.text.trees import Sentence, Tree


@dataclass(eq=False)
class Token:
    """A word, or a run of spaces, as spaCy has it."""

    i: int
    text: str
    head: Any = None

    @property
    def is_space(self) -> bool:
        return self.text.isspace()


@dataclass
class SpacyPipeline:
    """As `spacy.load` gives it: a full stop ends a sentence."""

    pipe_names: list[str] = field(default_factory=lambda: ["tagger", "parser"])

    def pipe(self, lines: list[str]) -> Any:
        for line in lines:
            tokens = [Token(i, t) for i, t in enumerate(re.findall(r"\w+|[^\w ]|  +", line))]
            for token in tokens:
                first = not token.i or tokens[token.i - 1].text == "."
                token.head = token if first else tokens[token.i - 1]
            yield tokens


def stanza_pipeline(model: str, **settings: Any) -> Any:
    """As `stanza.Pipeline`: "don't" is one token of two words."""
    assert (model, settings["download_method"]) == ("en", None)

    def parse(line: str) -> Any:
        sentences = []
        for sentence in re.finditer(r"[^.]+\.?", line):
            tokens, words = [], []
            for found in re.finditer(r"[\w']+|\.", sentence[0]):
                start = sentence.start() + found.start()
                own = [SimpleNamespace() for _ in range(2 if "'" in found[0] else 1)]
                for word in own:
                    words.append(word)
                    word.head = len(words) - 1
                end = start + len(found[0])
                tokens.append(SimpleNamespace(start_char=start, end_char=end, words=own))
            sentences.append(SimpleNamespace(tokens=tokens, words=words))
        return SimpleNamespace(sentences=sentences)

    return parse


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(model: str) -> SpacyPipeline:
        if model == "missing":
            raise OSError("[E050] Can't find model 'missing'.")
        return SpacyPipeline(["tagger"]) if model == "tagger" else SpacyPipeline()

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))  # pyright: ignore
    monkeypatch.setitem(sys.modules, "stanza", SimpleNamespace(Pipeline=stanza_pipeline))  # pyright: ignore


def tree_of(line: str) -> Tree:
    assert isinstance(line, Sentence)
    return line.tree


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["spacy:en_core_web_sm", "stanza:en"])
def test_the_sentences_of_a_line_are_one_tree(name: str) -> None:
    parse = Parser(name)
    lines = ["A dog  runs. It sleeps.", " ", "Yes"]
    found = parse(lines)
    assert found == lines
    assert tree_of(found[0]) == Tree((1, 3, 4, 1, 2, 6, 1), (0, 0, 1, 2, 0, 4, 5))
    assert not isinstance(found[1], Sentence)
    assert tree_of(found[2]) == Tree((3,), (0,))
    again: Parser = pickle.loads(pickle.dumps(parse))
    assert tree_of(again(lines)[2]) == Tree((3,), (0,))


@pytest.mark.usefixtures("libraries")
def test_spaces_are_no_words_and_tokens_of_several_words_are_one() -> None:
    by_spacy = Parser("spacy:en")(["a  b", "  a b"])
    assert [tree_of(line) for line in by_spacy] == 2 * [Tree((1, 1), (0, 0))]
    (by_stanza,) = Parser("stanza:en")(["We don't go"])
    assert tree_of(by_stanza) == Tree((2, 5, 2), (0, 0, 1))


def test_what_has_a_tree_is_not_parsed_again() -> None:
    line = Sentence("a b", Tree((1, 1), (1, 1)))
    assert Parser("spacy:none")([line, ""]) == [line, ""]  # the library is not even loaded


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("spacy:missing", r"spacy does not start: \[E050\]"),
        ("spacy:tagger", "'tagger' has no parser"),
        ("spacey:en", "no 'spacey'; did you mean 'spacy'"),
    ],
)
def test_what_does_not_parse_is_told(name: str, told: str) -> None:
    with pytest.raises(CalqueError, match=f"data.parser: .*{told}"):
        Parser(name)(["a"])


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stanza", None)  # pyright: ignore
    with pytest.raises(CalqueError, match="stanza is not installed; pip install stanza"):
        Parser("stanza:en")(["a"])


@pytest.mark.usefixtures("libraries")
def test_words_that_do_not_spell_the_line_are_refused() -> None:
    with pytest.raises(CalqueError, match="stanza:en found do not spell 'a # b'"):
        Parser("stanza:en")(["a # b"])
