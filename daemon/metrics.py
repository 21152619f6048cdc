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
        self._in, self._out = self._tokens.labels("input"), self._tokens.labels("output")
        self._charged, self._upstream = self._nanos.labels("charged"), self._nanos.labels("upstream")
        self._absorbed = self._nanos.labels("absorbed")
        self._of: dict[tuple[str, str, bool], Counter] = {}
        self._seconds = {stream: self._latency.labels(str(int(stream))) for stream in (False, True)}
        self.served = 0

    def _count(self, row: UsageRow) -> None:
        key = (row.endpoint, row.status, row.stream)
        counter = self._of.get(key)
        if counter is None:
            counter = self._of[key] = self._requests.labels(row.endpoint, row.status, str(int(row.stream)))
        counter.inc()
        self.served += 1
        if row.latency_ms is not None:
            self._seconds[row.stream].observe(row.latency_ms / 1000)
        if row.ttft_ms is not None:
            self._first.observe(row.ttft_ms / 1000)

    def settled(self, row: UsageRow, outcome: Settled) -> None:
        """A request was charged."""
        self._count(row)
        self._in.inc(row.input_tokens)
        self._out.inc(row.output_tokens)
        self._charged.inc(outcome.charged_nanos)
        self._upstream.inc(row.upstream_cost_nanos)
        if outcome.absorbed_nanos:
            self._absorbed.inc(outcome.absorbed_nanos)
        if row.estimated:
            self._estimated.inc()

    def released(self, row: UsageRow) -> None:
        """A request ended without a charge."""
        self._count(row)

    def running(self, change: int) -> None:
        """A request began (1) or ended (-1)."""
        self._running.inc(change)

    def database_error(self) -> None:
        """A write that nobody waited for failed."""
        self._errors.inc()

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        if MULTIPROCESS_VARIABLE not in os.environ:
            return bytes(generate_latest(self._registry))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return bytes(generate_latest(registry))
