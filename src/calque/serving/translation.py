"""Whole texts and documents, through the sentences that a run translates."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from calque.serving.batcher import Found
from calque.serving.limits import Refused
from calque.serving.loaded import Linked
from calque.serving.markup import Paragraph, escape, parse
from calque.serving.placement import place
from calque.serving.runs import Run
from calque.serving.sentences import Split, split
from calque.text.corpus.pair import one_line


@dataclass(frozen=True)
class Translated:
    """A text, cut into sentences, and what was found for each."""

    cut: Split
    found: list[Found]
    language: str
    """Of the translation."""

    @property
    def text(self) -> str:
        """The best translation."""
        return self._ranked(0)

    @property
    def linked(self) -> list[Linked]:
        """Each sentence and its best translation, word by word, if that was asked for."""
        return [one.linked for one in self.found if one.linked]

    def alternatives(self, number: int) -> list[str]:
        """Up to `number` other ones: of each sentence the next best, as far as there are any."""
        ranks = max((len(found.n_best) for found in self.found), default=1)
        ranked = dict.fromkeys(map(self._ranked, range(ranks)))
        return list(ranked)[1 : number + 1]

    def _ranked(self, rank: int) -> str:
        lines = [one_line(f.n_best[min(rank, len(f.n_best) - 1)].text) for f in self.found]
        return self.cut.join(lines, self.language)


async def translate_texts(
    run: Run, texts: Sequence[str], linked: Sequence[bool]
) -> list[Translated]:
    """Each of some plain texts, with the words of those for which `linked` is true.

    Raises Refused when too much is waiting.
    """
    run.batcher.admit()  # at once: to cut a text takes longer than to refuse it
    loaded = run.loaded
    encode = loaded.translator.tokenizers.source.encode
    cuts = [
        split(text, run.source, lambda s: len(encode([s])[0]) <= loaded.max_length)
        for text in texts
    ]
    sentences = [sentence for cut in cuts for sentence in cut.sentences]
    words = [of_text for cut, of_text in zip(cuts, linked, strict=True) for _ in cut.sentences]
    found = iter(await run.batcher.translate(sentences, words))
    return [Translated(cut, list(islice(found, len(cut.sentences))), run.target) for cut in cuts]


async def translate_documents(run: Run, documents: Sequence[str]) -> list[str]:
    """Each of some HTML documents, or parts of one.

    Raises Refused for what is no HTML, and when too much is waiting.
    """
    run.batcher.admit()  # at once, as in `translate_texts`
    try:
        parsed = [parse(document) for document in documents]
    except ValueError:
        raise Refused(400, "Invalid request: q cannot be read as HTML") from None
    paragraphs = [part for parts in parsed for part in parts if isinstance(part, Paragraph)]
    found = await translate_texts(
        run, [one.text for one in paragraphs], [bool(one.elements) for one in paragraphs]
    )
    done: dict[int, str] = {}
    for paragraph, translated in zip(paragraphs, found, strict=True):
        done[id(paragraph)] = (
            place(paragraph, whole(translated))
            if paragraph.elements
            else paragraph.before + escape(translated.text) + paragraph.after
        )
    return [
        "".join(part if isinstance(part, str) else done[id(part)] for part in parts)
        for parts in parsed
    ]


def whole(translated: Translated) -> Linked:
    """The sentences of a text as one, with the white space around them."""
    cut = translated.cut
    spaces = list(cut.pieces(cut.sentences, translated.language))[::2]
    source, target = [cut.spaces[0]], [spaces[0]]
    links: list[tuple[int, int]] = []
    likeliest: dict[int, int] = {}
    for one, before, after in zip(translated.linked, cut.spaces[1:], spaces[1:], strict=True):
        links += [(t + len(target), s + len(source)) for t, s in one.links]
        likeliest |= {s + len(source): t + len(target) for s, t in one.likeliest.items()}
        source += [*one.source[:-1], one.source[-1] + before]
        target += [*one.target[:-1], (one.target or [""])[-1] + after]
    return Linked(source, target, links, likeliest)
