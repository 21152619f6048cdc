"""A circuit breaker: when to stop sending requests to a deployment, and when to try again. Pure; the time is an argument (s).

    ready ──▶ open: TRIP failures in a row, or half of the last ones
      ▲        │
      └────────┴─ every PAUSE_S one real request is let through; its success closes, its failure begins another pause

A deployment that nobody can stand in for opens later: ALONE_TRIP failures in a row and no success for SILENCE_S, or that many
times no connection: some failures are better than no tries. Before a breaker opens, what is under way counts already: where
another deployment can be asked it is asked first, so that a provider that hangs does not collect a pile of requests.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice
from typing import Final

TRIP: Final = 3
ALONE_TRIP: Final = 5
SILENCE_S: Final = 2.0
PAUSE_S: Final = 30.0
WINDOW_S: Final = 60.0
RECENT, LEAST_RECENT = 20, 10  # outcomes that a rate of failure is taken of: at most, at least
PATIENCE_S: Final = 10.0  # without an answer, as long as nothing is known of how long one takes
LEAST_PATIENCE_S, MOST_PATIENCE_S, USUAL = 2.0, 30.0, 4.0
LATENCY_SHARE: Final = 0.2  # of the newest in the running mean
LATENCY_KNOWN_S: Final = 60.0  # then it is measured anew


class State(Enum):
    """READY; HESITANT: others first; PROBE: this request may try; OPEN: no request goes there."""

    READY = auto()
    HESITANT = auto()
    PROBE = auto()
    OPEN = auto()


@dataclass(slots=True)
class Breaker:
    """The state of one deployment in one worker."""

    streak: int = 0  # failures since the last success,
    unreachable: int = 0  # and those among them that made no connection
    succeeded_at: float = float("-inf")
    opened_at: float | None = None
    probe_at: float = 0.0
    reason: str = ""  # of the last failure
    _recent: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=RECENT))
    _waiting: dict[int, float] = field(default_factory=dict)  # attempts without an answer: number, begun
    _numbered: int = 0
    _latency_s: float | None = None
    _measured_at: float = 0.0

    def state(self, now: float, *, alone: bool) -> State:
        """Whether a request may go there. `alone`: no other deployment or model can serve it."""
        if self.opened_at is not None and (not alone or self._surely_dead(now)):
            return State.PROBE if now >= self.probe_at else State.OPEN
        return State.HESITANT if self._hesitant(now) else State.READY

    def begin(self, now: float) -> int:
        """A request is sent; its number. While open this is the probe: the next one may follow after a pause."""
        self._numbered += 1
        self._waiting[self._numbered] = now
        if self.opened_at is not None:
            self.probe_at = now + PAUSE_S
        return self._numbered

    def answered(self, number: int, now: float) -> None:
        """The head of its reply came."""
        begun = self._waiting.pop(number, None)
        if begun is None:
            return
        took, known = now - begun, self.latency_s(now)
        self._latency_s = took if known is None else known + LATENCY_SHARE * (took - known)
        self._measured_at = now

    def forget(self, number: int) -> None:
        """It ended without an answer, and not by the provider's fault."""
        self._waiting.pop(number, None)

    def succeeded(self, begun: float, now: float) -> bool:
        """A request that was sent at `begun` was served. True when this closed the breaker.

        One that was sent before it opened says nothing of now.
        """
        if self.opened_at is not None and begun < self.opened_at:
            return False
        closed = self.opened_at is not None
        if closed:
            self._recent.clear()
        self.streak, self.unreachable, self.opened_at, self.reason = 0, 0, None, ""
        self.succeeded_at = now
        self._recent.append((now, True))
        return closed

    def failed(self, begun: float, now: float, reason: str, *, unreachable: bool = False) -> bool:
        """A request that was sent at `begun` was not served. True when this opened the breaker."""
        self.streak += 1
        self.unreachable += unreachable
        self.reason = reason
        if self.opened_at is not None and begun < self.opened_at:
            return False
        self._recent.append((now, False))
        if self.opened_at is not None:
            self.probe_at = max(self.probe_at, now + PAUSE_S)
            return False
        if self.streak < TRIP and not self._fails_mostly(now):
            return False
        self.opened_at, self.probe_at = now, now + PAUSE_S
        return True

    def latency_s(self, now: float) -> float | None:
        """The running mean until the first byte; None when it is not known, or not any more."""
        return self._latency_s if now - self._measured_at <= LATENCY_KNOWN_S else None

    def _surely_dead(self, now: float) -> bool:
        if self.streak < ALONE_TRIP:
            return False
        return self.unreachable >= ALONE_TRIP or now - self.succeeded_at >= SILENCE_S

    def _fails_mostly(self, now: float) -> bool:
        recent = [good for at, good in self._recent if now - at <= WINDOW_S]
        return len(recent) >= LEAST_RECENT and 2 * recent.count(False) >= len(recent)

    def _hesitant(self, now: float) -> bool:
        waiting = len(self._waiting)
        if self.streak and self.streak + waiting >= TRIP:
            return True  # what is under way may be what opens it
        if waiting < TRIP:
            return False
        usual = self.latency_s(now)
        patience = PATIENCE_S if usual is None else min(max(USUAL * usual, LEAST_PATIENCE_S), MOST_PATIENCE_S)
        needed = max(TRIP, (waiting + 1) // 2)
        last = next(islice(self._waiting.values(), needed - 1, None))  # the oldest come first
        return now - last >= patience
