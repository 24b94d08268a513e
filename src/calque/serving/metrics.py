"""What the server counts, for Prometheus."""

from collections.abc import Callable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SENTENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PAIR = ("source", "target")


class Metrics:
    """Counters of one server; `calque_sentences_total` over time is its throughput."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter = partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.requests = counter("calque_requests", "Requests answered", ("path", "status"))
        self.seconds = histogram(
            "calque_request_seconds",
            "From the end of a request's headers to its answer",
            ("path",),
            buckets=SECONDS,
        )
        self.batch_sentences = histogram(
            "calque_batch_sentences", "Sentences of a batch", PAIR, buckets=SENTENCES
        )
        self.batch_seconds = histogram(
            "calque_batch_seconds",
            "Translation of a batch, its wait for other runs included",
            PAIR,
            buckets=SECONDS,
        )
        self.sentences = counter("calque_sentences", "Sentences translated", PAIR)
        self.tokens = counter(
            "calque_tokens", "Tokens read and written, ends of sentences included", (*PAIR, "side")
        )
        self.swaps = counter("calque_swaps", "Run folders loaded anew", (*PAIR, "outcome"))
        self._waiting = Gauge(
            "calque_waiting_sentences", "Sentences that wait for a batch", PAIR, registry=registry
        )

    def watch_queue(self, source: str, target: str, length: Callable[[], int]) -> None:
        """Ask `length` for the length of a queue whenever somebody wants to know."""
        self._waiting.labels(source, target).set_function(length)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
