"""One training at a time in a run folder."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from calque.checkpoint import RunFolder
from calque.config import CalqueError
from calque.writing import writing

LOCK = ".training.lock"


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Nobody else trains in the folder while the block runs; a killed process leaves it free.

    Raises CalqueError when another process trains there.
    """
    file = run.path / LOCK
    with writing(file):
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise CalqueError(f"{run.path}: is being trained by another process") from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)  # before another could have it
        lock.release()
