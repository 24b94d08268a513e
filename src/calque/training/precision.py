"""What oneDNN, which computes for PyTorch on a CPU, may remember."""

import os


def forget_old_kernels() -> None:
    """Let oneDNN keep the kernels of the step under way, before it has made any.

    It makes one for each shape, and by default keeps a thousand: with batches of all shapes that
    is a gigabyte, of which hardly anything is used again.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, "32")
