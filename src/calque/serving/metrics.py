"""What the server counts, for Prometheus."""

from collections.abc import Callable

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
        self.requests = Counter(
            "calque_requests", "Requests answered", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "calque_request_seconds",
            "From a request's first byte to its answer",
            ("path",),
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_sentences = Histogram(
            "calque_batch_sentences",
            "Sentences of a batch",
            PAIR,
            buckets=SENTENCES,
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "calque_batch_seconds",
            "Translation of a batch",
            PAIR,
            buckets=SECONDS,
            registry=registry,
        )
        self.sentences = Counter(
            "calque_sentences", "Sentences translated", PAIR, registry=registry
        )
        self.tokens = Counter(
            "calque_tokens",
            "Tokens read and written, ends of sentences included",
            (*PAIR, "side"),
            registry=registry,
        )
        self.swaps = Counter(
            "calque_swaps", "Run folders loaded anew", (*PAIR, "outcome"), registry=registry
        )
        self._waiting = Gauge(
            "calque_waiting_sentences", "Sentences that wait for a batch", PAIR, registry=registry
        )

    def watch_queue(self, source: str, target: str, length: Callable[[], int]) -> None:
        """Ask `length` for the length of a queue whenever somebody wants to know."""
        self._waiting.labels(source, target).set_function(length)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
