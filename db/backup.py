"""Copies of the whole database while it is in use, and putting one back.

SQLite: the backup API inside one read transaction, so the copy is one consistent moment however busy the writers are,
checked before it gets its name. PostgreSQL: pg_dump and pg_restore of the server's own package; the password travels in
their environment, never in argv. Restoring keeps what was there: a file beside the database, or a dump beside the backup.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from db import migrate, processes
from db.clock import now_ms
from db.engine import (
    close_connection,
    is_sqlite,
    open_database,
    sqlite_path,
    translated_errors,
)
from db.errors import Conflict, DatabaseDamaged, DatabaseUnavailable, Invalid, NotFound, SchemaMismatch
from db.models import database

PAGES_PER_STEP = 2000
TOOL_LIMIT_S = 6 * 3600
PG_MAGIC = b"PGDMP"
SQLITE_MAGIC = b"SQLite format 3\0"
_MIGRATION = re.compile(r"\d{4}_\w+")

Progress = Callable[[int, int], None]  # pages done, pages in all


def _no_progress(done: int, total: int) -> None:
    """For those who do not watch."""


def write_backup(url: str, target: Path, *, overwrite: bool = False, progress: Progress = _no_progress) -> int:
    """Copy the open database at `url` to `target` (mode 0600); returns its size in bytes.

    Raises Conflict when the file exists already, DatabaseUnavailable when the copy fails.
    """
    if target.exists() and not overwrite:
        raise Conflict(f"{target} exists already", "Choose another name, or add --overwrite")
    if not target.parent.is_dir():
        raise NotFound(f"There is no directory {target.parent}", "Create it first")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        if is_sqlite():
            _copy_sqlite(part, progress)
        else:
            _run_tool(
                "pg_dump", f"--dbname={without_password(url)}", "--no-password", "--format=custom", "--no-owner",
                "--no-privileges", f"--file={part}", password=_password(url),
            )  # fmt: skip
        _sync(part)
        os.replace(part, target)
        _sync(target.parent)
    except OSError as error:
        raise DatabaseUnavailable(f"The copy cannot be written: {error.strerror}", "Check the disk") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def _copy_sqlite(target: Path, progress: Progress) -> None:
    source: sqlite3.Connection = database.connection()
    with translated_errors(), closing(sqlite3.connect(target)) as copy:
        # A read transaction of our own: without it each write of another process starts the copy anew.
        with database.atomic("DEFERRED"):
            database.execute_sql("SELECT COUNT(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=PAGES_PER_STEP, progress=lambda _, left, all: progress(all - left, all))
        copy.execute("PRAGMA journal_mode = delete")  # one file, no -wal beside it
        _require_sound(copy, target)


def _require_sound(connection: sqlite3.Connection, path: Path) -> None:
    [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise DatabaseUnavailable(f"{path} is damaged: {found}", "Use an older backup")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_no_daemon() -> None:
    """Raise Conflict while a daemon process uses the open database."""
    with translated_errors():
        live = [process for process in processes.running() if process.alive is not False]
    if live:
        names = ", ".join(f"pid {process.pid}" + ("" if process.local else " elsewhere") for process in live)
        raise Conflict(f"A gateway is running on this database ({names})", "Stop it first")


def restore(url: str, backup: Path) -> Path | None:
    """Replace the database at `url` by a backup; returns where the old one was kept (None: there was none).

    Raises NotFound, Invalid (not a backup), SchemaMismatch (of a newer program), Conflict (in use).
    """
    if not backup.is_file():
        raise NotFound(f"There is no file {backup}", "Give the file that `db backup` wrote")
    path = sqlite_path(url)
    with backup.open("rb") as file:
        magic = file.read(len(SQLITE_MAGIC))
    expected, kind = (SQLITE_MAGIC, "SQLite") if path is not None else (PG_MAGIC, "PostgreSQL")
    if not magic.startswith(expected):
        raise Invalid(f"{backup} is not a backup of a {kind} database", "Restore with the --db of its kind")
    if path is not None:
        return _restore_sqlite(url, path, backup)
    return _restore_postgresql(url, backup)


def _aside(path: Path) -> Path:
    """A name beside `path` that nobody uses, for what is kept."""
    stamp = datetime.fromtimestamp(now_ms() // 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path.name}.before-restore-{stamp}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    return next(found for name in names if not (found := path.with_name(name)).exists())


def _restore_sqlite(url: str, path: Path, backup: Path) -> Path | None:
    fresh = path.with_name(f"{path.name}.restoring")
    fresh.unlink(missing_ok=True)
    try:
        shutil.copyfile(backup, fresh)
        fresh.chmod(0o600)
        _check_candidate(fresh, backup)
        _sync(fresh)
        kept = _aside(path) if path.exists() else None
        if kept is None:
            os.replace(fresh, path)
        elif _is_readable(url):
            require_no_daemon()
            close_connection()
            _swap(path, fresh, kept)
        else:
            close_connection()
            _replace_damaged(path, fresh, kept)
        _sync(path.parent)
    except sqlite3.DatabaseError as error:
        raise Invalid(f"{backup} is not a sound database: {error}", "Use another backup") from error
    finally:
        fresh.unlink(missing_ok=True)
    open_database(url)
    return kept


def _is_readable(url: str) -> bool:
    """Whether the database at `url` can say who uses it: it may be the damaged one that a backup is to replace."""
    open_database(url)
    try:
        status = migrate.status()
    except DatabaseDamaged:
        return False
    return bool(status.applied or status.unknown)


def _check_candidate(fresh: Path, backup: Path) -> None:
    with closing(sqlite3.connect(fresh)) as connection:
        _require_sound(connection, backup)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if migrate.HISTORY_TABLE not in tables:
            raise Invalid(f"{backup} is not a database of this gateway", "Use the file that `db backup` wrote")
        _require_known_migrations(backup, {row[0] for row in connection.execute(f"SELECT name FROM {migrate.HISTORY_TABLE}")})


def _require_known_migrations(backup: Path, applied: set[str]) -> None:
    known = {file.stem for file in migrate.DIRECTORY.glob("*.py")}
    if applied - known:
        raise SchemaMismatch(f"{backup} was written by a newer gatewayctl", "Upgrade gatewayctl")


def _swap(path: Path, fresh: Path, kept: Path) -> None:
    """Put `fresh` in the place of `path`, which stays as `kept`. Leaving WAL mode proves that nobody else has it open.

    The write-ahead log goes with it: one that stayed behind would be applied to the wrong file.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=2)) as old:
            [mode] = old.execute("PRAGMA journal_mode = delete").fetchone()
            if mode != "delete":
                raise Conflict("Another program has the database open", "Stop it first")
            old.execute("BEGIN EXCLUSIVE")
            os.link(path, kept)
            os.replace(fresh, path)
    except sqlite3.OperationalError as error:
        raise Conflict("Another program has the database open", "Stop it first") from error


def _replace_damaged(path: Path, fresh: Path, kept: Path) -> None:
    """Put `fresh` in the place of a file that SQLite cannot read, and keep that with its write-ahead log."""
    os.link(path, kept)
    for suffix in ("-wal", "-shm"):
        log = path.with_name(path.name + suffix)
        if log.exists():
            log.rename(kept.with_name(kept.name + suffix))
    os.replace(fresh, path)


def _restore_postgresql(url: str, backup: Path) -> Path | None:
    _require_known_migrations(backup, _migrations_of_dump(backup))
    open_database(url)
    kept = None
    if migrate.status().applied:
        require_no_daemon()
        kept = _aside(backup.resolve())
        write_backup(url, kept)
    close_connection()
    _run_tool(
        "pg_restore", f"--dbname={without_password(url)}", "--clean", "--if-exists", "--no-owner", "--no-privileges",
        "--no-password", "--single-transaction", "--exit-on-error", str(backup), password=_password(url),
    )  # fmt: skip
    return kept


def _migrations_of_dump(backup: Path) -> set[str]:
    """The names in a dump's table of migrations, read without touching any database."""
    text = _run_tool("pg_restore", "--data-only", f"--table={migrate.HISTORY_TABLE}", "--file=-", str(backup))
    _, found, rows = text.partition(" FROM stdin;\n")
    if not found:
        raise Invalid(f"{backup} is not a database of this gateway", "Use the file that `db backup` wrote")
    lines = rows.partition("\n\\.")[0].splitlines()
    return {cell for line in lines for cell in line.split("\t") if _MIGRATION.fullmatch(cell)}


def _password(url: str) -> str | None:
    found = urlsplit(url).password
    return None if found is None else unquote(found)


def without_password(url: str) -> str:
    """A database URL that may be shown, or stand in argv."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}@{host}"))


def _run_tool(tool: str, *arguments: str, password: str | None = None) -> str:
    """Output of pg_dump or pg_restore; DatabaseUnavailable with what it said when it fails or is not installed."""
    program = shutil.which(tool)
    if program is None:
        raise DatabaseUnavailable(f"{tool} is not installed", "On Debian: apt-get install postgresql-client")
    environment = dict(os.environ, PGCONNECT_TIMEOUT="5", LC_ALL="C")
    if password is not None:
        environment["PGPASSWORD"] = password
    try:
        done = subprocess.run(
            [program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TOOL_LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise DatabaseUnavailable(f"{tool} cannot be run: {error.strerror}", "Check its installation") from error
    if done.returncode == 0:
        return done.stdout
    said = [line for line in done.stderr.splitlines() if line.strip()]
    reason = next((line for line in said if "error" in line.lower()), said[0] if said else "no reason given")
    hint = "Install the client of the server's version" if "version mismatch" in done.stderr else "Check the URL"
    raise DatabaseUnavailable(f"{tool} failed: {reason[:300]}", hint)
