"""The keys that the gateway keeps in Redis, what they hold, and for how long; read and deleted here for the command line.

`gw:limit:{key|user}:{id}`: a hash of the current window: `at` (its start, ms), `requests`, `tokens`. Gone after 2 minutes.
`gw:day:{YYYYMMDD}:{user|key}:{id}:{requests|tokens|cost_nano}` and `gw:day:{YYYYMMDD}:provider:{slug}:…`: sums of a UTC day.
Gone after 48 hours. Nothing about money is decided by them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from db import clock
from db.errors import DatabaseUnavailable
from db.limits import Window, current

LIMIT_TTL_MS = 120_000
DAY_TTL_S = 48 * 3600
TIMEOUT_S = 0.5


def limit_key(scope: str, subject_id: int) -> str:
    """The window of a key or of a user."""
    return f"gw:limit:{scope}:{subject_id}"


def day_key(at: int, scope: str, subject: int | str) -> str:
    """The sums of the UTC day that holds `at`, without the last part."""
    day = datetime.fromtimestamp(at // 1000, UTC)
    return f"gw:day:{day:%Y%m%d}:{scope}:{subject}"


class Windows:
    """The windows in a Redis, for who administers. DatabaseUnavailable when it does not answer."""

    def __init__(self, url: str) -> None:
        import redis

        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self._redis: Any = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)

    def __call__(self, scope: str, subject_id: int) -> Window:
        """What is used now."""
        at = clock.now_ms()
        try:
            found = self._redis.hmget(limit_key(scope, subject_id), "at", "requests", "tokens")
        except self._errors as error:
            raise _unavailable() from error
        window = Window(at - at % 1000, 0, 0) if None in found else Window(*(int(value) for value in found))
        return current(window, at)

    def forget(self, scope: str, subject_id: int) -> None:
        """Begin a new window with the next request."""
        try:
            self._redis.delete(limit_key(scope, subject_id))
        except self._errors as error:
            raise _unavailable() from error


def _unavailable() -> DatabaseUnavailable:
    return DatabaseUnavailable("Redis does not answer", "See: gatewayctl config show redis_url")
