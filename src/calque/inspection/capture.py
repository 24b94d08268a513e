"""All that can be seen of a model while it translates one sentence."""

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calque.config import CalqueError
from calque.decoding.prefix import search_from
from calque.inspection.attention import KINDS, by_heads, captured, kind_of, plain
from calque.inspection.measures import Alignment, Head, align, measure
from calque.inspection.pages import framed, page
from calque.inspection.rounding import DIGITS, numbers, rounded
from calque.inspection.tree import Recorder, Tree
from calque.inspection.words import Word, words
from calque.translator import Translation, Translator

ALTERNATIVES = 5
LONGEST = 256  # source pieces: attention grows with their square, and so does the page


@dataclass(frozen=True)
class Alternative:
    """Another token in the place of one that was chosen."""

    piece: str
    log_prob: float
    """In nats."""


@dataclass(frozen=True)
class Look:
    """A line, its translation, and how the model came to it. Shows itself in a notebook.

    The translation and `tree` are those of the search. All else is of one pass over source and
    translation, in float32: what follows each target position, given all tokens up to it.
    """

    line: str
    source: list[str]
    """Pieces, with the end of the sentence."""
    target: list[str]
    """Pieces that were predicted, with the end of the sentence."""
    begin: str
    """The piece that the target begins with; what is read to predict `target[i]` ends with
    `[begin, *target][i]`."""
    source_words: list[Word]
    target_words: list[Word]
    translation: Translation
    weights: dict[str, Float[Tensor, "heads query key"]]
    """By module name, such as `decoder.0.cross_attention`. A query of the decoder is the position
    that predicts a target piece; a key is a source piece, or of decoder self-attention a piece that
    was read: first `begin`, then `target` without its last. Empty for a model without attention."""
    log_probs: Float[Tensor, " target"]
    """Of each target piece, in nats."""
    alternatives: list[list[Alternative]]
    """For each target piece the likeliest others, best first."""
    tree: Tree

    def attention(self, kind: str) -> list[Float[Tensor, "heads query key"]]:
        """The layers of one of KINDS: encoder, decoder or cross."""
        sides = {
            "encoder": (len(self.source), len(self.source)),
            "decoder": (len(self.target), len(self.target)),
            "cross": (len(self.target), len(self.source)),
        }
        of_kind = [tensor for name, tensor in self.weights.items() if kind_of(name) == kind]
        return [tensor for tensor in of_kind if tensor.shape[1:] == sides[kind]]

    @cached_property
    def heads(self) -> list[Head]:
        """The habits of every head."""
        return [
            head
            for kind in KINDS
            for layer, weights in enumerate(self.attention(kind))
            for head in measure(kind, layer, weights)
        ]

    @cached_property
    def alignment(self) -> Alignment | None:
        """Words of the translation with those of the source; see `align`."""
        return align(self.attention("cross"), self.target_words, self.source_words)

    def to_json(self) -> dict[str, Any]:
        """All of it as an object of JSON: docs/looking-inside.md has its keys."""
        won, alignment = self.tree.winners(), self.alignment
        return {
            "source": {
                "text": self.line,
                "pieces": self.source,
                "words": [asdict(word) for word in self.source_words],
            },
            "target": {
                "text": self.translation.text,
                "score": round(self.translation.score, DIGITS),
                "pieces": self.target,
                "read": [self.begin, *self.target[:-1]],
                "words": [asdict(word) for word in self.target_words],
                "log_probs": numbers(self.log_probs),
                "alternatives": [rounded(of_token) for of_token in self.alternatives],
            },
            "attention": {k: [numbers(layer) for layer in self.attention(k)] for k in KINDS},
            "heads": rounded(self.heads),
            "alignment": alignment
            and {
                "layer": alignment.layer,
                "weights": numbers(alignment.weights),
                "links": alignment.links,
            },
            "beam": {
                "nodes": [n | {"won": i in won} for i, n in enumerate(rounded(self.tree.nodes))],
                "ends": rounded(self.tree.ends),
            },
        }

    def to_html(self) -> str:
        """A page by itself, which needs no network."""
        return page(self.to_json())

    def _repr_html_(self) -> str:
        return framed(self.to_html())


@torch.inference_mode()
def look(translator: Translator, line: str, beginning: Sequence[int] = ()) -> Look:
    """The best translation of a line, and how the model comes to it.

    It is the translation that `Translator.translate` gives; or, of those that begin with the tokens
    of `beginning`, the best by a search in float32. Raises CalqueError for a line of more than
    LONGEST tokens, and for a beginning that no translation has.
    """
    sides, config = translator.tokenizers, translator.model.config
    (line,) = translator.parsed([line])
    (ids,) = sides.source.encode([line])
    if len(ids) > LONGEST:
        raise CalqueError(
            f"a sentence of {len(ids):,} tokens is too long to look at; at most {LONGEST}"
        )
    found, tree = _begun(translator, line, beginning) if beginning else _traced(translator, line)
    tokens = found[0].hypothesis.tokens
    begin, end = sides.target.pieces([config.bos_id, config.eos_id])
    source, target = [*ids, config.eos_id], [*tokens, config.eos_id]
    weights, log_probs = _pass(translator, line, [config.bos_id, *tokens])
    likeliest = log_probs.clone()
    likeliest[:, [config.pad_id, config.bos_id]] = -torch.inf  # they never follow
    likeliest[torch.arange(len(target)), target] = -torch.inf
    return Look(
        line=line,
        source=sides.source.pieces(source),
        target=sides.target.pieces(target),
        begin=begin,
        source_words=words(sides.source, ids, end),
        target_words=words(sides.target, tokens, end),
        translation=found[0],
        weights=weights,
        log_probs=log_probs[torch.arange(len(target)), target],
        alternatives=_alternatives(translator, likeliest),
        tree=tree,
    )


def _traced(translator: Translator, line: str) -> tuple[list[Translation], Tree]:
    """What the translator finds for a line, and the prefixes that its search tried."""
    traced: Any = copy(translator)  # its search is of another type now
    pieces = translator.tokenizers.target.pieces
    recorder = traced._searched = Recorder(translator._searched, pieces, translator.decoding)
    (found,) = traced.n_best([line])
    return found, _tree(recorder, found)


def _begun(
    translator: Translator, line: str, beginning: Sequence[int]
) -> tuple[list[Translation], Tree]:
    """As `_traced`, among the translations that begin as told."""
    config, pieces = translator.model.config, translator.tokenizers.target.pieces
    special = config.pad_id, config.bos_id, config.eos_id
    for token in beginning:
        if token in special or not 0 <= token < config.target_vocab_size:
            raise CalqueError(f"beginning: no token of a translation has the id {token}")
    model = translator.with_trees(plain(translator.model), [line])
    recorder = Recorder(model, pieces, translator.decoding)
    source = translator._source(translator.tokenizers.source.encode([line]))
    prefix = torch.tensor([beginning], device=source.device)
    (hypotheses,) = search_from(translator.search, recorder, source, prefix, translator.decoding)
    found = translator._translations(hypotheses)
    return found, _tree(recorder, found)


def _tree(recorder: Recorder, found: Sequence[Translation]) -> Tree:
    return recorder.tree([one.hypothesis for one in found], [one.text for one in found])


def _pass(
    translator: Translator, line: str, target: list[int]
) -> tuple[dict[str, Tensor], Float[Tensor, "target vocab"]]:
    """Attention of all target positions at once, and what may follow each of them."""
    model = plain(translator.model)
    source = translator._source(translator.tokenizers.source.encode([line]))
    with captured(model) as calls:
        seen = translator.with_trees(model, [line])
        logits = seen(source, torch.tensor([target], device=source.device))
    weights = {name: by_heads(of_name).float().cpu() for name, of_name in calls.items()}
    return weights, logits[0].float().log_softmax(dim=-1).cpu()


def _alternatives(
    translator: Translator, log_probs: Float[Tensor, "target vocab"]
) -> list[list[Alternative]]:
    best = log_probs.topk(min(ALTERNATIVES, log_probs.size(1)))
    pieces = translator.tokenizers.target.pieces
    return [
        [
            Alternative(piece, value)
            for piece, value in zip(pieces(row), values, strict=True)
            if value != -torch.inf
        ]
        for row, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
