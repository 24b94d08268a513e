"""WordPiece subwords (arXiv:1609.08144 §4.1) by the tokenizers library."""

from collections.abc import Iterable, Sequence
from typing import Self

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from calque.text.tokenizers.errors import vocab_size_error
from calque.text.tokenizers.excerpt import excerpt
from calque.text.tokenizers.interface import BOS, EOS, PAD, SPECIALS, UNK, UNKNOWN
from calque.text.tokenizers.listed import Listed

_CONTINUES = "##"
_MAX_WORD = 1000


class WordPiece(Listed):
    """Greedy longest pieces of each word; "##" marks those that continue one.

    As in BERT (arXiv:1810.04805), punctuation marks, symbols and Han characters are words of their
    own, and a word with a character never seen is unknown as a whole. Unlike there, case and
    accents are kept, and a word has the space before it as its first character: so decoding an
    encoded line gives the line, spaces included, if all its words are known.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        super().__init__(entries)
        self._tokenizer = _tokenizer({entry: i for i, entry in enumerate(self._entries)})

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int) -> Self:
        """Learn a vocabulary from at most `excerpt.MAX_BYTES` of text; see `Tokenizer.train`."""
        text = excerpt(lines)
        tokenizer = _tokenizer({})
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            # The trainer numbers continuing characters in random order, and breaks ties by
            # number: as "special tokens" they are numbered before, in the order given.
            special_tokens=[*SPECIALS, *_continuing_characters(tokenizer, text)],
            show_progress=False,
        )
        tokenizer.train_from_iterator(text, trainer)
        if tokenizer.get_vocab_size() != vocab_size:
            raise vocab_size_error(vocab_size, tokenizer.get_vocab_size())
        ids = tokenizer.get_vocab()
        return cls(sorted(ids, key=lambda entry: ids[entry])[len(SPECIALS) :])

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(lines))]

    def ends(self, lines: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.ends`."""
        encodings = self._tokenizer.encode_batch(list(lines))
        return [[end for _, end in encoding.offsets] for encoding in encodings]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """See `Tokenizer.decode`."""
        return [self._text(row).removeprefix(" ") for row in ids]

    def _text(self, ids: Sequence[int]) -> str:
        text = ""
        for i in ids:
            if i == UNK:
                # An unknown word has taken its space with it; most words have one.
                text = text.removesuffix(" ") + " " + UNKNOWN
            elif i not in (PAD, BOS, EOS):
                text += self._entries[i].removeprefix(_CONTINUES)
        return text


def _tokenizer(ids: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(ids, unk_token=SPECIALS[UNK], max_input_chars_per_word=_MAX_WORD)
    )
    # The first word gets a space too: it is the same word there as inside a line.
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{P}\p{S}\p{Han}]"), "isolated"),
            pre_tokenizers.Split(" ", "merged_with_next"),
        ]
    )
    return tokenizer


def _continuing_characters(tokenizer: Tokenizer, text: list[str]) -> list[str]:
    split = tokenizer.pre_tokenizer.pre_tokenize_str
    characters = sorted(set().union(*text))
    return [_CONTINUES + c for c in characters if len(split(f"x{c}")) == 1]
