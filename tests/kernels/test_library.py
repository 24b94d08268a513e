"""The kernels are compiled once, are whole when they are there, and can be done without."""

import platform
import shutil
import subprocess
import sys

import pytest
import torch

from calque.kernels import library as kernels
from calque.kernels.attention import Attend
from calque.kernels.dropout import Dropout
from calque.kernels.residual import Norm, add_and_norm
from calque.kernels.vocabulary import ProjectedSoftmax
from calque.models.build import ModelConfig, build
from calque.models.fast_training import FastDropout, use_fast_layers
from calque.models.kernel_decoding import KernelTransformer
from calque.models.packed_training import PackedTransformer

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
LOAD = "from calque.kernels.library import library; raise SystemExit(library() is None)"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty one, and nothing loaded yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.library.cache_clear()
    yield tmp_path / "calque"
    kernels.library.cache_clear()


@needs_compiler
def test_they_are_compiled_once(cache):
    assert kernels.library() is not None
    (made,) = cache.iterdir()
    before = made.stat().st_mtime_ns
    kernels.library.cache_clear()
    assert kernels.library() is not None
    assert [made] == list(cache.iterdir())
    assert made.stat().st_mtime_ns == before


@needs_compiler
def test_the_compiler_may_be_named_with_arguments(cache, monkeypatch):
    monkeypatch.setenv("CC", f"{COMPILER} -O2")
    assert kernels.library() is not None


@needs_compiler
def test_several_may_compile_them_at_a_time(cache):
    command = [sys.executable, "-c", LOAD]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1


@needs_compiler
def test_they_are_compiled_without_a_warning(tmp_path):
    for source in kernels.SOURCES:
        flags = [*kernels.FLAGS, "-Wall", "-Wextra", "-Werror"]
        command = [
            str(COMPILER),
            *flags,
            str(kernels.FOLDER / source),
            "-o",
            str(tmp_path / "x.so"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def softmax(rows):
    """Over a vocabulary of 70 words, and what it adds to the gradient of their weight."""
    weight, of_weight = rows[1, :, :32].bfloat16(), torch.zeros(70, 32)
    over = ProjectedSoftmax(weight, None, of_weight, None, weight.new_empty(128, 70))
    return over.add(rows[0, :, :32].bfloat16(), torch.zeros(70)), of_weight


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors, other names")
@pytest.mark.parametrize("processor", ["x86-64", "x86-64-v3"])  # vectors of 4 and of 8 numbers
def test_narrower_vectors_find_the_same(processor, cache, monkeypatch, tmp_path):
    rows = torch.randn(3, 70, 48)
    starts = torch.tensor([0, 1, 34, 70])
    norm, dropout = Norm(torch.randn(48), torch.randn(48), 1e-5), Dropout(7, 20000)

    sizes = {"d_model": 48, "d_ff": 72, "num_heads": 3, "num_encoder_layers": 1}
    model = build(ModelConfig(positions="rotary", feed_forward="gelu", **sizes), 300, 300).eval()
    source = torch.randint(4, 300, (5, 9))

    @torch.inference_mode()
    def decode():
        fast = KernelTransformer(model)
        memory = fast.encode(source)
        logits = fast.decode(source[:, :1], memory, fast.start(memory))
        limits, penalties = torch.full((5,), 8), torch.arange(10.0)
        return logits, fast.search(source, limits, penalties, 3, greedy=False).scores

    def work():
        attend, out = Attend(starts, starts, 3, causal=True), torch.empty_like(rows)
        found = attend([*rows])
        attend.gradient([*rows], found, [*out])
        normed = add_and_norm(rows[0], rows[1], dropout, norm)
        return found, out, dropout(rows), normed, decode(), softmax(rows)

    expected = work()
    wrapper = tmp_path / "cc"
    wrapper.write_text(f'#!/bin/sh\nexec {COMPILER} "$@" -march={processor}\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CC", str(wrapper))
    kernels.library.cache_clear()
    found = work()
    assert len(list(cache.iterdir())) == 2
    assert torch.equal(found[2], expected[2])
    torch.testing.assert_close(found[:-1], expected[:-1])
    # Where bf16 is rounded to nothing else, the last bit hangs on the order of a sum.
    torch.testing.assert_close(found[-1], expected[-1], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_without_them_models_train_all_the_same(compiler, cache, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    assert kernels.library() is None
    assert not cache.exists() or not list(cache.iterdir())
    model = build(ModelConfig(d_model=16, d_ff=24, num_heads=2), 9, 9).train()
    use_fast_layers(model)
    assert not PackedTransformer.can_take(model)
    assert not KernelTransformer.can_take(model)
    assert not any(isinstance(module, FastDropout) for module in model.modules())
    model(torch.tensor([[4, 3]]), torch.tensor([[2, 7]])).sum().backward()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, cache):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernels.library() is None
