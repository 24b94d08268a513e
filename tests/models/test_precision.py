"""Which arithmetic is used where, and that it is asked for in one place alone."""

import pytest
import torch

from calque.models.precision import products, uses_bf16

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unchanged():
    """No test leaves the process in another arithmetic."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_what_is_asked_for_is_used():
    assert uses_bf16("bf16", CPU)
    assert not uses_bf16("float32", CPU)


@pytest.mark.parametrize(
    ("has", "quick"),
    [
        ({}, False),
        ({"amx_bf16": False, "avx512_bf16": False, "cpu_name": "AMD EPYC"}, False),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, False),
    ],
)
def test_auto_asks_the_processor(has, quick, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert uses_bf16("auto", CPU) is quick


def test_products_are_as_precise_as_they_are_asked_to_be():
    torch.manual_seed(1)
    x, y = torch.randn(256, 512), torch.randn(512, 300)
    exact = x.double() @ y.double()
    with products("ieee"):
        plain = x @ y
    with products("bf16"):
        quick = x @ y
        with products("ieee"):
            within = x @ y
        after = x @ y
    assert plain.dtype == quick.dtype == torch.float32
    assert torch.equal(within, plain)
    assert torch.equal(after, quick)
    error, quick_error = ((z - exact).abs().max().item() for z in (plain, quick))
    assert error < 1e-3
    assert quick_error < 1
    if torch.cpu.get_capabilities().get("amx_bf16"):  # elsewhere it may be float32 all the same
        assert quick_error > 20 * error


def test_an_error_leaves_the_arithmetic_as_it_was():
    with pytest.raises(KeyError), products("bf16"), products("ieee"):
        raise KeyError
