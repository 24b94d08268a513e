"""The runs that are served, one for each pair of languages, and their replacement."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from calque.checkpoint import MANIFEST, recorded_hashes
from calque.config import CalqueError
from calque.serving.batcher import Batcher
from calque.serving.limits import Limits, Refused
from calque.serving.loaded import Loaded, load
from calque.serving.metrics import Metrics

WARM_UP = "A first sentence."
LOOKING = 1.0
"""Seconds between two looks at the folders."""
CONSIDERED = 8
"""Requests at once that compute for themselves, as looks and alternatives do."""

Result = TypeVar("Result")
log = logging.getLogger("calque.serving")


class Run:
    """A run folder, the model that was in it, and the queue before that."""

    def __init__(self, path: Path, loaded: Loaded, batcher: Batcher, stamp: Sequence[Any]) -> None:
        self.path = path
        self.source, self.target = loaded.pair
        self.batcher = batcher
        self.broken = False
        """Whether the folder now holds something that could not be loaded."""
        self.tried = self.seen = stamp

    @property
    def loaded(self) -> Loaded:
        """The model that is in use."""
        return self.batcher.loaded


class Runs:
    """All that is served."""

    def __init__(
        self, paths: Sequence[Path], device: str, limits: Limits, metrics: Metrics
    ) -> None:
        """Load run folders. Raises CalqueError for one that cannot be used, or a pair of two."""
        self._device, self._metrics = device, metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._considering = 0
        self._runs: dict[tuple[str, str], Run] = {}
        for path in paths:
            stamp, loaded = _stamp(path), load(path, device)
            if (other := self._runs.get(loaded.pair)) is not None:
                raise CalqueError(
                    f"{path}: is for {'-'.join(loaded.pair)}, as {other.path}; a pair of "
                    "languages is served from one run"
                )
            self._thread.submit(loaded.translator.translate, [WARM_UP]).result()
            batcher = Batcher(loaded, self._thread, limits, metrics)
            self._runs[loaded.pair] = Run(path, loaded, batcher, stamp)

    def __iter__(self):
        return iter(self._runs.values())

    def find(self, source: str, target: str) -> Run | None:
        """The run of a pair of languages."""
        return self._runs.get((source, target))

    async def compute(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a function that uses a model, computed where models compute."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    async def consider(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """As `compute`, for few requests at a time. Raises Refused when there are more."""
        if self._considering >= CONSIDERED:
            raise Refused(503, "Too many requests are waiting", self._considering)
        self._considering += 1
        try:
            return await self.compute(function, *arguments)
        finally:
            self._considering -= 1

    async def watch(self) -> None:
        """Take each folder that is replaced into use, as long as this is not cancelled."""
        while True:
            await asyncio.sleep(LOOKING)
            for run in self:
                await self._refresh(run)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _refresh(self, run: Run) -> None:
        """Load a folder that has changed and now stays as it is; a broken one changes nothing."""
        before, run.seen = run.seen, await asyncio.to_thread(_stamp, run.path)
        if run.seen != before or run.seen == run.tried:
            return
        run.tried = run.seen
        pair = run.source, run.target
        try:
            loaded = await asyncio.to_thread(load, run.path, self._device)
            if loaded.pair != pair:
                raise CalqueError(
                    f"{run.path}: is for {'-'.join(loaded.pair)} by now, but served as "
                    f"{'-'.join(pair)}; start the server anew"
                )
            await self.compute(loaded.translator.translate, [WARM_UP])
        except Exception as error:  # whatever is in the folder: what is in use stays in use
            run.broken = True
            self._metrics.swaps.labels(*pair, "refused").inc()
            known = isinstance(error, CalqueError | OSError)
            log.error("%s: not replaced: %s", "-".join(pair), error, exc_info=not known)
        else:
            run.batcher.loaded, run.broken = loaded, False
            self._metrics.swaps.labels(*pair, "done").inc()
            log.info("%s: replaced by what %s holds now", "-".join(pair), run.path)


def _stamp(path: Path) -> Sequence[Any]:
    """What changes when a run folder is replaced: identity, time and size of its files."""
    stamp = []
    for name in (MANIFEST, *_listed(path)):
        try:
            stat = (path / name).stat()
            stamp.append((name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
        except (OSError, ValueError):  # missing, or no name that a file can have
            stamp.append((name,))
    return stamp


def _listed(path: Path) -> list[str]:
    """The files that a manifest lists; none where there is no whole one."""
    try:
        return sorted(recorded_hashes(path))
    except (OSError, CalqueError):
        return []
