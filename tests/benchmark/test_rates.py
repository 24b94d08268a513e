"""Operations are those that PyTorch counts; a rate is that of the product asked for."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from calque.benchmark.rates import processor_name, product_rate, training_operations
from calque.models.build import FAMILIES, ModelConfig, build
from calque.models.transformer import Transformer
from calque.text.batching import Batch

CPU = torch.device("cpu")
SIZES = {"num_encoder_layers": 2, "num_decoder_layers": 3, "d_model": 8, "d_ff": 20, "num_heads": 2}


def make_model(**parts: str) -> Transformer:
    return build(ModelConfig(**SIZES, **parts), 30, 30)


def make_batch(source_length: int, target_length: int, padding: int = 0) -> Batch:
    """Four pairs of these lengths, EOS counted."""
    source = torch.randint(4, 30, (4, source_length))
    target = torch.randint(4, 30, (4, 1 + target_length))
    wider = [nn.functional.pad(ids, (0, padding)) for ids in (source, target)]
    return Batch(*wider, rows=torch.arange(4).numpy(), pad_id=0)


@pytest.mark.parametrize("parts", [{}, {"heads": "biased", "output": "biased"}], ids=str)
def test_operations_are_those_of_the_products_that_are_computed(parts):
    model, batch = make_model(**parts), make_batch(5, 7)
    with FlopCounterMode(display=False) as counter:
        model(batch.source, batch.target[:, :-1]).sum().backward()
    assert training_operations(model, batch) == counter.get_total_flops()


@pytest.mark.parametrize("family", ["recurrent", "convolutional"])
def test_other_families_count_their_parameters(family):
    model, batch = build(FAMILIES[family].config(d_model=8), 30, 30), make_batch(5, 7)
    matrices = {
        name: p.numel()
        for name, p in model.named_parameters()
        if p.dim() > 1 and name.startswith(("encoder", "decoder"))
    }
    of = {
        side: sum(n for name, n in matrices.items() if name.startswith(side))
        for side in ("encoder", "decoder")
    }
    expected = of["encoder"] * 4 * 5 + (of["decoder"] + 30 * 8) * 4 * 7
    assert training_operations(model, batch) == 6 * expected


def test_padding_is_no_work():
    model, without, padded = make_model(), make_batch(5, 7), make_batch(5, 7, padding=9)
    assert training_operations(model, padded) == training_operations(model, without)


def test_a_large_product_reaches_a_higher_rate_than_a_single_number():
    small, large = (product_rate(n, n, n, torch.float32, CPU, 0.01) for n in (1, 256))
    assert 0 < 10 * small < large


def test_the_processor_has_a_name():
    assert processor_name(CPU).strip()
