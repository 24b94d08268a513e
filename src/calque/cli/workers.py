"""Translating in several processes: each has one thread, and whole batches to itself.

A step of decoding is too little work to be shared over threads; batches need nothing of each other.
"""

import pickle
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, main_thread

import torch

from calque.config import CalqueError
from calque.training.memory import keep_freed_memory, room_for
from calque.translator import EMPTY, Translation, Translator, windows

BYTES_PER_PARAMETER = 8
"""Of a model: its weight, and as much while it is on its way."""
BYTES_PER_PROCESS = 750_000_000
"""PyTorch, and a batch."""
WORTH_IT = 2.0
"""Seconds of translating after which workers are started: about what it takes to start them."""

Found = list[list[Translation]]
Batches = SimpleQueue[tuple[list[str], Future[Found]] | None]


def suitable(translator: Translator) -> int:
    """One process for each thread, as long as there is memory for them."""
    parameters = sum(p.numel() for p in translator.model.parameters())
    fit = room_for(BYTES_PER_PARAMETER * parameters + BYTES_PER_PROCESS)
    return min(torch.get_num_threads(), fit)


class ParallelTranslator:
    """Translates as a translator on the CPU does, by worker processes once these are ready."""

    def __init__(self, translator: Translator, processes: int) -> None:
        """`processes` is the number of workers; of one there is none, and all is done here."""
        self.translator, self.processes = translator, processes
        self._threads = torch.get_num_threads()
        self._batches: Batches = SimpleQueue()
        self._workers: list[_Worker] = []

    def start(self) -> None:
        """Start the workers, which takes seconds; until `close`, this process has one thread."""
        torch.set_num_threads(1)
        pickled = pickle.dumps(self.translator)
        with _interruption_deferred():
            for _ in range(self.processes):
                self._workers.append(_Worker(self._batches, pickled))

    def wait_until_ready(self) -> None:
        """Wait for the workers that start. Raises CalqueError when one has ended instead."""
        for worker in self._workers:
            worker.ready.result()

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        for worker in self._workers:
            worker.process.kill()
            self._batches.put(None)
        for worker in self._workers:
            worker.join()
        self._workers = []
        torch.set_num_threads(self._threads)

    def stream(self, lines: Iterable[str]) -> Generator[list[Translation], None, None]:
        """As `Translator.stream`; starts workers when translating has taken a while.

        Raises CalqueError when one of them has ended, as when it is killed.
        """
        seconds = 0.0
        try:
            for window in windows(lines):
                if seconds > WORTH_IT and self.processes > 1 and not self._workers:
                    self.start()
                start = time.perf_counter()
                found = self.n_best(window)
                seconds += time.perf_counter() - start
                yield from found
        finally:
            self.close()

    def n_best(self, lines: Sequence[str]) -> Found:
        """As `Translator.n_best`, by the workers that are ready; see `stream`."""
        if not self._workers:
            return self.translator.n_best(lines)
        found: Found = [[EMPTY] for _ in lines]
        plan = self.translator.plan(lines)
        translated = self._translate([[lines[row] for row in rows] for rows in plan])
        for rows, of_rows in zip(plan, translated, strict=True):
            for row, of_row in zip(rows, of_rows, strict=True):
                found[row] = of_row
        return found

    def _translate(self, batches: Iterable[list[str]]) -> list[Found]:
        futures = []
        for batch in batches:
            futures.append(Future[Found]())
            self._batches.put((batch, futures[-1]))
        with suppress(Empty):
            while not all(worker.ready.done() for worker in self._workers):
                if job := self._batches.get_nowait():
                    job[1].set_result(self.translator.n_best(job[0]))
        return [future.result() for future in futures]


class _Worker(Thread):
    """Hands batches to a process of its own, one at a time."""

    def __init__(self, batches: Batches, translator: bytes) -> None:
        super().__init__(daemon=True)
        self.ready: Future[None] = Future()
        self._batches, self._translator = batches, translator
        spawn = get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.start()

    def run(self) -> None:
        with self._connection:
            self._answer(self.ready, lambda: self._connection.send_bytes(self._translator))
            while job := self._batches.get():
                batch, future = job
                self._answer(future, lambda batch=batch: self._connection.send(batch))

    def _answer(self, future: Future, ask: Callable[[], None]) -> None:
        try:
            ask()
            answer = self._connection.recv()
        except (EOFError, OSError):
            self.process.join()
            answer = CalqueError(_ended(self.process.exitcode))
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _work(connection: Connection) -> None:
    """Be a worker, for as long as there is somebody at the other end."""
    keep_freed_memory()
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):
        translator: Translator = pickle.loads(connection.recv_bytes())
        connection.send(None)
        while True:
            connection.send(_found(translator, connection.recv()))


def _found(translator: Translator, batch: list[str]) -> Found | Exception:
    try:
        return translator.n_best(batch)
    except Exception as error:
        return error


def _ended(exit_code: int | None) -> str:
    how = signal.Signals(-exit_code).name if exit_code and exit_code < 0 else exit_code
    return (
        f"a process that translates has ended ({how}), perhaps for want of memory; "
        "with OMP_NUM_THREADS=1 there is only one"
    )


@contextmanager
def _interruption_deferred() -> Iterator[None]:
    """Ctrl-C, which a terminal sends to all: what is started here never sees it, we do afterwards.

    To block it would not do for us: any thread may take a signal, and the main thread answers.
    """
    resource_tracker.ensure_running()  # which would unblock it
    asked: list[int] = []
    main = current_thread() is main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: asked.append(number)) if main else None
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if main:
            signal.signal(signal.SIGINT, handler)
        if asked:
            signal.raise_signal(signal.SIGINT)
