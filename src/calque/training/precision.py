"""What oneDNN, which computes for PyTorch on a CPU, may remember."""

import os


def forget_old_kernels() -> None:
    """Let oneDNN keep the kernels of the last few steps, before it has made any.

    It makes one for each shape, and by default keeps a thousand. With batches of all shapes that
    is a gigabyte; what is used again is a tenth of it.
    """
    for variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(variable, "256")
