"""A run folder in memory, and what is computed with it beside plain translation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, inf
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.decoding.prefix import check_prefix, likeliest_after, search_from
from calque.inspection.attention import by_heads, captured, kind_of, plain
from calque.inspection.measures import align
from calque.inspection.words import Word, words
from calque.models.build import Model, attention_for
from calque.translator import Translation, Translator, batches

CANDIDATES = 32  # tokens that are looked at for the next word
LINKED_TOKENS = 1024
"""Of source or target, padding counted, that are linked at once: the attention of all layers is in
memory, and grows with the square of a sentence."""


@dataclass(frozen=True)
class Linked:
    """A sentence and its translation, word by word."""

    source: list[str]
    """Words, each with the white space after it: joined, they are the sentence."""
    target: list[str]
    links: list[tuple[int, int]]
    """Places in `target` and in `source` of words that belong together."""
    likeliest: dict[int, int] = field(default_factory=dict)
    """For a place in `source` the one in `target` that attended to it most."""


@dataclass(frozen=True)
class Alternative:
    """Another way to go on from a given beginning."""

    probability: float
    """Of its first token."""
    beginning: list[int]
    """The tokens up to that one."""
    translation: Translation


@dataclass(frozen=True)
class Loaded:
    """What a run folder held when it was loaded."""

    pair: tuple[str, str]
    """The languages of source and target, as its recipe names them."""
    max_length: int
    """Source tokens of the longest sentence that it was trained on."""
    translator: Translator
    plain: Model
    """The same model on the path where attention can be captured; only for one thread at a time."""

    @torch.inference_mode()
    def link(self, lines: Sequence[str], translations: Sequence[Translation]) -> list[Linked]:
        """Which words of each translation belong to which of its line, as cross-attention tells."""
        lines = self.translator.parsed(lines)
        ids = self.translator.tokenizers.source.encode(lines)
        tokens = [translation.hypothesis.tokens for translation in translations]
        longest = [max(both, key=len) for both in zip(ids, tokens, strict=True)]
        rows = sorted(range(len(lines)), key=lambda row: len(longest[row]), reverse=True)
        linked: dict[int, Linked] = {}
        for batch in batches(rows, longest, LINKED_TOKENS):
            cross = self._cross_attention(
                [lines[row] for row in batch],
                [ids[row] for row in batch],
                [tokens[row] for row in batch],
            )
            for row, of_row in zip(batch, cross, strict=True):
                linked[row] = self._linked(lines[row], ids[row], translations[row], of_row)
        return [linked[row] for row in range(len(lines))]

    def _cross_attention(
        self, lines: Sequence[str], ids: Sequence[list[int]], tokens: Sequence[Sequence[int]]
    ) -> list[list[Float[Tensor, "heads target source"]]]:
        """Of each line the weights of every layer, without what is padding."""
        config = self.plain.config
        source = self._padded([[*row, config.eos_id] for row in ids])
        target = self._padded([[config.bos_id, *row] for row in tokens])
        with captured(self.plain) as calls:
            self.translator.with_trees(self.plain, lines)(source, target)
        cross = [of_name for name, of_name in calls.items() if kind_of(name) == "cross"]
        return [
            [
                by_heads(of_layer, row)[:, : len(tokens[row]) + 1, : len(ids[row]) + 1]
                for of_layer in cross
            ]
            for row in range(len(lines))
        ]

    def _linked(
        self,
        line: str,
        ids: list[int],
        translation: Translation,
        cross: list[Float[Tensor, "heads target source"]],
    ) -> Linked:
        sides = self.translator.tokenizers
        both = words(sides.source, ids, ""), words(sides.target, translation.hypothesis.tokens, "")
        alignment = align(cross, both[1], both[0])
        likeliest = []
        if alignment and len(both[1]) > 1:
            likeliest = alignment.weights[:-1, :-1].argmax(dim=0).tolist()
        return Linked(
            source=cut(line, both[0][:-1]),
            target=cut(translation.text, both[1][:-1]),
            links=alignment.links if alignment else [],
            likeliest=dict(enumerate(likeliest)),
        )

    @torch.inference_mode()
    def alternatives(self, line: str, prefix: str, number: int) -> list[Alternative]:
        """Up to `number` translations that begin alike and then differ, likeliest first.

        Each goes on with another token, if that leaves the prefix as it is: one that ends with
        a space is not made the first half of a word. Raises CalqueError where it is too long.
        """
        sides = self.translator.tokenizers
        (line,) = self.translator.parsed([line])
        (ids,), (begun,) = sides.source.encode([line]), sides.target.encode([prefix.rstrip()])
        if len(ids) > self.max_length:
            raise CalqueError(f"q: {len(ids)} tokens, of at most {self.max_length} in a sentence")
        # Before the model reads it: token by token, that takes long.
        check_prefix(len(begun) + 1, self.translator.decoding)
        source = torch.tensor([[*ids, self.plain.config.eos_id]], device=self._device)
        model = self.translator.with_trees(self.plain, [line])
        following = self._following(model, source, begun, prefix)[:number]
        if not following:
            return []
        beginnings = [[*begun, token] for token, _ in following]
        found = search_from(
            self.translator.search,
            self.translator.with_trees(self.plain, [line] * len(beginnings)),
            source.expand(len(beginnings), -1),
            torch.tensor(beginnings, device=self._device),
            self.translator.decoding,
        )
        best = [n_best[0] for n_best in found]
        texts = sides.target.decode([one.tokens for one in best])
        return [
            Alternative(probability, beginning, Translation(text, one.score, one))
            for (_, probability), beginning, text, one in zip(
                following, beginnings, texts, best, strict=True
            )
        ]

    def _following(
        self, model: Any, source: Int[Tensor, "batch source"], begun: list[int], prefix: str
    ) -> list[tuple[int, float]]:
        """Tokens that may follow some and leave their text as it is, with their probabilities."""
        start = torch.tensor([begun], dtype=torch.long, device=self._device)
        size = min(CANDIDATES, self.plain.config.target_vocab_size)
        log_probs, tokens = (
            found[0].tolist() for found in likeliest_after(model, source, start, size)
        )
        texts = self.translator.tokenizers.target.decode([[*begun, token] for token in tokens])
        return [
            (token, exp(log_prob))
            for token, log_prob, text in zip(tokens, log_probs, texts, strict=True)
            if text.startswith(prefix) and token != self.plain.config.eos_id and log_prob > -inf
        ]

    def _padded(self, rows: Sequence[list[int]]) -> Int[Tensor, "batch longest"]:
        tensors = [torch.tensor(row, device=self._device) for row in rows]
        return pad_sequence(tensors, batch_first=True, padding_value=self.plain.config.pad_id)

    @property
    def _device(self) -> torch.device:
        return next(self.plain.parameters()).device


def load(path: Path, device: str) -> Loaded:
    """A run folder, ready to translate. Raises CalqueError when it is not one, or not whole."""
    folder = RunFolder(path)
    data = folder.recipe.data
    if not data.source_language or not data.target_language:
        raise CalqueError(
            f"{path}: its recipe names no languages; train with data.source_language and "
            "data.target_language"
        )
    if folder.recipe.model.needs_trees and not data.parser:
        raise CalqueError(
            f"{path}: its positions are structural, and no request has dependency trees; train "
            "with data.parser, which makes them"
        )
    model = folder.load_model(attention_for(torch.device(device))).to(device).eval()
    translator = Translator(model, folder.tokenizers, folder.recipe.decoding, data.parser)
    pair = data.source_language, data.target_language
    return Loaded(pair, data.max_length, translator, plain(model))


def cut(text: str, found: Sequence[Word]) -> list[str]:
    """A text cut before each word that was found in it; joined again, it is the text."""
    if not found:
        return [text]
    starts, place = [], 0
    for word in found:
        start = text.find(word.text, place)
        after = start + len(word.text)
        if start < 0:  # unknown to the tokenizer, or written otherwise
            after = start = place + len(text[place:]) - len(text[place:].lstrip())
        starts.append(start)
        place = after
    starts[0] = 0
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]
