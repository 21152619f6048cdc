"""Numbered schema changes, over playhouse.migrations. Run by `gatewayctl init` and `db migrate`, never inside a worker.

A migration runs in one transaction on both databases, so a kill half-way leaves the previous schema. Before a change to
a SQLite database that holds data, a copy is written beside it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playhouse.migrations import Runner

from db.engine import is_sqlite, long_statements, translated_errors
from db.errors import DatabaseUnavailable, SchemaMismatch
from db.models import database

DIRECTORY = Path(__file__).parent / "migrations"
HISTORY_TABLE = "schema_migrations"
ALONE_WAIT_S = 60.0
_ADVISORY_LOCK = 0x67617465  # any number that nobody else takes


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Names of migrations: applied ones, pending ones, and ones this program does not know (a newer database)."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def current(self) -> bool:
        return not self.pending and not self.unknown


def _runner(directory: Path = DIRECTORY) -> Runner:
    return Runner(database.obj, directory=str(directory), table_name=HISTORY_TABLE)


def status() -> SchemaStatus:
    """What the open database has and lacks."""
    with translated_errors():
        rows = _runner().status()
    return SchemaStatus(
        applied=tuple(row.name for row in rows if row.applied and row.path),
        pending=tuple(row.name for row in rows if not row.applied),
        unknown=tuple(row.name for row in rows if not row.path),
    )


def require_current() -> None:
    """Raise SchemaMismatch unless the schema is exactly this program's."""
    found = status()
    if found.unknown:
        raise SchemaMismatch(
            f"The database was written by a newer gatewayctl (it has {found.unknown[-1]})",
            "Upgrade gatewayctl",
        )
    if found.pending:
        raise SchemaMismatch(
            f"The database's schema is behind by {len(found.pending)} migration(s)",
            "Run: gatewayctl db migrate",
        )


def _sqlite_file() -> Path:
    [file] = [row[2] for row in database.execute_sql("PRAGMA database_list").fetchall() if row[1] == "main"]
    return Path(file)


def _backup_before_change() -> Path | None:
    if not is_sqlite():
        return None
    file = _sqlite_file()
    target = file.with_name(f"{file.name}.before-migration")
    target.unlink(missing_ok=True)
    database.execute_sql("VACUUM INTO ?", (str(target),))
    target.chmod(0o600)
    return target


def migrate() -> list[str]:
    """Apply what is pending; returns the names. Refuses a database that is newer than the program.

    One program at a time: who comes second waits, and finds nothing left to do.
    """
    if not status().pending:
        require_current()
        return []
    with translated_errors(), _alone():
        found = status()
        if found.unknown:
            require_current()
        if not found.pending:
            return []
        if found.applied:
            _backup_before_change()
        long_statements()
        applied: list[str] = _runner().up()
    return applied


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of migrations, which a killed program gives back."""
    if not is_sqlite():
        database.execute_sql(f"SET lock_timeout = {int(ALONE_WAIT_S * 1000)}")
        database.execute_sql("SELECT pg_advisory_lock(%s)", (_ADVISORY_LOCK,))
        try:
            yield
        finally:
            if not database.is_closed():
                database.execute_sql("SELECT pg_advisory_unlock(%s)", (_ADVISORY_LOCK,))
        return
    directory = os.open(_sqlite_file().parent, os.O_RDONLY)
    try:
        deadline = time.monotonic() + ALONE_WAIT_S
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise DatabaseUnavailable("Another program is migrating the database", "Try again in a moment") from None
            time.sleep(0.05)
        yield
    finally:
        os.close(directory)
