"""Failed authentications are slowed down, per address: who tries keys gets fewer answers, who has one notices nothing."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

WINDOW_S = 60.0
FIRST_S, LONGEST_S = 0.1, 2.0
MOST_ADDRESSES = 10_000
MOST_WAITING = 500


class Door:
    """The failures of this worker's window, for at most MOST_ADDRESSES addresses; the oldest are forgotten.

    `free` failures of an address in a window are answered at once; 0: all are.
    """

    def __init__(self, free: int) -> None:
        self._free = free
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._waiting = 0

    def delay_s(self, address: str, now: float) -> float:
        """Note a failure at `now` (monotonic s); how long its answer is to wait: doubled with each, after the free ones."""
        began, count = self._failures.pop(address, (now, 0))
        if now - began >= WINDOW_S:
            began, count = now, 0
        self._failures[address] = (began, count + 1)
        if len(self._failures) > MOST_ADDRESSES:
            self._failures.popitem(last=False)
        if count < self._free or not self._free:
            return 0.0
        return min(LONGEST_S, FIRST_S * 2 ** min(count - self._free, 10))

    async def failed(self, address: str) -> None:
        """Wait, before a failure is answered. With many waiting no more do: it would only keep connections."""
        delay = self.delay_s(address, time.monotonic())
        if not delay or self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(delay)
        finally:
            self._waiting -= 1
