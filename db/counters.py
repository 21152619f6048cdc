"""Daily counters per user, key and provider: requests, tokens, cost. Written in the transaction that settles a request.

Inside a batch the additions of all settlements are summed and written once, in one fixed order, so that processes that
settle for the same provider at the same time cannot deadlock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from db import clock
from db.engine import sql
from db.models import Counter, database

_UPSERT = (
    "INSERT INTO counters (scope, subject_id, window_at, requests, tokens, cost_nanos) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (scope, subject_id, window_at) DO UPDATE SET requests = counters.requests + excluded.requests, "
    "tokens = counters.tokens + excluded.tokens, cost_nanos = counters.cost_nanos + excluded.cost_nanos"
)

Subject = tuple[str, int, int]  # scope, subject id, start of the UTC day in ms


class _Pending(threading.local):
    def __init__(self) -> None:
        self.sums: dict[Subject, list[int]] | None = None


_pending = _Pending()


def collect() -> None:
    """Start a batch on this thread: additions wait for `flush`."""
    _pending.sums = {}


def discard() -> None:
    """Forget what the batch collected (it was rolled back)."""
    _pending.sums = None


def flush() -> None:
    """Write what the batch collected, in one fixed order."""
    sums, _pending.sums = _pending.sums, None
    for subject in sorted(sums or ()):
        database.execute_sql(sql(_UPSERT), (*subject, *sums[subject]))  # type: ignore[index]


def add(scope: str, subject_id: int, at: int, *, requests: int, tokens: int, cost_nanos: int) -> None:
    """Add to the counters of the UTC day that holds `at`."""
    subject = (scope, subject_id, clock.day_of(at) * clock.DAY_MS)
    if _pending.sums is None:
        database.execute_sql(sql(_UPSERT), (*subject, requests, tokens, cost_nanos))
        return
    sums = _pending.sums.setdefault(subject, [0, 0, 0])
    sums[0] += requests
    sums[1] += tokens
    sums[2] += cost_nanos


@dataclass(frozen=True, slots=True)
class Count:
    """What a subject used in one UTC day."""

    requests: int
    tokens: int
    cost_nanos: int


def of_day(scope: str, subject_id: int, at: int) -> Count:
    """The counters of the UTC day that holds `at`."""
    row = Counter.get_or_none(
        (Counter.scope == scope) & (Counter.subject_id == subject_id) & (Counter.window_at == clock.day_of(at) * clock.DAY_MS)
    )
    return Count(row.requests, row.tokens, row.cost_nanos) if row else Count(0, 0, 0)
