"""Dependency trees made on the spot, by a parser that the user has: spaCy or stanza."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any

from calque.config import CalqueError, choose
from calque.text.trees import Sentence, Tree, merged

Words = list[tuple[str, int]]
"""Of each word of a line its text, which may hold white space, and the place of its head among
them; its own, if it is a root."""


class Parser:
    """Gives lines their trees. What does it is loaded when it is first asked, in each process."""

    def __init__(self, name: str) -> None:
        """`name` is that of a library and, behind a colon, what it calls the model."""
        self.name = name
        kind, _, self.model = name.partition(":")
        self._start = choose("data.parser", kind, PARSERS)
        self._parse: Callable[[Sequence[str]], Iterable[Words]] | None = None

    def __reduce__(self) -> tuple[type["Parser"], tuple[str]]:
        return Parser, (self.name,)

    def __call__(self, lines: Sequence[str]) -> list[str]:
        """Lines with text as Sentences; a line that is one already stays as it is.

        Raises CalqueError when the library, or its model, is not installed.
        """
        without = [line for line in lines if line.strip() and not isinstance(line, Sentence)]
        if without and self._parse is None:
            self._parse = self._start(self.model)
        parsed = iter(self._parse(without) if self._parse else ())
        return [
            line
            if isinstance(line, Sentence) or not line.strip()
            else Sentence(line, _tree(line, next(parsed), self.name))
            for line in lines
        ]


def _spacy(model: str) -> Callable[[Sequence[str]], Iterable[Words]]:
    pipeline = _started("spacy", lambda spacy: spacy.load(model))
    if "parser" not in pipeline.pipe_names:
        raise CalqueError(f"data.parser: spaCy's {model!r} has no parser")

    def head_of(token: Any) -> Any:
        head = token.head
        while head.is_space and head.head.i != head.i:
            head = head.head
        return token if head.is_space else head

    def words(document: Any) -> Words:
        tokens = [token for token in document if not token.is_space]
        places = {token.i: place for place, token in enumerate(tokens)}
        return [(token.text, places[head_of(token).i]) for token in tokens]

    return lambda lines: map(words, pipeline.pipe(lines))


def _stanza(model: str) -> Callable[[Sequence[str]], Iterable[Words]]:
    settings = {"processors": "tokenize,pos,lemma,depparse", "download_method": None}
    pipeline = _started("stanza", lambda stanza: stanza.Pipeline(model, verbose=False, **settings))

    def words(line: str) -> Iterator[tuple[str, int]]:
        before = 0
        for sentence in pipeline(line).sentences:
            # A token may stand for several words, which hold the heads.
            groups = [g for g, token in enumerate(sentence.tokens) for _ in token.words]
            heads = [
                word.head - 1 if word.head else place for place, word in enumerate(sentence.words)
            ]
            for token, head in zip(sentence.tokens, merged(heads, groups), strict=True):
                yield line[token.start_char : token.end_char], before + head
            before += len(sentence.tokens)

    return lambda lines: (list(words(line)) for line in lines)


PARSERS: dict[str, Callable[[str], Callable[[Sequence[str]], Iterable[Words]]]] = {
    "spacy": _spacy,
    "stanza": _stanza,
}


def _started(library: str, start: Callable[[Any], Any]) -> Any:
    try:
        module = import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise CalqueError(
            f"data.parser: {library} is not installed; pip install {library}, and its model"
        ) from None
    try:
        return start(module)
    except (OSError, ValueError) as error:
        raise CalqueError(f"data.parser: {library} does not start: {error}") from None


def _tree(line: str, words: Words, name: str) -> Tree:
    """All sentences of a line as one tree: further roots hang on the first."""
    roots = [place for place, (_, head) in enumerate(words) if head == place]
    heads = [roots[0] if place in roots else head for place, (_, head) in enumerate(words)]
    texts = ["".join(text.split()) for text, _ in words]
    if "".join(texts) != "".join(line.split()):
        raise CalqueError(f"data.parser: the words that {name} found do not spell {line[:60]!r}")
    return Tree(tuple(map(len, texts)), tuple(heads))
