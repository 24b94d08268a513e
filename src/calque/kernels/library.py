"""The compiled kernels: made when they are first asked for, and kept for the next process."""

import ctypes
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import Future, wait
from functools import cache, partial
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from calque.writing import cache_folder

FOLDER = files("calque.kernels")
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-std=gnu11", "-shared", "-fPIC"]
KNOWN = torch.float32, torch.bfloat16, torch.int64
SOURCES = ["attention.c", "dropout.c", "layers.c", "residual.c", "search.c", "vocabulary.c"]


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where no C compiler makes them."""
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        made = cache_folder() / f"kernels-{_digest(compiler)}.so"
        if not made.exists():
            made.parent.mkdir(parents=True, exist_ok=True)
            _compile(compiler, made)
        return ctypes.CDLL(str(made))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiler() -> list[str] | None:
    """The command, which CC may give with arguments."""
    named = shlex.split(os.environ.get("CC", ""))
    commands = [named] if named else [["cc"], ["gcc"], ["clang"]]
    found = ([shutil.which(name), *rest] for name, *rest in commands)
    return next((command for command in found if command[0]), None)


def _digest(compiler: list[str]) -> str:
    """Of all that the compiled kernels depend on: a folder may serve unlike machines."""
    digest = hashlib.sha256()
    for source in sorted(FOLDER.iterdir(), key=lambda file: file.name):
        if source.name.endswith((".c", ".h")):
            digest.update(source.read_bytes())
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    digest.update(version)
    digest.update(repr((compiler, FLAGS, sorted(torch.cpu.get_capabilities().items()))).encode())
    return digest.hexdigest()[:16]


def _compile(compiler: list[str], made: Path) -> None:
    """Beside its place first: another process may be at it, or this one may be killed."""
    beside = tempfile.TemporaryDirectory(dir=made.parent)
    with as_file(FOLDER) as folder, beside as place:
        sources = [str(folder / name) for name in SOURCES]
        part = Path(place) / made.name
        command = [*compiler, *FLAGS, *sources, "-o", str(part), "-lm"]
        subprocess.run(command, capture_output=True, check=True)
        with part.open("rb") as whole:
            os.fsync(whole.fileno())
        part.replace(made)


class Arguments(ctypes.Structure):
    """What a kernel is called with; tensors are given by the address of their first number."""

    def __init__(self, **values: Any) -> None:
        given = {n: _address(x) if isinstance(x, Tensor) else x for n, x in values.items()}
        super().__init__(**given)


def _address(x: Tensor) -> int:
    if not x.is_cpu or x.dtype not in KNOWN:
        raise TypeError(f"no kernel reads {x.dtype} on {x.device}")
    return x.data_ptr()


def run(kernel: str, arguments: Arguments, number: int, stop: Tensor | None = None) -> None:
    """A kernel over all of 0 .. number, a part for each of PyTorch's threads.

    What takes long leaves off once `stop` is not 0, so that Ctrl-C need not wait for it.
    """
    call = partial(getattr(library(), kernel), ctypes.byref(arguments))
    threads = max(1, min(torch.get_num_threads(), number))
    bounds = [ctypes.c_int64(number * i // threads) for i in range(threads + 1)]
    if threads == 1 and stop is None:
        call(*bounds)
        return
    running: list[Future[None]] = [Future() for _ in range(threads)]
    tasks = _workers(threads)
    try:
        for future, part in zip(running, pairwise(bounds), strict=True):
            tasks.put((future, call, part))
        for future in running:
            future.result()
    except BaseException:
        if stop is not None:
            stop.fill_(1)
        # Those that have begun still look at the arguments.
        wait([future for future in running if not future.cancel()])
        raise


@cache
def _workers(number: int) -> "SimpleQueue[Any]":
    """What so many threads do the tasks of.

    Unlike a ThreadPoolExecutor's, which Ctrl-C may leave waiting for ever as they start, they keep
    no process from its end.
    """
    tasks: SimpleQueue[Any] = SimpleQueue()
    for _ in range(number):
        Thread(target=_work, args=(tasks,), daemon=True).start()
    return tasks


def _work(tasks: "SimpleQueue[Any]") -> None:
    while True:
        future, call, part = tasks.get()
        if future.set_running_or_notify_cancel():
            future.set_result(call(*part))  # ctypes lets other threads run
