"""BPE and unigram subwords by SentencePiece (arXiv:1808.06226), with byte fallback."""

import io
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import sentencepiece

from calque.config import CalqueError
from calque.text.tokenizers.errors import vocab_size_error
from calque.text.tokenizers.excerpt import MAX_LINE, excerpt
from calque.text.tokenizers.interface import BOS, EOS, PAD, UNK, UNKNOWN, SpecialIds

# Untyped: sentencepiece gives its classes their Python names when it is imported.
_LIBRARY: Any = sentencepiece
_SEED_LOCK = threading.Lock()
LANGUAGE_CODE = re.compile(">>.*?<<", re.DOTALL)


class SentencePiece:
    """What BPE and unigram share: all but the algorithm.

    Decoding an encoded line gives the line, spaces included and whatever its characters: those
    without an entry of their own become the bytes of their UTF-8. The one exception is "▁"
    (U+2581), SentencePiece's own mark for a space, which comes back as a space.

    A model that was imported may normalise the text first, and its vocabulary may have entries that
    it does not cut text into: the other language's, and codes of languages. Such a code, as in
    ">>fra<< A dog.", is one token where a line begins with it. Unknown characters that are an entry
    of the other language are that entry.
    """

    suffix: ClassVar[str] = ".model"
    algorithm: ClassVar[str]

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = _LIBRARY.SentencePieceProcessor(model_proto=model)
        pieces = self.pieces(range(self.vocab_size))
        self._unused = {p: i for i, p in enumerate(pieces) if self._processor.is_unused(i)}
        self._has_codes = any(map(LANGUAGE_CODE.fullmatch, self._unused))

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int) -> Self:
        """Learn a vocabulary from at most `excerpt.MAX_BYTES` of text; see `Tokenizer.train`."""
        model = io.BytesIO()
        try:
            _LIBRARY.SentencePieceTrainer.train(
                sentence_iterator=iter(excerpt(lines)),
                model_writer=model,
                model_type=cls.algorithm,
                vocab_size=vocab_size,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                unk_surface=UNKNOWN,
                byte_fallback=True,
                # A number is spelled out, so that copying it is the same task for every number.
                split_digits=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                max_sentence_length=4 * MAX_LINE,
                # Unigram's sums depend on how many threads share them: fixed, not one per core.
                num_threads=4,
                minloglevel=2,
            )
        except RuntimeError as error:
            possible = re.search(r"(?:a value <=|required_chars\. \d+ vs) (\d+)", str(error))
            if possible is None:
                raise
            raise vocab_size_error(vocab_size, int(possible[1])) from None
        return cls(model.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """See `Tokenizer.load`."""
        model = path.read_bytes()
        try:
            if not model:  # SentencePiece would take it, and crash later
                raise ValueError
            tokenizer = cls(model)
        except (RuntimeError, ValueError):
            raise CalqueError(f"{path}: not a SentencePiece model, or damaged") from None
        special = tokenizer.special
        if min(special.pad, special.unk, special.eos) < 0:
            raise CalqueError(f"{path}: has no entry for padding, for unknown or for the end")
        return tokenizer

    def save(self, path: Path) -> None:
        """Write SentencePiece's own format."""
        path.write_bytes(self._model)

    @property
    def vocab_size(self) -> int:
        """Entries, with the four special ones and the 256 bytes."""
        return self._processor.vocab_size()

    @property
    def special(self) -> SpecialIds:
        """As the model says; without one to begin with, texts begin with padding."""
        ask = self._processor
        bos = ask.bos_id() if ask.bos_id() >= 0 else ask.pad_id()
        return SpecialIds(pad=ask.pad_id(), unk=ask.unk_id(), bos=bos, eos=ask.eos_id())

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        return self._after_codes(lines, self._cut)

    def ends(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.ends`; a character that is cut into bytes ends with the last of them.

        Of a vocabulary without codes of languages.
        """
        cut = self._processor.encode(list(lines), out_type="immutable_proto")
        return [[piece.end for piece in line.pieces] for line in cut]

    def sample(self, lines: Sequence[str], strength: float, seed: int) -> list[list[int]]:
        """See `Tokenizer.sample`: BPE-dropout, or unigram sampling over all segmentations."""
        # SentencePiece draws from a generator per thread, which takes the process's seed when the
        # thread first draws. num_threads=1 is one new thread per call, hence a new generator.
        # (Its versions 0.2.2 and 0.2.3 mix in something of the process: see pyproject.toml.)
        with _SEED_LOCK:
            # The largest 32-bit seed stands for "a random one".
            _LIBRARY.set_random_generator_seed(seed % (2**32 - 1))
            sampled = partial(
                self._processor.encode,
                enable_sampling=True,
                alpha=strength,
                nbest_size=-1,
                num_threads=1,
            )
            return self._after_codes(lines, sampled)

    def _cut(self, lines: list[str]) -> list[list[int]]:
        rows = self._processor.encode(lines)
        unknown = self.special.unk
        for row, line in zip(rows, lines, strict=True) if self._unused else ():
            if unknown in row:
                pieces = self._processor.encode(line, out_type=str)
                row[:] = [
                    self._unused.get(piece, unknown) if i == unknown else i
                    for piece, i in zip(pieces, row, strict=True)
                ]
        return rows

    def _after_codes(
        self, lines: Sequence[str], cut: Callable[[list[str]], list[list[int]]]
    ) -> list[list[int]]:
        """The ids of lines, of which `cut` gets all but the codes at their beginnings."""
        if not self._has_codes:
            return cut(list(lines))
        codes = [match and match[0] for match in map(LANGUAGE_CODE.match, lines)]
        rows = cut([line.removeprefix(code or "") for code, line in zip(codes, lines, strict=True)])
        unknown = self.special.unk
        return [
            [self._unused.get(code, unknown), *row] if code else row
            for code, row in zip(codes, rows, strict=True)
        ]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """See `Tokenizer.decode`."""
        return [self._processor.decode(list(row)) for row in ids]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each id as text: "▁" is a space, and <0x41> the byte 0x41."""
        return self._processor.id_to_piece(list(ids))


class BPE(SentencePiece):
    """Byte-pair encoding: merge the most frequent pair, again and again (arXiv:1508.07909)."""

    algorithm = "bpe"


class Unigram(SentencePiece):
    """The segmentation that is likeliest under a unigram language model (arXiv:1804.10959)."""

    algorithm = "unigram"
