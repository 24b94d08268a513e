"""Validation: the same numbers as the plain way, whatever the batches."""

import pytest
import torch

from calque.config import CalqueError
from calque.evaluation.metrics import bleu
from calque.losses.cross_entropy import smoothed_cross_entropy
from calque.models.build import build
from calque.text.tokenizers.interface import BOS, EOS
from calque.training.preparation import learn_tokenizers, prepare_corpora
from calque.training.validation import Validation, validate
from calque.translator import Translator


@pytest.fixture
def setting(tiny, console):
    recipe = tiny()
    tokenizers = learn_tokenizers(recipe, console)
    size = tokenizers.source.vocab_size
    torch.manual_seed(2)
    model = build(recipe.model, size, size)
    return model, prepare_corpora(recipe, tokenizers, console).valid, tokenizers, recipe


def test_loss_and_bleu_are_those_of_each_pair_alone(setting, corpus):
    model, _, tokenizers, recipe = setting
    validation = validate(*setting)
    sources, targets = (
        (corpus / f"valid.{side}").read_text().splitlines() for side in ("en", "de")
    )
    total = tokens = 0
    for source, target in zip(
        tokenizers.source.encode(sources), tokenizers.target.encode(targets), strict=True
    ):
        logits = model(torch.tensor([[*source, EOS]]), torch.tensor([[BOS, *target]]))
        labels = torch.tensor([*target, EOS])
        total += float(smoothed_cross_entropy(logits[0], labels, 0.0).cross_entropy)
        tokens += len(labels)
    assert validation.loss == pytest.approx(total / tokens, rel=1e-5)
    hypotheses = Translator(model, tokenizers, recipe.decoding).translate(sources)
    assert validation.bleu == bleu(hypotheses, targets, "de")
    assert validation.perplexity == pytest.approx(torch.tensor(validation.loss).exp().item())


def test_nothing_is_dropped_and_nothing_learnt(setting):
    model = setting[0].train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert validate(*setting) == validate(*setting)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loss_that_is_not_finite_is_an_error(setting):
    with torch.no_grad():
        next(setting[0].parameters()).fill_(torch.nan)
    with pytest.raises(CalqueError, match="validation loss is not finite"):
        validate(*setting)


def test_perplexity_of_a_hopeless_loss_is_a_number():
    assert Validation(1e9, 0.0).perplexity < float("inf")
