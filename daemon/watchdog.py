"""Deadlines for waiting on clients, many at once: one sweep a second instead of a timer for each wait.

A timer of its own for every body and every write would cost more than the rest of the write. The price is precision: a wait
ends up to a second late.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

SWEEP_S = 1.0


class Wait:
    """`with` block whose task is cancelled when it takes too long; the block then raises TimeoutError."""

    __slots__ = ("_deadline", "_dog", "_overdue", "_task")

    def __init__(self, dog: Watchdog, seconds: float) -> None:
        self._dog = dog
        self._deadline = dog.loop.time() + seconds
        self._overdue = False

    def __enter__(self) -> Wait:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._dog.waits.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._dog.waits.discard(self)
        if self._overdue and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise TimeoutError from error

    def check(self, now: float) -> None:
        """Cancel the task if the deadline has passed."""
        if now >= self._deadline and not self._overdue:
            self._overdue = True
            self._task.cancel()


class Watchdog:
    """The waits of one event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waits: set[Wait] = set()

    def wait(self, seconds: float) -> Wait:
        """`with watchdog.wait(30): await …`"""
        return Wait(self, seconds)

    def sweep(self) -> None:
        """Cancel every wait whose deadline has passed."""
        now = self.loop.time()
        for wait in list(self.waits):
            wait.check(now)
