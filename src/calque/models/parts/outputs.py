"""Outputs: from features to logits."""

import torch
from torch import nn

from calque.models.transformer import Output, TransformerConfig


class BiasedOutput(Output):
    """A bias for each word of the vocabulary, as in Marian: how frequent a word is by itself."""

    def __init__(self, config: TransformerConfig, /) -> None:
        super().__init__(config)
        self.bias = nn.Parameter(torch.zeros(config.target_vocab_size))


OUTPUTS: dict[str, type[Output]] = {"tied": Output, "biased": BiasedOutput}
