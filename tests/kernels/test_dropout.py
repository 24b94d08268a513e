"""Dropout by counted random numbers: Threefry's, whatever asks for them."""

import numpy as np
import pytest
import torch

from calque.kernels.dropout import STEPS, Dropout
from calque.kernels.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")

ROTATIONS = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]


def threefry(counter: np.ndarray, key: list[int], rounds: int) -> np.ndarray:
    """Threefry 4x32 by the paper, doi:10.1145/2063384.2063405, §4.2; of [4, numbers] words."""
    key = [*key, 0x1BD11BDA ^ key[0] ^ key[1] ^ key[2] ^ key[3]]
    words = counter.astype(np.uint64) + np.array(key[:4], np.uint64)[:, None]
    mask = np.uint64(0xFFFFFFFF)
    for step in range(rounds):
        partners = (1, 3) if step % 2 == 0 else (3, 1)
        for first, second, turn in zip((0, 2), partners, ROTATIONS[step % 8], strict=True):
            words &= mask
            words[first] = (words[first] + words[second]) & mask
            high = words[second] << np.uint64(turn)
            words[second] = ((high | (words[second] >> np.uint64(32 - turn))) & mask) ^ words[first]
        if step % 4 == 3:
            time = step // 4 + 1
            added = [key[(time + i) % 5] for i in range(4)]
            added[3] += time
            words += np.array(added, np.uint64)[:, None]
    return (words & mask).astype(np.uint32)


@pytest.mark.parametrize(
    "word, expected",
    [
        (0, [0x9C6CA96A, 0xE17EAE66, 0xFC10ECD4, 0x5256A7D8]),
        (0xFFFFFFFF, [0x2A881696, 0x57012287, 0xF6C7446E, 0xA16A6732]),
    ],
    ids=["zeros", "ones"],
)
def test_the_plain_generator_gives_the_authors_numbers(word, expected):
    found = threefry(np.full((4, 1), word), [word] * 4, rounds=20)
    assert found[:, 0].tolist() == expected


def halves(seed: int, number: int) -> np.ndarray:
    """The 16 random bits of each of the first numbers of a tensor."""
    counts = np.arange(-(-number // 128) * 16, dtype=np.uint64)
    counter = np.stack([counts & 0xFFFFFFFF, counts >> 32, 0 * counts, 0 * counts])
    words = threefry(counter, [seed & 0xFFFFFFFF, seed >> 32, 0, 0], rounds=12)
    # Of sixteen counters: their first words' low halves, high halves, their second words' ...
    words = words.reshape(4, -1, 16).transpose(1, 0, 2)
    return np.stack([words & 0xFFFF, words >> 16], axis=2).flatten()[:number]


@pytest.mark.parametrize("number", [1, 16, 127, 128, 129, 5000, 9001])
@pytest.mark.parametrize("dropped", [1, 6554, 40000, STEPS - 1])
def test_what_is_dropped_is_what_the_plain_generator_says(number, dropped):
    seed = 0x0123456789ABCDEF
    x = torch.randn(number)
    found = Dropout(seed, dropped)(x)
    kept = torch.from_numpy(halves(seed, number) >= dropped)
    torch.testing.assert_close(found, torch.where(kept, x * STEPS / (STEPS - dropped), 0.0))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads, monkeypatch):
    x, dropout = torch.randn(300, 77), Dropout(3, STEPS // 4)
    alone = dropout(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(dropout(x), alone)


def test_all_can_be_dropped():
    assert not Dropout(3, STEPS)(torch.randn(50)).any()
