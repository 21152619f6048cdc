"""open_database(url): the only module that knows which backend it is.

SQLite: WAL, synchronous FULL, STRICT tables, foreign keys on, every transaction IMMEDIATE. A connection waits for the
write lock in short steps of its own instead of SQLite's growing sleeps, so that two busy processes take turns fairly.
PostgreSQL: psycopg 3, short server-side time-outs, synchronous_commit on.
Connections belong to threads (Peewee keeps them in threading.local): never use one across an await.
"""

from __future__ import annotations

import functools
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote, unquote, urlsplit

import peewee
from peewee import PostgresqlDatabase, SqliteDatabase

from db.errors import DatabaseDamaged, DatabaseUnavailable, Invalid, NotInitialised
from db.models.base import database

P = ParamSpec("P")
R = TypeVar("R")

LOCK_WAIT_S = 5.0
BUSY_WAIT_S = 1  # of what is no transaction: readers meet a lock only while a log is recovered
_BUSY_TIMEOUT = f"PRAGMA busy_timeout = {BUSY_WAIT_S * 1000}"
SQLITE_PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": "full",
    "foreign_keys": 1,
    "cache_size": -16_000,
    "temp_store": "memory",
    "wal_autocheckpoint": 4000,
}


_patience = threading.local()


def wait_for_lock_until(monotonic_s: float | None) -> None:
    """Until when this thread's transactions wait for a locked database; None: LOCK_WAIT_S each."""
    _patience.until = monotonic_s


class WaitingSqlite(SqliteDatabase):
    """SqliteDatabase whose BEGIN IMMEDIATE asks for the lock every millisecond or so, for at most `lock_wait_s`.

    A thread that serves others (see `wait_for_lock_until`) waits no longer than those have left.
    """

    lock_wait_s = LOCK_WAIT_S

    def _set_pragmas(self, conn: Any) -> None:
        """A fresh file turns to its write-ahead log once, and who connects in that moment is told at once that it is locked."""
        deadline = time.monotonic() + self.lock_wait_s
        while True:
            try:
                return super()._set_pragmas(conn)
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
            time.sleep(random.uniform(0.001, 0.01))

    def begin(self, lock_type: str | None = None) -> None:
        until: float | None = getattr(_patience, "until", None)
        deadline = time.monotonic() + self.lock_wait_s if until is None else until
        cursor = self.cursor()
        # With SQLite's own wait, whose steps grow to 100 ms, a busy process would starve the others for seconds.
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    return super().begin(lock_type)
                except peewee.OperationalError as error:
                    if "locked" not in str(error) and "busy" not in str(error):
                        raise
                    if time.monotonic() >= deadline:
                        raise
                time.sleep(random.uniform(0.0005, 0.003))
        finally:
            cursor.execute(_BUSY_TIMEOUT)


def is_sqlite() -> bool:
    """True when the open database is SQLite."""
    return isinstance(database.obj, SqliteDatabase)


def sqlite_path(url: str) -> Path | None:
    """The file of a sqlite:// URL, None for other backends. `sqlite:///relative` and `sqlite:////absolute` as elsewhere."""
    if not url.startswith("sqlite:"):
        return None
    rest = url.removeprefix("sqlite://")
    if not rest.startswith("/") or rest == "/":
        raise Invalid(f"{url!r} is not a database URL", "Example: sqlite:////var/lib/gatewayctl/gateway.db")
    return Path(unquote(rest[1:]))


def _sqlite(path: Path, *, create: bool) -> SqliteDatabase:
    if not create and not path.exists():
        raise NotInitialised(f"There is no database at {path}", "Run: gatewayctl init")
    if create:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.close(descriptor)
    # `mode=rw`: a file that vanished is an error, never a fresh empty database.
    uri = f"file:{quote(str(path))}?mode=rw"
    return WaitingSqlite(uri, pragmas=SQLITE_PRAGMAS, timeout=BUSY_WAIT_S, lock_type="IMMEDIATE", uri=True)


def _postgresql(url: str) -> PostgresqlDatabase:
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    if not name:
        raise Invalid("The PostgreSQL URL names no database", "Example: postgresql://user@127.0.0.1/gateway")
    options = dict(item.split("=", 1) for item in parts.query.split("&") if "=" in item)
    connect: dict[str, Any] = {"connect_timeout": 2, "application_name": "gatewayctl"}
    if parts.username:
        connect["user"] = unquote(parts.username)
    if parts.password:
        connect["password"] = unquote(parts.password)
    if parts.hostname or "host" in options:
        connect["host"] = unquote(options.get("host", "")) or parts.hostname
    if parts.port:
        connect["port"] = parts.port
    if "sslmode" in options:
        connect["sslmode"] = options["sslmode"]
    connect["options"] = (
        "-c statement_timeout=5000 -c lock_timeout=4000 -c idle_in_transaction_session_timeout=10000 "
        "-c synchronous_commit=on -c timezone=UTC"
    )
    return PostgresqlDatabase(unquote(name), prefer_psycopg3=True, **connect)


def open_database(url: str, *, create: bool = False) -> None:
    """Bind every table to the database at `url` (sqlite:///… or postgresql://…). Connections open when first used."""
    path = sqlite_path(url)
    if path is not None:
        chosen: peewee.Database = _sqlite(path, create=create)
    elif url.startswith(("postgresql://", "postgres://")):
        chosen = _postgresql(url)
    else:
        raise Invalid(f"Unknown kind of database URL: {url.split(':', 1)[0]!r}", "Use sqlite:/// or postgresql://")
    if database.obj is not None and not database.obj.is_closed():
        database.obj.close()
    database.initialize(chosen)


def close_connection() -> None:
    """Close this thread's connection, if it has one."""
    if database.obj is not None and not database.is_closed():
        database.close()


def read_only_connection() -> None:
    """Open this thread's connection, unless it is open, such that it refuses to write."""
    if not database.is_closed():
        return
    database.connect()
    if is_sqlite():
        database.execute_sql("PRAGMA query_only = 1")
    else:
        database.execute_sql("SET default_transaction_read_only = on")


def wait_for_lock(seconds: float) -> None:
    """How long this process waits for another writer of an SQLite file (LOCK_WAIT_S unless told)."""
    if isinstance(database.obj, WaitingSqlite):
        database.obj.lock_wait_s = seconds


def size_bytes(url: str) -> int:
    """Bytes that the open database at `url` takes on disk, the write-ahead log included."""
    path = sqlite_path(url)
    if path is not None:
        parts = (path, path.with_name(f"{path.name}-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())
    return int(database.execute_sql("SELECT pg_database_size(current_database())").fetchone()[0])


def long_statements() -> None:
    """Lift the statement time-out: for the open transaction, else for this thread's connection from now on."""
    if not is_sqlite():
        database.execute_sql(f"SET {'LOCAL ' if database.in_transaction() else ''}statement_timeout = 0")


def transaction(function: Callable[P, R]) -> Callable[P, R]:
    """Run in one transaction: the one that is open (a batch of the writer thread), else one of its own."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if database.in_transaction():
            return function(*args, **kwargs)
        with translated_errors(), database.atomic():
            return function(*args, **kwargs)

    return run


@contextmanager
def read_snapshot() -> Iterator[None]:
    """One consistent look at the database that takes no write lock."""
    with translated_errors():
        if is_sqlite():
            with database.atomic("DEFERRED"):
                yield
        else:
            with database.atomic("REPEATABLE READ"):
                yield


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a driver's 'locked', 'cannot connect' and 'disk full' into DatabaseUnavailable."""
    try:
        yield
    except (peewee.OperationalError, peewee.InterfaceError, sqlite3.OperationalError) as error:
        raise unavailable(error) from error
    except peewee.DatabaseError as error:
        if type(error) is not peewee.DatabaseError:  # one of its subclasses: a mistake of ours
            raise
        raise unavailable(error) from error


def unavailable(error: BaseException) -> DatabaseUnavailable:
    """The sentence for a failure of the database itself; the cause hides in __context__ when a rollback failed too."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None and len(texts) < 6:
        texts.append(str(link))
        link = link.__cause__ or link.__context__
    text = " / ".join(texts)
    if "no such table" in text or "no such column" in text or "does not exist" in text:
        return DatabaseUnavailable("The database has no gateway schema", "Run: gatewayctl init")
    if "locked" in text or "busy" in text or "lock timeout" in text:
        return DatabaseUnavailable("The database is locked by another program", "Try again in a moment")
    if "malformed" in text or "not a database" in text:
        return DatabaseDamaged("The database file is damaged", "Restore a backup: gatewayctl db restore FILE")
    if "full" in text:
        return DatabaseUnavailable("The database's disk is full", "Free some space; nothing was written")
    return DatabaseUnavailable("The database cannot be reached or written", "Run: gatewayctl doctor")


def sql(text: str) -> str:
    """SQL text with `?` marks in the open database's own style."""
    return text if is_sqlite() else text.replace("?", "%s")


def for_update() -> str:
    """The clause that locks a row that will be changed; SQLite's write lock covers the whole file."""
    return "" if is_sqlite() else " FOR UPDATE"
