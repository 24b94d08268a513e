"""How many processes there is memory for, and what oneDNN and the C library may keep of it."""

import os
import platform
import subprocess
import sys

import pytest

from calque.training import memory
from calque.training.memory import forget_old_kernels, room_for


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    forget_old_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 1024


@pytest.mark.parametrize(
    ("limit", "number"), [("8000000000\n", 4), ("max\n", 8), (None, 8), ("1000\n", 1)]
)
def test_a_container_may_use_less_than_the_machine_has(limit, number, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1}.get(name, 16 * 10**9))
    monkeypatch.setattr(memory, "LIMIT", tmp_path / "memory.max")
    if limit:
        (tmp_path / "memory.max").write_text(limit)
    assert room_for(1e9) == number


FAULTS = """
import resource, sys, torch
from calque.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    a = torch.ones(10_000_000)  # more than glibc would keep of itself
    b = a + 1
for _ in range(20):  # until all has been found a place
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_freed_memory_is_used_again():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how]))
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 0.1 * faults["give back"]
