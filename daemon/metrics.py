"""Prometheus metrics of the gateway. Labels never name a user, a key or a model that a client made up.

With several workers, PROMETHEUS_MULTIPROC_DIR (set by the supervisor) makes any worker answer for all.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from db.holds import Settled
from db.usage import UsageRow

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

MOST_OBSERVED = 50_000
UNIFIED_PATHS = frozenset({"/v1/chat/completions"})  # every other endpoint counts as passthrough
_FOLDED = (
    ("_tokens", "input", "_tokens_in"),
    ("_tokens", "output", "_tokens_out"),
    ("_nanos", "charged", "_charged"),
    ("_nanos", "upstream", "_upstream"),
    ("_nanos", "absorbed", "_absorbed"),
    ("_estimated", "", "_guessed"),
)


class Metrics:
    """Counters of one worker."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "gatewayctl_requests", "Requests by endpoint and outcome", ("endpoint", "status", "stream"), registry=registry
        )
        self._tokens = Counter("gatewayctl_tokens", "Tokens settled", ("direction",), registry=registry)
        self._nanos = Counter("gatewayctl_nanos_usd", "nano-USD: charged, upstream, absorbed", ("kind",), registry=registry)
        self._estimated = Counter("gatewayctl_estimated", "Settlements by an estimate", registry=registry)
        self._latency = Histogram(
            "gatewayctl_request_seconds", "Time to the end of the reply", ("stream",), buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "gatewayctl_first_byte_seconds", "Time to the first byte of the reply", buckets=_SECONDS, registry=registry
        )
        self._running = Gauge("gatewayctl_exchanges", "Requests under way", registry=registry, multiprocess_mode="livesum")
        self._errors = Counter("gatewayctl_database_errors", "Failed background writes", registry=registry)
        self._counted: dict[tuple[str, str, bool], int] = {}
        self._tokens_in = self._tokens_out = self._charged = self._upstream = self._absorbed = self._guessed = 0
        self._observed: list[tuple[bool, int, int | None]] = []
        self.served = 0
        self._under_way = 0

    def _count(self, row: UsageRow) -> None:
        endpoint = row.endpoint if row.endpoint in UNIFIED_PATHS else "passthrough"
        key = (endpoint, row.status, row.stream)
        self._counted[key] = self._counted.get(key, 0) + 1
        self.served += 1
        if row.latency_ms is not None and len(self._observed) < MOST_OBSERVED:
            self._observed.append((row.stream, row.latency_ms, row.ttft_ms))

    def settled(self, row: UsageRow, outcome: Settled) -> None:
        """A request was charged."""
        self._count(row)
        self._tokens_in += row.input_tokens
        self._tokens_out += row.output_tokens
        self._charged += outcome.charged_nanos
        self._upstream += row.upstream_cost_nanos
        self._absorbed += outcome.absorbed_nanos
        self._guessed += row.estimated

    def released(self, row: UsageRow) -> None:
        """A request ended without a charge."""
        self._count(row)

    def fold(self) -> None:
        """Bring the plain numbers into the exposition: once a second and before it is read, not on every request."""
        counted, self._counted = self._counted, {}
        for (endpoint, status, stream), number in counted.items():
            self._requests.labels(endpoint, status, str(int(stream))).inc(number)
        observed, self._observed = self._observed, []
        for stream, latency_ms, ttft_ms in observed:
            self._latency.labels(str(int(stream))).observe(latency_ms / 1000)
            if ttft_ms is not None:
                self._first.observe(ttft_ms / 1000)
        for counter, label, name in _FOLDED:
            amount = getattr(self, name)
            if amount:
                setattr(self, name, 0)
                metric: Counter = getattr(self, counter)
                (metric.labels(label) if label else metric).inc(amount)
        self._running.set(self._under_way)

    def running(self, change: int) -> None:
        """A request began (1) or ended (-1)."""
        self._under_way += change

    def database_error(self) -> None:
        """A write that nobody waited for failed."""
        self._errors.inc()

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        self.fold()
        if MULTIPROCESS_VARIABLE not in os.environ:
            return bytes(generate_latest(self._registry))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return bytes(generate_latest(registry))
