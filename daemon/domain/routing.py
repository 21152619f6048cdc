"""Which deployment and which credential is asked next: order, rests, shares. The state of one worker; pure, with the clock and
chance given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from daemon.domain.breaker import Breaker, State
from daemon.domain.catalog import Credential, Provider
from daemon.domain.errors import ApiError
from db.snapshot import StoredDeployment, StoredModel

FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0  # after a 429 that does not say how long; each time twice as long
MOST_REST_S: Final = 3600.0  # whatever a 429 says
BUSY_WAIT_S: Final = 1
AGAIN_S: Final = 60.0  # a benched credential is tried by one request of a worker in this time

Served = tuple[Provider, StoredDeployment]


@dataclass(slots=True)
class _Rest:
    until: float = 0.0
    times: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a deployment cannot be asked now: an error of the catalogue, and after how many seconds it may be."""

    code: str
    wait_s: int | None = None


@dataclass(slots=True)
class Routes:
    """`clock`: monotonic seconds; `wall`: milliseconds since the epoch; `chance`: evenly from [0, 1). `workers` share limits.

    `changed` is called when a breaker opened (with the reason) or closed (None).
    """

    clock: Callable[[], float]
    wall: Callable[[], int]
    chance: Callable[[], float]
    workers: int = 1
    changed: Callable[[Provider, StoredDeployment, str | None], None] = lambda provider, deployment, reason: None
    _breakers: dict[int, tuple[str, Breaker]] = field(default_factory=dict)  # by deployment, with the address it is for
    _rests: dict[tuple[str, int], _Rest] = field(default_factory=dict)  # by address and credential
    _busy: dict[int, int] = field(default_factory=dict)  # requests that run, by credential
    _turns: dict[int, int] = field(default_factory=dict)  # by provider
    _probed: dict[int, tuple[int, float]] = field(default_factory=dict)  # benched credentials: bench that was tried, when

    def breaker(self, provider: Provider, deployment: StoredDeployment) -> Breaker:
        """A deployment's breaker; a new one when its provider got another address."""
        found = self._breakers.get(deployment.id)
        if found is None or found[0] != provider.stored.base_url:
            found = self._breakers[deployment.id] = (provider.stored.base_url, Breaker())
        return found[1]

    # -- deployments

    def refusal(self, provider: Provider, deployment: StoredDeployment, *, alone: bool) -> Refusal | None:
        """Why no request may go there now; None when one may."""
        now = self.clock()
        breaker = self.breaker(provider, deployment)
        if breaker.state(now, alone=alone) is State.OPEN:
            return Refusal("model_unavailable", _whole(breaker.probe_at - now))
        return self._without_credential(provider, now)

    def _without_credential(self, provider: Provider, now: float) -> Refusal | None:
        if provider.usable:
            for one in provider.credentials:
                if self._free(one) and not self._resting(provider, one, now):
                    return None  # nearly always: the first one
        if not provider.usable and not any(self._due(one, now) for one in provider.benched):
            return Refusal("no_active_api_keys")
        rests = [self._resting(provider, one, now) for one in provider.credentials or (None,)]
        if all(rests) and not any(self._due(one, now) for one in provider.benched):
            return Refusal("upstream_rate_limited", _whole(min(rests)))
        if not any(self._free(one) for one in (*provider.credentials, *provider.benched)) and provider.credentials:
            return Refusal("overloaded", BUSY_WAIT_S)
        return None

    def ordered(self, model: StoredModel, offered: list[Served]) -> list[Served]:
        """In the order in which they are asked: what hesitates last, then by priority, in a tier by weight or latency.

        One that is due for a probe is the first of its tier: that a real request tries it is how it comes back.
        """
        if len(offered) < 2:
            return offered
        now = self.clock()
        ranked = []
        for served in offered:
            breaker = self.breaker(*served)
            state = breaker.state(now, alone=False)
            if state is State.PROBE:
                place = -math.inf
            elif model.routing == "least_latency":
                place = breaker.latency_s(now) or 0.0
            else:
                # The smallest of exponential variables is the one of rate w with probability w / sum of all w.
                place = -math.log(1.0 - self.chance()) / served[1].weight
            ranked.append(((state is State.HESITANT, served[1].priority, place), served))
        ranked.sort(key=lambda pair: pair[0])
        return [served for _, served in ranked]

    # -- credentials

    def credentials(self, provider: Provider) -> list[Credential | None]:
        """Those that may be used now, in the order of this turn, each once; [None] where none is needed."""
        now = self.clock()
        rotation = provider.rotation
        due = [one for one in provider.benched if self._due(one, now) and self._free(one)]
        if not rotation and not due:
            return [None] if provider.usable and not self._resting(provider, None, now) else []
        usable: list[Credential] = []
        if rotation:
            turn = self._turns[provider.stored.id] = self._turns.get(provider.stored.id, -1) + 1
            start = turn % len(rotation)
            usable = list(dict.fromkeys(rotation[start:] + rotation[:start])) if len(rotation) > 1 else list(rotation)
            usable = [one for one in usable if not self._resting(provider, one, now) and self._free(one)]
            if provider.stored.rotation == "least_busy":
                usable.sort(key=lambda one: self._busy.get(one.id, 0) / one.weight)
        return [*due[:1], *usable]

    def credential(self, provider: Provider) -> Credential | None:
        """For a request whose outcome nobody tells: never a benched one."""
        usable = [one for one in self.credentials(provider) if one is not None and one.probe_at is None]
        return next(iter(usable or provider.credentials), None)

    def rest(self, provider: Provider, credential: Credential | None, wait_s: float | None) -> int:
        """A 429: no request with it until then; the seconds. Without a time told, longer each time."""
        found = self._rests.setdefault(_key(provider, credential), _Rest())
        found.times += 1
        pause = min(FIRST_REST_S * 2.0 ** min(found.times - 1, 10), LONGEST_REST_S) if wait_s is None else wait_s
        pause = min(pause, MOST_REST_S)
        found.until = max(found.until, self.clock() + pause)
        return _whole(pause)

    def accepted(self, provider: Provider, credential: Credential | None) -> None:
        """The provider took a request with it: the next 429 is a first one again."""
        if self._rests:
            self._rests.pop(_key(provider, credential), None)

    def _resting(self, provider: Provider, credential: Credential | None, now: float) -> float:
        """For how many seconds it still rests; 0: it does not."""
        if not self._rests:
            return 0.0
        found = self._rests.get(_key(provider, credential))
        return max(0.0, found.until - now) if found is not None else 0.0

    def _free(self, credential: Credential) -> bool:
        most = credential.max_parallel
        return most is None or self._busy.get(credential.id, 0) < max(1, most // self.workers)

    def _due(self, credential: Credential, now: float) -> bool:
        """Whether a benched credential may be tried: after its pause, by one request."""
        if credential.probe_at is None or self.wall() < credential.probe_at:
            return False
        tried = self._probed.get(credential.id)
        return tried is None or tried[0] != credential.probe_at or now - tried[1] >= AGAIN_S

    # -- attempts

    def begin(self, provider: Provider, deployment: StoredDeployment, credential: Credential | None) -> Turn:
        """A request is sent there now."""
        now = self.clock()
        breaker = self.breaker(provider, deployment)
        if credential is not None:
            self._busy[credential.id] = self._busy.get(credential.id, 0) + 1
            if credential.probe_at is not None:
                self._probed[credential.id] = (credential.probe_at, now)
        return Turn(self, provider, deployment, credential, breaker, breaker.begin(now), now)

    def done(self, credential: Credential) -> None:
        """A request with it is over."""
        left = self._busy.get(credential.id, 1) - 1
        if left > 0:
            self._busy[credential.id] = left
        else:
            self._busy.pop(credential.id, None)


@dataclass(slots=True)
class Turn:
    """One attempt. What became of it is told once, by `worked` or `failed`; `end` when it is over, however it ended."""

    _routes: Routes
    provider: Provider
    deployment: StoredDeployment
    credential: Credential | None
    _breaker: Breaker
    _number: int
    _begun: float
    _told: bool = False
    _ended: bool = False

    def answered(self) -> None:
        """The head of a reply came."""
        self._breaker.answered(self._number, self._routes.clock())

    def worked(self) -> None:
        """The deployment did what it should."""
        if not self._told:
            self._told = True
            if self._breaker.succeeded(self._begun, self._routes.clock()):
                self._routes.changed(self.provider, self.deployment, None)

    def failed(self, reason: str, *, unreachable: bool = False) -> None:
        """It did not: no connection, no answer in time, an error of its own, a reply that broke off."""
        if not self._told:
            self._told = True
            if self._breaker.failed(self._begun, self._routes.clock(), reason, unreachable=unreachable):
                self._routes.changed(self.provider, self.deployment, reason)

    def end(self) -> None:
        """Any number of times."""
        if not self._ended:
            self._ended = True
            self._breaker.forget(self._number)
            if self.credential is not None:
                self._routes.done(self.credential)


def worst(refusals: Iterable[tuple[Provider, Refusal]], model: str) -> ApiError:
    """What the caller is told when nobody can be asked: what passes by itself before what an admin must change."""
    found = {refusal.code: (provider, refusal) for provider, refusal in refusals}
    for code in ("overloaded", "upstream_rate_limited", "model_unavailable", "provider_paused", "no_active_api_keys"):
        if code in found:
            provider, refusal = found[code]
            return ApiError.of(code, provider=provider.stored.slug, model=model, retry_after_s=refusal.wait_s)
    return ApiError.of("model_unavailable", model=model)


def _key(provider: Provider, credential: Credential | None) -> tuple[str, int]:
    return provider.stored.base_url, -provider.stored.id if credential is None else credential.id


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
