"""The trainings of a comparison: processes of their own, several at once."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from calque.comparison.plan import Run
from calque.comparison.progress import WAITING, Board
from calque.config import CalqueError
from calque.training.interruption import Interruption

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of getrusage's memory."""
POLL = 0.5  # seconds


def places() -> int:
    """How many trainings a machine has room for: one for each GPU, or else for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return torch.cuda.device_count() or cores or 1


def train_all(
    runs: Sequence[Run],
    at_once: int,
    board: Board,
    folder: Path,
    then: Callable[..., None],
) -> tuple[dict[Run, str], bool]:
    """Train what is not finished; of the failed runs their messages, and whether all came to end.

    `then(run, place=)` is called with each that has been trained, and the place where it was.
    Ctrl-C or SIGTERM lets each training save, and starts no other. Raises CalqueError when another
    comparison works in `folder`, or when what lies there was begun with other recipes.
    """
    todo = deque(run for run in runs if not run.finished)
    for run in runs:
        board.tell(run, WAITING if run in todo else "trained before")
    free, working = list(range(at_once))[::-1], dict[int, _Process]()
    failed, left = dict[Run, str](), list[Run]()
    with alone(folder) as lock, Interruption(quiet=False) as interruption:
        try:
            while working or (todo and not interruption.asked):
                while todo and free and not interruption.asked:
                    place, run = free.pop(), todo.popleft()
                    working[place] = _Process(run, _environment(place), lock)
                    board.tell(run, "training")
                time.sleep(POLL)
                if interruption.asked:
                    for process in working.values():
                        process.ask_to_leave()
                for place, process in list(working.items()):
                    board.look_at(process.run)
                    if process.ended():
                        free.append(place)
                        del working[place]
                        left += [process.run] if process.code and interruption.asked else []
                        _conclude(process, board, failed, left, partial(then, place=place))
        finally:
            for process in working.values():
                process.kill()
    return failed, not (todo or left)


def _conclude(
    process: "_Process",
    board: Board,
    failed: dict[Run, str],
    left: Sequence[Run],
    then: Callable[[Run], None],
) -> None:
    run, state = process.run, "done"
    if run in left:
        state = "interrupted"
    elif process.code:
        failed[run] = process.message()
        state = f"failed: {failed[run]}"
    else:
        then(run)
    board.tell(run, state)


class _Process:
    """One `calque train`, on one thread; it goes on with what an earlier one has left."""

    def __init__(self, run: Run, environment: Mapping[str, str], lock: int) -> None:
        self.run, self.code, self.asked, self.peak = run, -1, False, 0
        recipe, self.log = run.beside("toml"), run.beside("log")
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(run.recipe.to_toml(), encoding="utf-8")
        command = [sys.executable, "-m", "calque", "train", str(recipe), "--out", str(run.folder)]
        if run.folder.exists():
            command.append("--resume")
        else:
            run.beside("json").unlink(missing_ok=True)  # of a run that is no longer there
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[lock],
            )

    def ended(self) -> bool:
        """Whether it has; then its peak memory is recorded."""
        self.peak = _peak_memory(self.process.pid) or self.peak
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
        peak = self.peak or usage.ru_maxrss * MAXRSS_UNIT
        self.run.record(peak_memory=max(peak, self.run.facts.get("peak_memory", 0)))
        return True

    def ask_to_leave(self) -> None:
        """Once; it saves and ends."""
        if not self.asked:
            self.asked = True
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def message(self) -> str:
        """Why it failed, in one line."""
        lines = self.log.read_text("utf-8", errors="replace").split("\n")
        said = [line for line in lines if line.startswith("Error: ")] or [x for x in lines if x]
        end = f"exit code {self.code}"
        if self.code < 0:
            end = f"ended by {signal.Signals(-self.code).name}"
        reason = said[-1].removeprefix("Error: ") if said and self.code > 0 else end
        return f"{reason} (see {self.log})"


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """A lock that each process holds too: it lasts as long as any of them, however we end."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CalqueError(
                f"{folder}: another comparison trains here, or has left trainings behind that "
                "still run; wait for them, or end them"
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def _peak_memory(pid: int) -> int:
    """The most bytes that a process has held, where Linux tells while it lives; else 0.

    What wait4 tells there afterwards is at least what we held when we started the process.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), 0)


def _environment(place: int) -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if number := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        names = visible if visible[0] else [str(i) for i in range(number)]
        environment["CUDA_VISIBLE_DEVICES"] = names[place % number]
    return environment
