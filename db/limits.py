"""Limits per minute and of parallel requests: what a key, and all keys of a user, used of them, in the database.

A window is 60 s and begins with its first request, at a whole second. It is looked at and written while the user's row is
locked (on SQLite while the only writer writes), so that what is decided here holds for every process over one database. The
transaction is the caller's: the one that places the hold, closes it, or records a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from db import clock
from db.engine import sql, transaction
from db.models import LimitWindow, database
from db.names import lock_user
from db.reading import reading

WINDOW_MS = 60_000

_READ = "SELECT window_at, requests, tokens, parallel FROM limit_windows WHERE scope = ? AND subject_id = ?"
_WRITE = (
    "INSERT INTO limit_windows (scope, subject_id, window_at, requests, tokens, parallel) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (scope, subject_id) DO UPDATE SET window_at = excluded.window_at, requests = excluded.requests, "
    "tokens = excluded.tokens, parallel = excluded.parallel"
)
_CORRECT = (
    "UPDATE limit_windows SET "
    "tokens = CASE WHEN window_at <> ? THEN tokens WHEN tokens + ? > 0 THEN tokens + ? ELSE 0 END, "
    "parallel = CASE WHEN parallel > ? THEN parallel - ? ELSE 0 END WHERE scope = 'key' AND subject_id = ?"
)
_UNTAKE = (
    "UPDATE limit_windows SET requests = requests - 1, tokens = tokens - ?, parallel = parallel - ? "
    "WHERE scope = ? AND subject_id = ? AND requests > 0"
)


class Limit(StrEnum):
    """Which limit refuses a request."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"
    USER_REQUESTS = "user_requests"


@dataclass(slots=True)
class Limits:
    """The limits of a key (`user_rpm`: of its owner), None where there is none, and what a request takes of them.

    `tokens` is the most that it can use, `parallel` 1 when it will run, 0 when it only counts as a request.
    """

    key_id: int
    user_id: int
    rpm: int | None
    tpm: int | None
    max_parallel: int | None
    user_rpm: int | None
    tokens: int = 0
    parallel: int = 0

    @property
    def reserved_tokens(self) -> int:
        """What is reserved: a request that may need more than the whole limit takes all of it."""
        return 0 if self.tpm is None else min(self.tokens, self.tpm)


@dataclass(frozen=True, slots=True)
class Window:
    """What was used of a window that ends at `ends_at` (ms; a whole second)."""

    window_at: int
    requests: int
    tokens: int
    parallel: int = 0

    @property
    def ends_at(self) -> int:
        return self.window_at + WINDOW_MS


@dataclass(frozen=True, slots=True)
class Standing:
    """What is used once a request was counted, or was refused by `refused`. `user` is None without a limit of the user's."""

    at: int
    key: Window
    user: Window | None
    refused: Limit | None = None


def current(window: Window, at: int) -> Window:
    """The window as it is at `at`: itself, or a new one. A clock that goes back by less than a window opens no new one."""
    if window.window_at - WINDOW_MS <= at < window.ends_at:
        return window
    return Window(at - at % 1000, 0, 0, window.parallel)


def refusal(limits: Limits, key: Window, user: Window | None) -> Limit | None:
    """The limit that refuses the request, None when none does."""
    if limits.user_rpm is not None and user is not None and user.requests >= limits.user_rpm:
        return Limit.USER_REQUESTS
    if limits.rpm is not None and key.requests >= limits.rpm:
        return Limit.REQUESTS
    if limits.max_parallel is not None and key.parallel + limits.parallel > limits.max_parallel:
        return Limit.PARALLEL
    if limits.tpm is not None and limits.tokens and key.tokens + limits.reserved_tokens > limits.tpm:
        return Limit.TOKENS
    return None


def _read(scope: str, subject_id: int, at: int) -> Window:
    row = database.execute_sql(sql(_READ), (scope, subject_id)).fetchone()
    return current(Window(*row) if row is not None else Window(at - at % 1000, 0, 0), at)


def take(limits: Limits) -> Standing:
    """Count a request, or say which limit refuses it. Call with the user's row locked."""
    at = clock.now_ms()
    key = _read("key", limits.key_id, at)
    user = None if limits.user_rpm is None else _read("user", limits.user_id, at)
    refused = refusal(limits, key, user)
    if refused is not None:
        return Standing(at, key, user, refused)
    running = limits.parallel if limits.max_parallel is not None else 0
    key = Window(key.window_at, key.requests + 1, key.tokens + limits.reserved_tokens, key.parallel + running)
    _write("key", limits.key_id, key)
    if user is not None:
        user = Window(user.window_at, user.requests + 1, 0)
        _write("user", limits.user_id, user)
    return Standing(at, key, user)


def _write(scope: str, subject_id: int, window: Window) -> None:
    values = (scope, subject_id, window.window_at, window.requests, window.tokens, window.parallel)
    database.execute_sql(sql(_WRITE), values)


def untake(limits: Limits) -> None:
    """Undo `take` in the same transaction: the request comes again."""
    running = limits.parallel if limits.max_parallel is not None else 0
    database.execute_sql(sql(_UNTAKE), (limits.reserved_tokens, running, "key", limits.key_id))
    if limits.user_rpm is not None:
        database.execute_sql(sql(_UNTAKE), (0, 0, "user", limits.user_id))


def correct(key_id: int, window_at: int, more_tokens: int, parallel: int) -> None:
    """A request is over: `more_tokens` than were reserved in that window (negative: fewer), so many less run now."""
    database.execute_sql(sql(_CORRECT), (window_at, more_tokens, more_tokens, parallel, parallel, key_id))


@transaction
def count(limits: Limits) -> Standing:
    """Count a request that places no hold, in a transaction of its own."""
    lock_user(limits.user_id)
    return take(limits)


@reading
def look(limits: Limits) -> Standing:
    """What is used now, and which limit would refuse the request; nothing is counted."""
    at = clock.now_ms()
    key = _read("key", limits.key_id, at)
    user = None if limits.user_rpm is None else _read("user", limits.user_id, at)
    return Standing(at, key, user, refusal(limits, key, user))


def forget(scope: str, subject_id: int, *, running: int) -> None:
    """Begin a new window: nothing used, `running` requests under way. Call with the user's row locked."""
    LimitWindow.delete().where((LimitWindow.scope == scope) & (LimitWindow.subject_id == subject_id)).execute()
    if running:
        at = clock.now_ms()
        _write(scope, subject_id, Window(at - at % 1000, 0, 0, running))
