"""Dependency trees of source lines: read from CoNLL-U, and laid over the tokens of a line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import NamedTuple

from calque.config import CalqueError
from calque.text.files import text_lines
from calque.text.tokenizers.interface import Tokenizer

CONTINUES = -1
"""In a tree over tokens: this one belongs to the word of the one before it."""
COLUMNS = 10
SHOWN = 60  # characters of a line, in a message


@dataclass(frozen=True)
class Tree:
    """A dependency tree over the words of a line, in their order."""

    lengths: tuple[int, ...]
    """Characters of each word, white space left out."""
    heads: tuple[int, ...]
    """The place of each word's head among the words, from 0; of the root, its own."""


class Sentence(str):
    """A line that comes with its tree: whatever takes lines takes it."""

    tree: Tree

    def __new__(cls, text: str, tree: Tree) -> "Sentence":
        """The line as it is, with the tree of its words."""
        sentence = super().__new__(cls, text)
        sentence.tree = tree
        return sentence

    def __getnewargs__(self) -> tuple[str, Tree]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return str(self), self.tree


class Parsed(NamedTuple):
    """A sentence of a CoNLL-U file."""

    spelled: str
    """Its words without any white space, one behind the other."""
    tree: Tree
    place: str
    """Where it begins, as file:line."""


def beside(lines: Iterable[tuple[str, str]], paths: Sequence[Path]) -> Iterator[str]:
    """Lines as Sentences: each given with its own place, as file:line, in step with the trees.

    A line of white space alone has no tree. Raises CalqueError for what `read_conllu` refuses, for
    words that do not spell their line, and when there are more trees than lines or fewer.
    """
    parsed = chain.from_iterable(map(read_conllu, paths))
    lines, number, place = iter(lines), 0, ""
    for line, place in lines:
        if not line.strip():
            yield line
            continue
        found = next(parsed, None)
        if found is None:
            more = sum(1 for text, _ in lines if text.strip())
            raise _unequal(paths, number, place, number + 1 + more)
        number += 1
        if found.spelled != "".join(line.split()):
            raise CalqueError(
                f"{found.place}: the words of this tree do not spell {place}: {line[:SHOWN]!r}"
            )
        yield Sentence(line, found.tree)
    if more := sum(1 for _ in parsed):
        raise _unequal(paths, number + more, place, number)


def read_conllu(path: Path) -> Iterator[Parsed]:
    """The sentences of a CoNLL-U file, one after the other.

    A range such as 1-2 stands in the text for its words, and empty nodes such as 8.1 do not: so
    ranges are the words of the tree, each with the head of that of its words that is nearest to the
    root. Raises CalqueError with file and line for what is no tree.
    """
    rows: list[_Row] = []
    for number, line in enumerate(text_lines(path), start=1):
        if line.startswith("#"):
            continue
        if line.strip():
            columns = line.split("\t")
            if len(columns) != COLUMNS:
                raise CalqueError(
                    f"{path}:{number}: {len(columns)} columns; CoNLL-U has {COLUMNS}, with tabs "
                    "between them"
                )
            rows.append(_Row(f"{path}:{number}", columns[0], columns[1], columns[6]))
        elif rows:
            yield _sentence(rows)
            rows = []
    if rows:
        yield _sentence(rows)


def over_tokens(tree: Tree, line: str, ends: Sequence[int]) -> list[int]:
    """The tree over the tokens of its line, which end at these offsets.

    For the first token of a word, the place of the first token of its head, or its own if that is
    the root; for any other, CONTINUES. Words of which one token holds a part become one; a token of
    nothing but white space belongs to the word that follows.
    """
    word_of = [word for word, length in enumerate(tree.lengths) for _ in range(length)]
    before, starts = 0, []  # of each token, and of their end, the characters that come before
    for start, end in zip([0, *ends], [*ends, len(line)], strict=True):
        starts.append(before)
        before += sum(not character.isspace() for character in line[start:end])
    goes_on = [False] * len(tree.lengths)
    for start, end in pairwise(starts):
        for place in range(start + 1, end):
            goes_on[word_of[place]] |= word_of[place] != word_of[place - 1]
    groups, group = [], -1
    for joined in goes_on:
        group += not joined
        groups.append(group)
    heads = merged(tree.heads, groups)
    of_token = [groups[word_of[min(start, len(word_of) - 1)]] for start in starts[:-1]]
    first = {group: token for token, group in reversed(list(enumerate(of_token)))}
    return [
        first[heads[group]] if first[group] == token else CONTINUES
        for token, group in enumerate(of_token)
    ]


def token_trees(lines: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
    """`over_tokens` of each Sentence; of a line without a tree, nothing."""
    parsed = [line for line in lines if isinstance(line, Sentence)]
    ends = zip(parsed, tokenizer.ends(parsed), strict=True)
    trees = (over_tokens(line.tree, line, of_line) for line, of_line in ends)
    return [next(trees) if isinstance(line, Sentence) else [] for line in lines]


def merged(heads: Sequence[int], groups: Sequence[int]) -> list[int]:
    """The head of each group of neighbouring words: that of its word that is nearest to the root.

    That head is nearer still, and so is its group: groups hang in no cycle.
    """
    depths = _depths(heads)
    top: dict[int, int] = {}
    for word, group in enumerate(groups):
        if group not in top or depths[word] < depths[top[group]]:
            top[group] = word
    return [groups[heads[word]] for word in top.values()]


class _Row(NamedTuple):
    place: str
    number: str
    form: str
    head: str


def _sentence(rows: Sequence[_Row]) -> Parsed:
    """Raises CalqueError where the rows are no tree."""
    words = [row for row in rows if not set("-.") & set(row.number)]
    for number, word in enumerate(words, start=1):
        if word.number != str(number):
            raise CalqueError(f"{word.place}: word {word.number!r}, where {number} was expected")
    if not words:
        raise CalqueError(f"{rows[0].place}: a tree without words")
    heads = _heads(words)
    forms: list[str] = []
    groups: list[int] = []  # of each word, the place of the form that stands for it
    for row in rows:
        if "-" in row.number:
            last = _end_of_range(row, len(groups) + 1, len(words))
        elif "." not in row.number and int(row.number) > len(groups):
            last = int(row.number)
        else:
            continue
        groups += [len(forms)] * (last - len(groups))
        forms.append("".join(row.form.split()))
        if not forms[-1]:
            raise CalqueError(f"{row.place}: word {row.number} has no form")
    tree = Tree(tuple(map(len, forms)), tuple(merged(heads, groups)))
    return Parsed("".join(forms), tree, rows[0].place)


def _end_of_range(row: _Row, following: int, words: int) -> int:
    first, _, last = row.number.partition("-")
    if first != str(following) or not last.isdecimal() or not following <= int(last) <= words:
        raise CalqueError(
            f"{row.place}: the range {row.number!r} does not begin with the word that follows, "
            f"{following}, or does not end among the {words} words"
        )
    return int(last)


def _heads(words: Sequence[_Row]) -> list[int]:
    """From 0, a root being its own. Raises CalqueError unless all hang on one root."""
    heads = []
    for place, word in enumerate(words):
        known = word.head.isdecimal() and int(word.head) <= len(words)
        if not known or int(word.head) == place + 1:
            raise CalqueError(
                f"{word.place}: word {word.number} has the head {word.head!r}; expected another of "
                f"the {len(words)} words, or 0 for the root"
            )
        heads.append(int(word.head) - 1 if int(word.head) else place)
    roots = [word for word in words if int(word.head) == 0]
    if len(roots) > 1:
        raise CalqueError(f"{roots[1].place}: a second root; the first is {roots[0].place}")
    for word, depth in zip(words, _depths(heads), strict=True):
        if depth < 0:
            raise CalqueError(f"{word.place}: no way leads from word {word.number} up to a root")
    return heads


def _depths(heads: Sequence[int]) -> list[int]:
    """How far each word is from its root; -1 in a cycle, or below one."""
    depths: dict[int, int] = {}
    for place in range(len(heads)):
        way, word = [place], place
        while word not in depths and heads[word] != word and heads[word] not in way:
            word = heads[word]
            way.append(word)
        top = way.pop()
        if top not in depths:
            depths[top] = 0 if heads[top] == top else -1
        for below in reversed(way):
            above = depths[heads[below]]
            depths[below] = above + 1 if above >= 0 else -1
    return [depths[place] for place in range(len(heads))]


def _unequal(paths: Sequence[Path], trees: int, place: str, lines: int) -> CalqueError:
    names, file = ", ".join(map(str, paths)), place.rpartition(":")[0]
    return CalqueError(
        f"{names} has {trees} trees, but {file} has {lines} lines with text: they do not belong "
        "together line by line"
    )
