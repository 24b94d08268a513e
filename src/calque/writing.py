"""Files and folders that are whole wherever they can be seen: written beside, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from calque.config import CalqueError

PART = ".{}.part"
"""Name of what is not whole yet, or no longer."""


def cache_folder() -> Path:
    """What can be made again is kept here between runs: `calque` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "calque"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`; a full disk, or whatever else prevents it, is a CalqueError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        before = "; what was saved before is still whole" if path.parent.exists() else ""
        raise CalqueError(f"{path}: cannot be written: {reason}{before}") from None


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that appears as `path` when the block ends well, and else not at all.

    Nothing, or an empty folder, may be at `path`. Raises CalqueError when it cannot be written.
    """
    part = path.with_name(PART.format(path.name))
    with writing(path):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            yield part
            for written in (*part.rglob("*"), part):
                _flush(written)
            part.rename(path)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        _flush(path.parent)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write that appears as `path` when the block ends well; else `path` stays as it was.

    Raises CalqueError when it cannot be written.
    """
    part = path.with_name(PART.format(path.name))
    with writing(path):
        try:
            yield part
            _flush(part)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _flush(path.parent)


def discard(folder: Path) -> None:
    """Remove a folder; broken off half-way, what remains of it goes by another name."""
    part = folder.with_name(PART.format(folder.name))
    folder.rename(part)
    shutil.rmtree(part)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
