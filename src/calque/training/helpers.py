"""Helpers: processes that train beside this one, so that all cores of a CPU have enough to do.

The matrices of a small model are too small for several threads to share, but a batch of sentences
is not. So each process takes a share of it, and gradients are averaged.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.training.distributed import LostError, Processes
from calque.training.memory import room_for
from calque.training.state import last_checkpoint, saved_state

SHARE_TOKENS = 1024
"""Of a step, at least for each process: with half as many, what does not shrink with the share
(the optimizer, the exchange of gradients, calls) takes half of the time."""
SHORT = 1e12
"""Operations of a training that is over before helpers, which take seconds to start, would help."""
BYTES_PER_PARAMETER = 22
"""Weight, gradient, its copy for all, at most half of the sum, and two means of Adam."""
BYTES_PER_PROCESS = 1_000_000_000
"""PyTorch, and what lies between the layers."""

STARTED = "started"
REFUSED, LOST = 2, 3
"""Exit codes of a helper: it has said what is wrong; another process has gone."""


def suitable(run: RunFolder) -> int:
    """How many processes, of those that have a core of their own, will train `run` fastest.

    A training that has begun keeps to its number: with another, sums would be rounded otherwise.
    """
    cores = torch.get_num_threads() if sys.platform == "linux" else 1
    if cores == 1:
        return 1
    if state := saved_state(run):
        return min(state.world_size, cores)
    config = run.recipe.training
    step_tokens = config.batch_tokens * config.accumulation
    parameters = sum(p.numel() for p in run.new_model().parameters())
    if 6 * parameters * step_tokens * config.max_steps < SHORT:
        return 1
    fit = room_for(BYTES_PER_PARAMETER * parameters + BYTES_PER_PROCESS)
    return max(1, min(cores, step_tokens // SHARE_TOKENS, fit))


@contextmanager
def helped(alone: Processes, run: RunFolder) -> Iterator[Processes]:
    """This process and its helpers, for the block; or only itself, where that is as fast.

    It stays alone on a GPU and under `torchrun`. Raises CalqueError when a helper dies.
    """
    ready = alone.device.type == "cpu" and "WORLD_SIZE" not in os.environ
    number = suitable(run) if ready else 1
    if number == 1:
        yield alone
        return
    cores = torch.get_num_threads()
    threads = cores // number
    # Nothing leaves the machine, or ends when its network changes.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = _store()
    memory = os.memfd_create("gradients")  # ends with the last process that holds it
    helpers: list[Helper] = []
    torch.set_num_threads(threads)
    try:
        for rank in range(1, number):
            place = Processes(rank, number, alone.device, memory)
            helpers.append(Helper(run, place, threads, store.port))
        _wait_for(helpers, store)
        with Processes(0, number, alone.device, memory).joined(store) as processes:
            yield processes
    except LostError:
        raise CalqueError(f"{_last_words(helpers)}; {last_checkpoint(run)}") from None
    finally:
        torch.set_num_threads(cores)
        os.close(memory)
        for helper in helpers:
            helper.end()


class Helper:
    """A process that runs `calque.training.helper`, out of reach of the terminal's Ctrl-C."""

    def __init__(self, run: RunFolder, place: Processes, threads: int, port: int) -> None:
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        job = {"run": str(run.path), "rank": place.rank, "number": place.world_size}
        job |= {"memory": place.memory, "port": port}
        self.process = subprocess.Popen(
            # Not -m alone: that would find modules in the current folder.
            [sys.executable, "-P", "-m", "calque.training.helper", json.dumps(job)],
            stdin=subprocess.PIPE,  # its end tells the helper that we are gone, however we went
            stdout=self.said,
            stderr=self.said,
            pass_fds=[place.memory] if place.memory is not None else [],
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    @property
    def message(self) -> str:
        """Why it has died; empty while it lives, and if it died because others had."""
        code = self.process.poll() or 0
        if code < 0:
            name = signal.Signals(-code).name
            return f"a helping process was ended by {name}, perhaps for want of memory"
        if code in (0, LOST):
            return ""
        self.said.seek(0)
        said = self.said.read().decode(errors="replace").strip()
        return said if code == REFUSED else f"a helping process failed: {said.split(chr(10))[-1]}"

    def end(self) -> None:
        """Leave nothing of it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()
        self.said.close()


def _store() -> TCPStore:
    """Where the processes learn how to reach each other; open to this machine alone."""
    listening = socket.create_server(("127.0.0.1", 0))
    return TCPStore(
        *listening.getsockname(),
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )


def _wait_for(helpers: list[Helper], store: TCPStore) -> None:
    """Return when all have started. Raises LostError when one cannot."""
    while store.add(STARTED, 0) < len(helpers):
        if any(helper.process.poll() is not None for helper in helpers):
            raise LostError
        time.sleep(0.02)


def _last_words(helpers: list[Helper]) -> str:
    """Why one of them has died, which the connection tells before the system does."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        for message in filter(None, (helper.message for helper in helpers)):
            return message
        time.sleep(0.05)
    return "the connection to a helping process was lost"
