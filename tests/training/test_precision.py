"""Which arithmetic is used where."""

import os

import pytest
import torch

from calque.training.precision import forget_old_kernels, uses_bf16

CPU = torch.device("cpu")


def test_what_is_asked_for_is_used():
    assert uses_bf16("bf16", CPU)
    assert not uses_bf16("float32", CPU)


@pytest.mark.parametrize(
    "has", [{}, {"avx512_bf16": True}, {"amx_bf16": True}, {"amx_bf16": False}]
)
def test_auto_asks_the_processor(has, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert uses_bf16("auto", CPU) is any(has.values())


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    forget_old_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 1024
