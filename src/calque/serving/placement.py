"""Tags of a paragraph set into its translation, by word alignment."""

from collections.abc import Sequence
from itertools import accumulate

from calque.serving.loaded import Linked
from calque.serving.markup import Element, Paragraph, escape

SPACES = " \t\n\r\f\v"


def place(paragraph: Paragraph, linked: Linked) -> str:
    """The translation of a paragraph as HTML, with every element of the paragraph once.

    `linked.source` joined is the text of the paragraph. An element goes around that stretch of
    target words which holds most of those that belong to its source words and fewest others; one
    around all of the text stays so. An element without text goes before the word that follows it.
    Elements that would overlap yield to the first. What is untouched takes the place of its words.
    """
    placing = _Placing(linked)
    everything = Element(0, len(paragraph.text), "")
    words = placing.words(everything)
    whole = placing.render(paragraph.elements, 0, len(linked.target), words)
    return paragraph.before + whole + paragraph.after


class _Placing:
    def __init__(self, linked: Linked) -> None:
        self._target = linked.target
        ends = list(accumulate(map(len, linked.source)))
        self._spans = [
            (end - len(word), end - len(word) + len(word.rstrip()))
            for word, end in zip(linked.source, ends, strict=True)
        ]
        is_word = [any(map(str.isalnum, word)) for word in linked.target]
        self._likeliest = {s: t for s, t in linked.likeliest.items() if is_word[t]}
        self._sources: list[set[int]] = [set() for _ in linked.target]
        for target, source in linked.links:
            # Attention of a full stop says little of what it was made of.
            if is_word[target] or not any(map(str.isalnum, linked.source[source])):
                self._sources[target].add(source)

    def render(
        self, elements: Sequence[Element], left: int, right: int, outer: frozenset[int]
    ) -> str:
        """Target words from `left` to `right` with elements in them; `outer` are source words."""
        placed = [(self._interval(one, left, right, outer), one) for one in elements]
        placed.sort(key=lambda both: both[0])
        result, position = "", left
        for (begin, end), one in placed:
            begin = max(begin, position)  # noqa: PLW2901
            end = max(begin, end)  # noqa: PLW2901
            result += self._text(position, begin)
            result = self._set(result, one, begin, end)
            position = end
        return result + self._text(position, right)

    def _set(self, result: str, one: Element, begin: int, end: int) -> str:
        """`result` with an element after it; white space at the element's end follows it."""
        inner = self._text(begin, end)
        if not one.untouched:
            inner = self.render(one.inner, begin, end, self.words(one))
        bare = inner.rstrip(SPACES)
        space = inner[len(bare) :]
        if not one.untouched:
            return f"{result}{one.open}{bare}{one.close}{space}"
        if one.end > one.start and begin == end:  # its words are gone: it is one more
            result += " " if result and not result.endswith(tuple(SPACES)) else ""
            space = " " if end < len(self._target) and self._target[end][:1].isalnum() else ""
        return f"{result}{one.open}{space}"

    def _interval(
        self, one: Element, left: int, right: int, outer: frozenset[int]
    ) -> tuple[int, int]:
        words = self.words(one)
        if not words or one.start == one.end:
            return self._before(one.start, left, right, outer)
        if words == outer:
            return left, right
        best, begin, total = (0, left, left), left, 0
        for target in range(left, right):
            if total <= 0:
                begin, total = target, 0
            sources = self._sources[target]
            total += 1 if sources & words else -bool(sources)
            if total > best[0]:
                best = total, begin, target + 1
        _, begin, end = best
        if begin == end:  # nothing was made of its words: the word that is nearest to them
            near = [self._likeliest.get(word, -1) for word in sorted(words)]
            begin = next((target for target in near if left <= target < right), -1)
            if begin < 0:
                return self._before(one.start, left, right, outer)
            end = begin + 1
        return begin, end

    def _before(self, start: int, left: int, right: int, outer: frozenset[int]) -> tuple[int, int]:
        """An empty interval before the target of the first source word from `start` on."""
        if start <= min((self._spans[word][0] for word in outer), default=start):
            return left, left
        for word in sorted(outer):
            if self._spans[word][0] >= start:
                for target in range(left, right):
                    if word in self._sources[target]:
                        return target, target
        return right, right

    def words(self, one: Element) -> frozenset[int]:
        """The source words that an element holds, or a part of."""
        return frozenset(
            word
            for word, (start, end) in enumerate(self._spans)
            if start < one.end and end > one.start
        )

    def _text(self, begin: int, end: int) -> str:
        return escape("".join(self._target[begin:end]))
