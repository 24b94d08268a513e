"""How good a model is on the validation pairs."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from calque.config import CalqueError
from calque.evaluation.metrics import bleu
from calque.losses.projected import projected_loss
from calque.models.build import Model
from calque.recipe import Recipe
from calque.text.batching import collate, plan
from calque.text.store import TokenStore
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import Translator


@dataclass(frozen=True)
class Validation:
    """Scores on the validation pairs."""

    loss: float
    """Cross-entropy in nats per target token, without label smoothing."""
    bleu: float
    """As `calque evaluate` gives it for the same pairs."""

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))


@torch.inference_mode()
def validate(model: Model, store: TokenStore, tokenizers: Tokenizers, recipe: Recipe) -> Validation:
    """Loss, in float32, and BLEU of the model as it is now, without dropout.

    Raises CalqueError when the loss is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    cross_entropy, tokens = 0.0, 0
    for rows in plan(store.lengths, recipe.training.batch_tokens, seed=0, epoch=0):
        batch = collate(store, rows, tokenizers.special)
        source, target = batch.source.to(device), batch.target.to(device)
        tree = None if batch.tree is None else batch.tree.to(device)
        memory: Any = model.encode(source, tree)  # each family has its own
        past: Any = model.start(memory)
        features = model.features(target[:, :-1], memory, past)
        labels = target[:, 1:]
        real = labels != model.config.pad_id
        loss = projected_loss(features[real], *model.output_weights, labels[real], 0.0)
        cross_entropy += float(loss.cross_entropy)
        tokens += batch.num_tokens
    if not math.isfinite(cross_entropy):
        raise CalqueError("the validation loss is not finite; lower training.learning_rate")
    sources, references = zip(*store.texts(np.arange(len(store))), strict=True)
    hypotheses = Translator(model, tokenizers, recipe.decoding).translate(sources)
    score = bleu(hypotheses, references, recipe.data.target_language)
    return Validation(cross_entropy / tokens, score)
