"""Out to CTranslate2: a model folder for its Translator, and lines translated by it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import torch
from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES
from jaxtyping import Float
from torch import Tensor

from calque.checkpoint import RECIPE, TOKENIZER, RunFolder, refuse_occupied
from calque.config import CalqueError, choose, read_toml
from calque.decoding.config import DecodingConfig
from calque.decoding.hypothesis import LONGER_THAN_SOURCE, length_penalties
from calque.evaluation.metrics import bleu
from calque.interchange.ctranslate2_spec import EXPRESSED, make_spec, names
from calque.interchange.equivalence import (
    held_out,
    our_log_probs,
    require_equal,
    validation_pairs,
)
from calque.interchange.expressible import require_expressible
from calque.models.transformer import Transformer
from calque.recipe import make_recipe
from calque.text.batching import Batch
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import batches, windows
from calque.writing import whole_folder

FULL = "float32"
QUANTIZATIONS = tuple(name for name in ACCEPTED_MODEL_TYPES if name != FULL)
"""Names of CTranslate2's ways to make weights smaller. A processor that cannot compute in one
computes in the next wider type that it can."""


@dataclass(frozen=True)
class BleuChange:
    """BLEU on a run's validation pairs, all translated by CTranslate2."""

    before: float
    """In float32."""
    after: float
    """With quantised weights."""
    pairs: int


@dataclass(frozen=True)
class CTranslate2Export:
    """What an export came to."""

    folder: Path
    difference: float
    """Largest difference of its log-probabilities in float32 from ours, in nats."""
    bleu: BleuChange | None
    """None where nothing was quantised, or the run's validation data cannot be read."""


class CTranslate2Engine:
    """Lines to lines by an export; the search is CTranslate2's.

    Its beam ends a sentence with `beam_size` finished targets, where ours goes on while one that is
    unfinished stands better than the worst. It ranks by log-probability / |Y|^α, EOS counted only
    where it is returned; what it found is then ranked by our own length normalisation.
    """

    def __init__(
        self, folder: Path, decoding: DecodingConfig | None = None, *, device: str = "cpu"
    ) -> None:
        """Load an export; `decoding` is that of the run's recipe where it is None.

        Raises CalqueError when the folder is no export of ours.
        """
        recipe = make_recipe(read_toml(folder / RECIPE), str(folder / RECIPE))
        self.decoding = decoding or recipe.decoding
        self.tokenizers = Tokenizers.load(recipe.tokenizer, folder / TOKENIZER)
        self.translator = ctranslate2.Translator(str(folder), device)
        self._source_names = names(self.tokenizers.source)
        target_names = names(self.tokenizers.target)
        self._target_ids = {name: i for i, name in enumerate(target_names)}
        special = self.tokenizers.special
        self._never = [[target_names[i]] for i in sorted({special.pad, special.bos})]

    def translate(self, lines: Sequence[str]) -> list[str]:
        """The best translation of each line; an empty line stays empty."""
        ids = self.tokenizers.source.encode(lines)
        texts = [""] * len(lines)
        wanted = [row for row, line in enumerate(lines) if line.strip()]
        wanted.sort(key=lambda row: len(ids[row]), reverse=True)
        for rows in batches(wanted, ids):
            found = self._search([[self._source_names[i] for i in ids[row]] for row in rows])
            for row, text in zip(rows, self.tokenizers.target.decode(found), strict=True):
                texts[row] = text
        return texts

    def stream(self, lines: Iterable[str]) -> Iterator[str]:
        """As `translate`, for any number of lines: in order, holding a few thousand at a time."""
        for window in windows(lines):
            yield from self.translate(window)

    def _search(self, sources: list[list[str]]) -> list[list[int]]:
        """Target ids of sources, the longest of which is the first."""
        limits = [
            min(len(source) + 1 + LONGER_THAN_SOURCE, self.decoding.max_length)
            for source in sources
        ]
        size = self.decoding.beam_size if self.decoding.search == "beam" else 1
        try:
            results = self.translator.translate_batch(
                sources,
                beam_size=size,
                num_hypotheses=size,
                length_penalty=self.decoding.length_penalty,
                return_scores=True,
                return_end_token=True,  # its length then counts EOS, as ours does
                min_decoding_length=0,
                max_decoding_length=limits[0] + 1,
                max_input_length=0,
                suppress_sequences=self._never,
            )
        except RuntimeError as error:
            raise CalqueError(
                f"CTranslate2: {error}; the longest text here has {len(sources[0])} tokens"
            ) from None
        penalties = length_penalties(torch.tensor(limits), self.decoding).tolist()
        found = zip(results, limits, strict=True)
        return [self._best(result, penalties)[:limit] for result, limit in found]

    def _best(self, result: Any, penalties: Sequence[float]) -> list[int]:
        """The ids of what our length penalty makes the best of a search's hypotheses."""

        def score(rank: int) -> float:
            length = len(result.hypotheses[rank])
            log_prob = result.scores[rank] * length**self.decoding.length_penalty
            return log_prob / penalties[length]

        best = max(range(len(result.hypotheses)), key=score)
        return [self._target_ids[name] for name in result.hypotheses[best]]


def export_ctranslate2(
    run: RunFolder, folder: Path, quantization: str | None = None
) -> CTranslate2Export:
    """Write a run's model as CTranslate2's, with our recipe and tokenizer beside it.

    `quantization` is a name in QUANTIZATIONS, or None for float32. The folder appears only when
    the log-probabilities in float32, before any quantisation, are ours. Raises CalqueError when
    they are not, when `folder` is occupied, and for a part that CTranslate2 does not have.
    """
    if quantization is not None:
        choose("quantization", quantization, dict.fromkeys(QUANTIZATIONS))
    require_expressible(run.recipe.model, EXPRESSED, "CTranslate2")
    refuse_occupied(folder)
    model: Any = run.load_model().eval()
    with whole_folder(folder.resolve()) as part:
        (part / RECIPE).write_text(run.recipe.to_toml(), encoding="utf-8")
        (part / TOKENIZER).mkdir()
        run.tokenizers.save(part / TOKENIZER)
        _save(run, model, part, FULL)
        batch = held_out(run)
        theirs = _log_probs(part, run.tokenizers, batch)
        difference = require_equal(our_log_probs(model, batch), theirs, "CTranslate2")
        change = None
        if quantization is not None:
            pairs = validation_pairs(run)
            before = _bleu(run, part, pairs) if pairs else 0.0
            _save(run, model, part, quantization)
            change = BleuChange(before, _bleu(run, part, pairs), len(pairs)) if pairs else None
    return CTranslate2Export(folder, difference, change)


def _save(run: RunFolder, model: Transformer, folder: Path, quantization: str) -> None:
    spec = make_spec(run, model)
    spec.optimize(quantization)
    spec.save(str(folder))


def _log_probs(folder: Path, tokenizers: Tokenizers, batch: Batch) -> Float[Tensor, " tokens"]:
    """What an export gives to each target token of a batch, as `our_log_probs`."""
    special = tokenizers.special
    # CTranslate2 itself adds what sources end with, and what targets begin and end with.
    sources, targets = (
        [[vocabulary[i] for i in row if i not in (special.pad, special.eos)] for row in ids]
        for vocabulary, ids in (
            (names(tokenizers.source), batch.source.tolist()),
            (names(tokenizers.target), batch.target[:, 1:].tolist()),
        )
    )
    translator = ctranslate2.Translator(str(folder), compute_type=FULL)
    results = translator.score_batch(sources, targets, max_input_length=0)
    return torch.tensor([log_prob for result in results for log_prob in result.log_probs])


def _bleu(run: RunFolder, folder: Path, pairs: Sequence[tuple[str, str]]) -> float:
    sources, references = zip(*pairs, strict=True)
    hypotheses = CTranslate2Engine(folder).translate(sources)
    return bleu(hypotheses, references, run.recipe.data.target_language)
