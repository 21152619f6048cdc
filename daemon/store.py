"""The async bridge to db/: one writer thread with group commit, a few reader threads, nothing on the event loop.

Everything that waits while a transaction is being committed goes into the next one, so that one fsync serves many requests.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from db import batch
from db.engine import LOCK_WAIT_S, close_connection, read_only_connection, translated_errors, wait_for_lock_until
from db.errors import DatabaseUnavailable, StoreError

P = ParamSpec("P")
R = TypeVar("R")

MOST_IN_A_BATCH = 512
MOST_WAITING = 20_000
READERS = 4


class _Write(batch.Job):
    """A job whose result goes to a future on the event loop (or nowhere). `since`: when it was asked for (monotonic s)."""

    __slots__ = ("future", "since")

    def __init__(
        self, function: Callable[[], Any], order: int, repeat: Callable[[], Any] | None, future: asyncio.Future[Any] | None
    ) -> None:
        super().__init__(function, order, repeat)
        self.future = future
        self.since = time.monotonic()


def _resolve(jobs: list[_Write]) -> None:
    for job in jobs:
        future = job.future
        if future is None or future.done():
            continue
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result)


class Store:
    """Owns the database threads of this process. Make it inside the running event loop."""

    def __init__(self, *, on_error: Callable[[BaseException], None] = lambda error: None) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._on_error = on_error
        self._writer = threading.Thread(target=self._write_loop, name="db-writer", daemon=True)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="db-reader")
        self._closed = False
        self._writer.start()

    async def write(
        self,
        function: Callable[[], R],
        *,
        order: int = 0,
        repeat: Callable[[], R] | None = None,
    ) -> R:
        """Run `function` on the writer thread; returns when its transaction is durable.

        `order`: the user's id. `repeat`: run instead of `function` when it is not known whether the first attempt was
        committed.
        """
        if self._closed or self._queue.qsize() >= MOST_WAITING:
            raise DatabaseUnavailable("The database cannot keep up", "Try again in a moment")
        future: asyncio.Future[R] = self._loop.create_future()
        self._queue.put(_Write(function, order, repeat, future))
        return await future

    def write_soon(self, function: Callable[[], Any], *, order: int = 0) -> None:
        """Run `function` on the writer thread some time soon. Its failure is reported to `on_error`."""
        if not self._closed and self._queue.qsize() < MOST_WAITING:
            self._queue.put(_Write(function, order, None, None))

    async def read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `function` on a reader thread, whose connection refuses to write."""
        return await self._loop.run_in_executor(self._readers, partial(_reading, function, *args, **kwargs))

    def waiting(self) -> int:
        """Writes that wait for the next transaction."""
        return self._queue.qsize()

    async def close(self) -> None:
        """Commit what waits, then end the threads."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=True)

    def _write_loop(self) -> None:
        stopping = False
        while not stopping:
            jobs: list[_Write] = []
            item = self._queue.get()
            while True:
                if item is None:
                    stopping = True
                    break
                jobs.append(item)
                if len(jobs) >= MOST_IN_A_BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if jobs:
                # They waited while the last batch did: nobody waits for a lock longer than LOCK_WAIT_S in all.
                wait_for_lock_until(min(job.since for job in jobs) + LOCK_WAIT_S)
                batch.run(jobs)
                for job in jobs:
                    if job.error is not None and job.future is None:
                        self._on_error(job.error)
                self._loop.call_soon_threadsafe(_resolve, jobs)
        close_connection()


def _reading(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    with translated_errors():
        try:
            read_only_connection()
            return function(*args, **kwargs)
        except StoreError:
            raise
        except Exception:
            close_connection()
            raise
