"""What handlers and the relay work with: the concrete parts of one worker, made by daemon.app."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daemon import log
from daemon.domain.catalog import Provider
from daemon.domain.routing import Routes
from daemon.door import Door
from daemon.metrics import Metrics
from daemon.shared_counters import SharedCounters
from daemon.snapshot import Snapshot
from daemon.store import Store
from daemon.tasks import Tasks
from daemon.token_counter import TokenCounter
from daemon.upstream.base import Upstream
from daemon.watchdog import Watchdog
from db import clock, deployments
from db.settings import Settings
from db.snapshot import StoredDeployment


@dataclass(frozen=True, slots=True)
class Seen:
    """How a provider was last seen: by requests, never by a call of a health endpoint."""

    up: bool
    latency_ms: int | None
    at: int


RETRY_COST, MOST_RETRY_CREDIT = 10, 100  # a request earns 1: connecting again happens for at most a tenth of the requests


@dataclass(slots=True)
class RetryBudget:
    """How often a provider may be asked again: a crowd that does it together keeps a struggling provider down."""

    credit: int = RETRY_COST

    def earn(self) -> None:
        """A request is sent for the first time."""
        self.credit = min(self.credit + 1, MOST_RETRY_CREDIT)

    def spend(self) -> bool:
        """Whether it may be sent again."""
        if self.credit < RETRY_COST:
            return False
        self.credit -= RETRY_COST
        return True


@dataclass(slots=True)
class Gateway:
    """One worker's parts and state. `draining` is set when it must take no new work."""

    settings: Settings
    store: Store
    snapshot: Snapshot
    tasks: Tasks
    watchdog: Watchdog
    metrics: Metrics
    process_id: int
    make_upstream: Callable[[Provider], Upstream]
    tokens: TokenCounter
    counters: SharedCounters | None = None  # None: the database counts
    routes: Routes = field(init=False)
    started_at: int = field(default_factory=clock.now_ms)
    draining: bool = False
    door: Door = field(init=False)
    health: dict[int, Seen] = field(default_factory=dict)  # by provider id
    drains: int = 0  # streams that are read on after their client left
    closing: Tasks = field(default_factory=Tasks)  # of replaced upstreams; no drain waits for them
    _numbered: int = 0
    _id_of_process: int = field(default_factory=lambda: secrets.randbits(64))
    _upstreams: dict[int, tuple[Any, Upstream]] = field(default_factory=dict)
    _retries: dict[int, RetryBudget] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.door = Door(self.settings.free_auth_failures)
        self.routes = Routes(time.monotonic, clock.now_ms, random.random, self.settings.workers, self._breaker_changed)

    def new_request_id(self) -> str:
        """Unique, and in order of time, so that rows written together lie together: time, process (random), number."""
        self._numbered += 1
        return f"req_{clock.now_ms():011x}{self._id_of_process:016x}{self._numbered:06x}"

    def new_suffix(self) -> str:
        """What makes a client's own request id unique when it was used before."""
        return f"{secrets.randbits(40):010x}"

    def upstream(self, provider: Provider) -> Upstream:
        """The client of a provider; made anew when the provider's own settings changed, the old one closed later."""
        stored = provider.stored
        shape = (stored.base_url, stored.protocol, stored.connect_timeout_ms, stored.max_connections)
        found = self._upstreams.get(stored.id)
        if found is not None and found[0] == shape:
            return found[1]
        upstream = self.make_upstream(provider)
        self._upstreams[stored.id] = (shape, upstream)
        if found is not None:
            work = _close_later(found[1], stored.total_timeout_ms / 1000)
            self.closing.spawn(work, name=f"close upstream {stored.slug}")
        return upstream

    def _breaker_changed(self, provider: Provider, deployment: StoredDeployment, reason: str | None) -> None:
        name = {"provider": provider.stored.slug, "upstream": deployment.upstream_name}
        if reason is None:
            log.info("deployment works again", **name)
        else:
            log.warning("deployment failing, not asked for a while", reason=reason, **name)
        self.store.write_soon(partial(deployments.note_open, deployment.id, reason))

    def retries(self, provider_id: int) -> RetryBudget:
        """The budget of connecting again to a provider."""
        return self._retries.setdefault(provider_id, RetryBudget())

    async def close_upstreams(self) -> None:
        """Close every provider's connections."""
        self.closing.cancel_all()
        for _, upstream in self._upstreams.values():
            await upstream.aclose()
        self._upstreams.clear()


async def _close_later(upstream: Upstream, delay_s: float) -> None:
    """After the longest request that may still run on it; what lies idle goes earlier by itself."""
    await asyncio.sleep(delay_s)
    await upstream.aclose()
