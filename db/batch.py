"""Many small transactions as one: what the daemon's writer thread runs (group commit).

The jobs of a batch share one transaction and one fsync. Jobs are run in the order of their user, so that two processes on
PostgreSQL lock rows in the same order. When one job fails, the whole batch is rolled back and each job is run again in a
transaction of its own, so that one failure harms nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from db import counters
from db.engine import close_connection, unavailable
from db.errors import DatabaseUnavailable, StoreError
from db.models import database


@dataclass(slots=True)
class Job:
    """A function to run in a transaction, and what came of it. `order` sorts jobs inside a batch (the user's id)."""

    function: Callable[[], Any]
    order: int = 0
    repeat: Callable[[], Any] | None = None  # used when the outcome of the first attempt is not known
    result: Any = None
    error: BaseException | None = None


def run(jobs: Sequence[Job]) -> None:
    """Run all jobs; each gets its result or its error. Never raises."""
    ordered = sorted(jobs, key=lambda job: job.order) if len(jobs) > 1 else jobs
    try:
        counters.collect()
        with database.atomic():
            for job in ordered:
                job.result = job.function()
            counters.flush()
        return
    except Exception as error:
        counters.discard()
        if len(jobs) == 1 and not _lost_connection(error):
            jobs[0].result, jobs[0].error = None, _as_store_error(error)
            return
        if _lost_connection(error):
            close_connection()
    for job in ordered:
        _run_alone(job)


def _run_alone(job: Job) -> None:
    job.result = None
    function = job.repeat or job.function
    for attempt in (1, 2):
        try:
            with database.atomic():
                job.result = function()
            job.error = None
            return
        except Exception as error:
            job.error = _as_store_error(error)
            if not _lost_connection(error):
                return
            close_connection()
            if attempt == 2:
                return


def _lost_connection(error: BaseException) -> bool:
    if not isinstance(error, (peewee.OperationalError, peewee.InterfaceError)):
        return False
    return not isinstance(database.obj, peewee.SqliteDatabase)


def _as_store_error(error: BaseException) -> BaseException:
    if isinstance(error, StoreError) or not isinstance(error, peewee.DatabaseError | peewee.InterfaceError):
        return error
    if isinstance(error, peewee.OperationalError | peewee.InterfaceError):
        problem: DatabaseUnavailable = unavailable(error)
        problem.__cause__ = error
        return problem
    return error
