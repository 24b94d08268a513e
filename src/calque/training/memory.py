"""Memory: how many processes it has room for, and what oneDNN and the C library may keep."""

import ctypes
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
HUGE_PAGES = 14  # of madvise
LARGEST = 2**31 - 1  # bytes: mallopt takes a C int
MEBIBYTE = 2**20
LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells a container what it may use."""


def room_for(size: float) -> int:
    """How many processes of `size` bytes fit into half of the memory, but at least one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # there is none, or it says "max"
        memory = min(memory, int(LIMIT.read_text()))
    return max(1, int(memory / 2 / size))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, of the processor or of a GPU."""
    kinds = MemoryError, torch.OutOfMemoryError
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def forget_old_kernels() -> None:
    """Let oneDNN keep the kernels of the last few steps, before it has made any.

    It makes one for each shape, and by default keeps a thousand. With batches of all shapes that
    is a gigabyte; what is used again is a tenth of it.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, "256")


def keep_freed_memory() -> None:
    """Let the process use again what it has freed, and have it in huge pages, where that is Linux.

    Every step makes and frees the same tensors. As it comes, the larger ones are given back to
    the kernel each time, which then has to find and clear their pages anew, 4 KiB at a time: a
    fifth of a small model's step.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    page = os.sysconf("SC_PAGE_SIZE")
    memory = page * os.sysconf("SC_PHYS_PAGES")
    libc.mallopt(MMAP_THRESHOLD, min(memory // 4, LARGEST))
    libc.mallopt(TRIM_THRESHOLD, LARGEST)
    libc.mallopt(TOP_PAD, min(memory // 4, LARGEST))  # only addresses: pages come with their use
    start = libc.sbrk(0)
    libc.free(libc.malloc(64 * MEBIBYTE))  # more than is free: the heap grows, by the pad too
    libc.mallopt(TOP_PAD, MEBIBYTE)
    start += -start % page
    libc.madvise(start, libc.sbrk(0) // page * page - start, HUGE_PAGES)
