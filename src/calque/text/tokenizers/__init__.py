"""Tokenizers: text to token ids and back. `TOKENIZERS` turns a name into a class."""

from calque.text.tokenizers.frequent import Characters, Words
from calque.text.tokenizers.interface import Tokenizer
from calque.text.tokenizers.sentence_piece import BPE, Unigram
from calque.text.tokenizers.word_piece import WordPiece

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "bpe": BPE,
    "unigram": Unigram,
    "wordpiece": WordPiece,
    "characters": Characters,
    "words": Words,
}
