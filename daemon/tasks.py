"""Tasks that the app owns: no task is forgotten, none dies with the connection that started it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from daemon import log


class Tasks:
    """A set of running tasks, with a way to wait for their end."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str, report: bool = True) -> asyncio.Task[Any]:
        """Run `work` as a task of the app's own. What it raises is logged, unless the caller looks at it (`report`)."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._done if report else self._running.discard)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.exception("task failed", error, task=task.get_name())

    async def wait(self, timeout_s: float) -> int:
        """Wait until every task has ended, for at most `timeout_s`; returns how many still run."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout_s)
        return len(self._running)

    def cancel_all(self) -> None:
        """Cancel what still runs."""
        for task in list(self._running):
            task.cancel()
