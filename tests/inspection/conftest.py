"""A small model, freshly initialised, of any family and parts, with tokenizers that fit it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from calque.decoding.config import DecodingConfig
from calque.models.build import FAMILIES, build
from calque.text.tokenizers.interface import TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import Translator

PAIRS = [
    ("The old man opens the door.", "Der alte Mann öffnet die Tür."),
    ("A small cat sleeps in the house.", "Eine kleine Katze schläft im Haus."),
    ("The house is old and small.", "Das Haus ist alt und klein."),
    ("Where does the man sleep?", "Wo schläft der Mann?"),
]
SIZE = {"bpe": 320, "unigram": 300, "wordpiece": 80, "characters": 30, "words": 30}


@pytest.fixture(autouse=True)
def trees(random_trees: None) -> None:
    """See `random_trees`."""


def model_of(
    tokenizers: Tokenizers,
    vocabulary: str = "joint",
    path: str = "plain",
    family: str = "transformer",
    **parts: str | int,
) -> nn.Module:
    torch.manual_seed(1)
    sizes: dict[str, str | int] = {"num_encoder_layers": 2, "num_decoder_layers": 2, "d_model": 32}
    if family == "transformer":
        sizes |= {"d_ff": 48, "num_heads": 4}
    config = FAMILIES[family].config(**sizes | parts)
    size = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    return build(config, *size, vocabulary=vocabulary, attention=path).eval()


@pytest.fixture(scope="session")
def make_model() -> Callable[..., nn.Module]:
    return model_of


@pytest.fixture(scope="session")
def train_tokenizers() -> Callable[..., Tokenizers]:
    """Of a kind, learnt from PAIRS."""

    def train(kind: str = "bpe", vocabulary: str = "joint") -> Tokenizers:
        config = TokenizerConfig(kind=kind, vocab_size=SIZE[kind], vocabulary=vocabulary)
        return Tokenizers.train(config, lambda: PAIRS)

    return train


@pytest.fixture(scope="session")
def make_translator(train_tokenizers: Callable[..., Tokenizers]) -> Callable[..., Translator]:
    """A translator of a new model; what is named is of its decoding, tokenizer or model."""

    def make(
        kind: str = "bpe",
        vocabulary: str = "joint",
        search: str = "beam",
        beam_size: int = 3,
        length_penalty: float = 1.0,
        **model: str | int,
    ) -> Translator:
        tokenizers = train_tokenizers(kind, vocabulary)
        decoding = DecodingConfig(
            search=search,
            beam_size=beam_size,
            length_penalty=length_penalty,
            max_length=12,
            precision="float32",
        )
        return Translator(model_of(tokenizers, vocabulary, **model), tokenizers, decoding)

    return make
