"""A search in one call of a kernel finds what the plain search finds, step by step."""

import signal
import subprocess
import sys
import time

import pytest
import torch

from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.kernels.library import library
from calque.models.build import ModelConfig, build
from calque.models.kernel_decoding import KernelTransformer

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")

SIZES = {"num_encoder_layers": 1, "num_decoder_layers": 2, "d_model": 16, "d_ff": 24}
INFINITE = float("inf")


def make(words, ids, output="tied", positions="sinusoidal"):
    """A model that is far from finding all words alike, and ends after some."""
    torch.manual_seed(words)
    special = dict(zip(("pad_id", "bos_id", "eos_id"), ids, strict=True))
    config = ModelConfig(output=output, positions=positions, num_heads=2, **SIZES)
    model = build(config, words, words, **special).eval()
    with torch.no_grad():
        model.embedding.table.weight.mul_(3)
        if model.output.bias is not None:
            model.output.bias.normal_()
    return model


def some_sources(model, number, length=7):
    """Of several lengths, in which nothing is padding but the rest of a row."""
    words = [word for word in range(model.config.target_vocab_size) if word != model.config.pad_id]
    source = torch.tensor(words)[torch.randint(len(words), (number, length))]
    for row in range(1, number):
        source[row, torch.randint(1, length + 1, ()) :] = model.config.pad_id
    return source


@torch.inference_mode()
def said(model, source, tokens):
    """What the plain model gives each of the tokens, and the end."""
    ids = model.config
    whole = torch.tensor([[ids.bos_id, *tokens, ids.eos_id]])
    log_probs = model(source[None], whole[:, :-1])[0].log_softmax(dim=-1)
    return log_probs.gather(1, whole[0, 1:, None])[:, 0].tolist()


@pytest.mark.parametrize("output", ["tied", "biased"])
@pytest.mark.parametrize("ids", [(0, 2, 3), (9, 9, 0), (1, 0, 2)], ids=["ours", "marian", "other"])
@pytest.mark.parametrize("words", [10, 3001])
@pytest.mark.parametrize(("name", "beam"), [("greedy", 1), ("beam", 1), ("beam", 5), ("beam", 30)])
def test_it_finds_what_the_plain_search_finds(name, beam, words, ids, output):
    model, search, longest = make(words, ids, output), SEARCHES[name], 11
    for number, normalisation in ((1, "wu"), (9, "power")):
        config = DecodingConfig(
            beam_size=beam, max_length=longest, length_normalisation=normalisation
        )
        source = some_sources(model, number)
        plain, ours = (search(one, source, config) for one in (model, KernelTransformer(model)))
        for row, expected, found in zip(source, plain, ours, strict=True):
            # Near ties may stand in another order.
            scores = [one.score for one in expected]
            assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)
            assert len({one.tokens for one in found}) == len(found)
            for one in (found[0], found[-1]):
                assert len(one.tokens) <= longest
                assert not set(ids) & set(one.tokens)
                true = said(model, row, one.tokens)
                assert list(one.token_log_probs) == pytest.approx(true, abs=1e-4)


@pytest.mark.parametrize("positions", ["learned", "rotary", "count"])
def test_positions_are_those_of_all_steps(positions):
    model = make(50, (0, 2, 3), positions=positions)
    fast = KernelTransformer(model)
    for longest in (3, 30, 9):  # of one model, whose positions are kept
        config = DecodingConfig(beam_size=3, max_length=longest)
        source = some_sources(model, 9)
        for search in SEARCHES.values():
            plain, ours = search(model, source, config), search(fast, source, config)
            for expected, found in zip(plain, ours, strict=True):
                scores = [one.score for one in expected]
                assert [one.score for one in found] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_threads_change_nothing(search, monkeypatch):
    model = make(60, (0, 2, 3))
    source, config = some_sources(model, 23), DecodingConfig(beam_size=4, max_length=20)
    found = []
    for threads in (1, 2, 5, 40):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(search(KernelTransformer(model), source, config))
    assert all(one == found[0] for one in found)


def endless(longest):
    """What takes long to search: no target ends by itself."""
    model = make(3000, (0, 2, 3), "biased")
    with torch.no_grad():
        model.output.bias[3] = -INFINITE
    source = some_sources(model, 60, length=longest)
    return KernelTransformer(model), source, DecodingConfig(beam_size=5, max_length=longest)


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_need_not_wait_for_its_end(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model, source, config = endless(3000)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            SEARCHES["beam"](model, source, config)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - start < 10  # to its end it would be minutes


STARTED = """
import sys, threading
import torch
from calque.decoding import SEARCHES
from calque.decoding.config import DecodingConfig
from calque.models.build import ModelConfig, build
from calque.models.kernel_decoding import KernelTransformer

model = build(ModelConfig(d_model=16, d_ff=24, num_heads=2), 9, 9).eval()
start = threading.Thread.start

def interrupted(self):
    start(self)
    raise KeyboardInterrupt

threading.Thread.start = interrupted
source = torch.tensor([[4, 5, 3], [5, 6, 3]])
try:
    SEARCHES["beam"](KernelTransformer(model), source, DecodingConfig())
except KeyboardInterrupt:
    print("left")
"""


def test_ctrl_c_as_threads_start_does_not_keep_the_process():
    command = [sys.executable, "-c", STARTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "left\n"


def test_a_target_that_never_ends_is_none():
    model, source, config = endless(40)
    for search in SEARCHES.values():
        assert search(model, source[:5], config) == search(model.model, source[:5], config)
