"""Many small transactions as one: what the daemon's writer thread runs (group commit).

The jobs of a batch share one transaction and one fsync. Jobs are run in the order of their user, so that two processes on
PostgreSQL lock rows in the same order. When one job fails, the whole batch is rolled back and each job is run again in a
transaction of its own, so that one failure harms nobody else. What a whole database fails of (locked, away) is waited for
once, not once for each job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import peewee

from db import counters
from db.engine import close_connection, is_sqlite, unavailable
from db.errors import DatabaseUnavailable
from db.models import database


@dataclass(slots=True)
class Job:
    """A function to run in a transaction, and what came of it. `order` sorts jobs inside a batch (the user's id)."""

    function: Callable[[], Any]
    order: int = 0
    repeat: Callable[[], Any] | None = None  # used when it is not known whether the first attempt was committed
    result: Any = None
    error: BaseException | None = None


def run(jobs: Sequence[Job]) -> None:
    """Run all jobs; each gets its result or its error. Never raises."""
    ordered = sorted(jobs, key=lambda job: job.order) if len(jobs) > 1 else jobs
    committing = False
    current: Job | None = None
    counters.collect()
    try:
        with database.atomic():
            for current in ordered:
                current.result = current.function()
            current = None
            counters.flush()
            committing = True
        return
    except Exception as error:
        kind, failure = _kind(error), _as_store_error(error)
    finally:
        counters.discard()
    if kind is _Kind.CUT:
        close_connection()
    if len(ordered) == 1 and kind not in _REPEATED:
        ordered[0].result, ordered[0].error = None, failure
        return
    refused: dict[int | None, BaseException] = {}  # by order; None: everybody
    if kind in _HITS_ALL:
        refused[None] = failure
    elif kind is _Kind.ROW_LOCKED and current is not None:
        refused[current.order] = failure
    for job in ordered:
        job.result, job.error = None, refused.get(None) or refused.get(job.order)
        if job.error is None:
            _run_alone(job, refused, outcome_unknown=kind is _Kind.CUT and committing)


def _run_alone(job: Job, refused: dict[int | None, BaseException], *, outcome_unknown: bool) -> None:
    """Run in a transaction of its own, twice if the first failure says that this may help."""
    for _ in range(2):
        function = job.repeat if outcome_unknown and job.repeat is not None else job.function
        committing = False
        try:
            with database.atomic():
                job.result = function()
                committing = True
            job.error = None
            return
        except Exception as error:
            kind, failure = _kind(error), _as_store_error(error)
            job.result, job.error = None, failure
        if kind is _Kind.CUT:
            close_connection()
            outcome_unknown = outcome_unknown or committing
        if kind not in _REPEATED:
            break
    if kind in _HITS_ALL:
        refused[None] = failure
    elif kind is _Kind.ROW_LOCKED:
        refused[job.order] = failure


class _Kind(Enum):
    """What a failure says about the jobs that are still to be run."""

    OWN = auto()  # nothing
    VICTIM = auto()  # deadlock or serialization failure: once more and it works
    CUT = auto()  # the connection broke: with a new one it works; a commit under way may be done or not
    ROW_LOCKED = auto()  # another program holds the user's row: the user's other jobs would wait in vain
    FILE_LOCKED = auto()  # another program has the whole SQLite file: everybody would wait in vain
    AWAY = auto()  # no connection to be had: likewise


_REPEATED = frozenset({_Kind.VICTIM, _Kind.CUT})
_HITS_ALL = frozenset({_Kind.FILE_LOCKED, _Kind.AWAY})
_BY_SQLSTATE = {"40001": _Kind.VICTIM, "40P01": _Kind.VICTIM, "55P03": _Kind.ROW_LOCKED}


def _kind(error: BaseException) -> _Kind:
    """Call before the connection is closed."""
    if not isinstance(error, peewee.OperationalError | peewee.InterfaceError):
        return _Kind.OWN
    if is_sqlite():
        return _Kind.FILE_LOCKED if "locked" in str(error) else _Kind.OWN
    if database.is_closed():
        return _Kind.AWAY
    if database.connection().closed:
        return _Kind.CUT
    # Peewee keeps the driver's exception in `orig`.
    return _BY_SQLSTATE.get(getattr(getattr(error, "orig", None), "sqlstate", None) or "", _Kind.OWN)


def _as_store_error(error: BaseException) -> BaseException:
    if isinstance(error, peewee.OperationalError | peewee.InterfaceError) or type(error) is peewee.DatabaseError:
        problem: DatabaseUnavailable = unavailable(error)
        problem.__cause__ = error
        return problem
    return error
