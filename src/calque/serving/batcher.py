"""Sentences of many requests, translated together."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from calque.serving.limits import Limits, Refused
from calque.serving.loaded import Linked, Loaded
from calque.serving.metrics import Metrics
from calque.translator import BATCH_TOKENS, Translation

GATHERING = 0.003
"""Seconds that the first sentence waits for others, where nothing is being translated."""

log = logging.getLogger("calque.serving")


@dataclass(frozen=True)
class Found:
    """What was found for a sentence."""

    n_best: list[Translation]
    """Its translations, best first."""
    linked: Linked | None
    """The best one and the sentence, word by word; None unless it was asked for."""


@dataclass(frozen=True)
class _Waiting:
    line: str
    linked: bool
    """Whether its words are wanted."""
    tokens: int
    """Of the source, its end included."""
    found: asyncio.Future[Found]


class Batcher:
    """The queue before a model.

    While a batch is translated, the next one gathers. `thread` is the one in which models compute:
    it is shared by all, as the precision of products is a setting of the whole process.
    """

    def __init__(self, loaded: Loaded, thread: Executor, limits: Limits, metrics: Metrics) -> None:
        self.loaded = loaded
        """May be replaced at any time: batches that begin later are translated by the new one."""
        self._thread, self._limits, self._metrics = thread, limits, metrics
        self._queue: deque[_Waiting] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._pace = 0.0  # seconds for a token of a full batch, of late; 0: there was none
        self._due = 0.0  # when the batch that is being translated should be done
        metrics.watch_queue(*loaded.pair, lambda: len(self._queue))

    def admit(self) -> None:
        """Raise Refused when the queue is full, or who joins it would wait in vain."""
        waiting = [one.tokens for one in self._queue if not one.found.done()]
        wait = max(0.0, self._due - time.perf_counter()) + sum(waiting) * self._pace
        if len(waiting) >= self._limits.waiting or wait > self._limits.seconds / 2:
            raise Refused(503, "Too many requests are waiting", wait)

    async def translate(
        self, lines: Sequence[str], linked: Sequence[bool] | None = None
    ) -> list[Found]:
        """The translations of each line, and the words of those for which `linked` is true.

        Raises Refused as `admit` does.

        Whoever stops waiting takes what is still in the queue along.
        """
        self.admit()
        loop = asyncio.get_running_loop()
        lengths = map(len, self.loaded.translator.tokenizers.source.encode(lines))
        added = [
            _Waiting(line, wanted, length + 1, loop.create_future())
            for line, wanted, length in zip(
                lines, linked or [False] * len(lines), lengths, strict=True
            )
        ]
        self._queue.extend(added)
        if self._draining is None or self._draining.done():
            self._draining = loop.create_task(self._drain())
        try:
            return [await one.found for one in added]
        finally:
            for one in added:
                one.found.cancel()

    async def _drain(self) -> None:
        await asyncio.sleep(GATHERING)
        loop = asyncio.get_running_loop()
        while batch := self._take():  # here, as the queue is the event loop's
            full, tokens = bool(self._queue), sum(one.tokens for one in batch)
            start = time.perf_counter()
            self._due = start + tokens * self._pace
            outcomes = await loop.run_in_executor(self._thread, _outcomes, self.loaded, batch)
            took = time.perf_counter() - start
            self._learn(took / tokens, full)
            self._count(batch, outcomes, took)
            for one, outcome in zip(batch, outcomes, strict=True):
                if one.found.done():  # its client has gone
                    continue
                if isinstance(outcome, Exception):
                    one.found.set_exception(outcome)
                else:
                    one.found.set_result(outcome)
        self._due = 0.0

    def _take(self) -> list[_Waiting]:
        """From the front of the queue, as many as make a batch; who has gone is left out."""
        batch, longest = [], 0
        while self._queue:
            one = self._queue[0]
            if not one.found.done():
                longest = max(longest, one.tokens)
                if batch and longest * (len(batch) + 1) > BATCH_TOKENS:
                    break
                batch.append(one)
            self._queue.popleft()
        return batch

    def _learn(self, pace: float, full: bool) -> None:
        """Take note of the seconds for a token of a batch, others' turns at the thread included.

        A queue is translated in full batches, so these tell how long it takes. In a small one
        a token takes many times as long: it tells no more than that a full one is not slower.
        """
        if full:
            self._pace = (self._pace + pace) / 2 if self._pace else pace
        else:
            self._pace = min(self._pace, pace)

    def _count(
        self, batch: list[_Waiting], outcomes: Sequence[Found | Exception], took: float
    ) -> None:
        pair, metrics = self.loaded.pair, self._metrics
        best = [found.n_best[0] for found in outcomes if isinstance(found, Found)]
        metrics.batch_seconds.labels(*pair).observe(took)
        metrics.batch_sentences.labels(*pair).observe(len(batch))
        metrics.sentences.labels(*pair).inc(len(best))
        metrics.tokens.labels(*pair, "source").inc(sum(one.tokens for one in batch))
        written = sum(len(one.hypothesis.token_log_probs) for one in best)
        metrics.tokens.labels(*pair, "target").inc(written)


def _outcomes(loaded: Loaded, batch: Sequence[_Waiting]) -> Sequence[Found | Exception]:
    """What was found for each sentence; where one cannot be translated, the others still are."""
    try:
        n_best = loaded.translator.n_best([one.line for one in batch])
        rows = [row for row, one in enumerate(batch) if one.linked]
        linked = loaded.link([batch[row].line for row in rows], [n_best[row][0] for row in rows])
        words = dict(zip(rows, linked, strict=True))
        return [Found(of_row, words.get(row)) for row, of_row in enumerate(n_best)]
    except Exception as error:  # of whatever kind: it is the answer to those who wait
        if len(batch) == 1:
            log.exception("a sentence could not be translated")
            return [error]
    return [outcome for one in batch for outcome in _outcomes(loaded, [one])]
