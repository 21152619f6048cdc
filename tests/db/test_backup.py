"""A backup is one consistent moment, is never half there, and comes back only where nobody works."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import time
from pathlib import Path

import pytest

from db import backup, engine, ledger, migrate, processes
from db.errors import Conflict, DatabaseUnavailable, Invalid, NotFound, SchemaMismatch
from db.models import Process, User
from tests.support import records

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def _fill() -> None:
    records.user("alice")
    ledger.top_up("alice", 5_000_000_000, ref="first")


def test_backup_comes_back_and_keeps_what_was_there(database: str, tmp_path: Path) -> None:
    _fill()
    file = tmp_path / "copy"
    assert backup.write_backup(database, file) == file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600
    ledger.top_up("alice", 1_000_000_000)
    kept = backup.restore(database, file)
    assert User.get(User.name == "alice").balance_nanos == 5_000_000_000
    assert ledger.verify().ok
    migrate.require_current()
    assert kept is not None
    assert kept.exists()
    backup.restore(database, kept)  # and back again
    assert User.get(User.name == "alice").balance_nanos == 6_000_000_000


@SQLITE
def test_backup_does_not_replace_a_file_unasked(database: str, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    file.write_text("mine")
    with pytest.raises(Conflict):
        backup.write_backup(database, file)
    assert file.read_text() == "mine"
    backup.write_backup(database, file, overwrite=True)
    assert file.stat().st_size > 1000
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy"]


@SQLITE
def test_backup_into_no_directory_is_not_found(database: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        backup.write_backup(database, tmp_path / "nowhere" / "copy")


def test_restore_refuses_while_a_gateway_runs(database: str, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    backup.write_backup(database, file)
    process = processes.register()  # this test is the gateway
    with pytest.raises(Conflict, match=str(os.getpid())):
        backup.restore(database, file)
    processes.end(process)
    backup.restore(database, file)


def test_a_dead_process_does_not_stop_a_restore(database: str, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    backup.write_backup(database, file)
    Process.update(pid_started=1).where(Process.id == processes.register()).execute()
    backup.restore(database, file)


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + b"x" * 5000, b"PGDMP" + b"x" * 100])
def test_what_is_no_backup_is_refused_and_changes_nothing(database: str, tmp_path: Path, content: bytes) -> None:
    _fill()
    file = tmp_path / "copy"
    file.write_bytes(content)
    with pytest.raises((Invalid, DatabaseUnavailable)):
        backup.restore(database, file)
    engine.open_database(database)
    assert User.get(User.name == "alice").balance_nanos == 5_000_000_000


@SQLITE
def test_restore_of_a_missing_file_is_not_found(database: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        backup.restore(database, tmp_path / "nope")


def test_a_backup_of_a_newer_program_is_refused(database: str, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    engine.database.execute_sql(
        f"INSERT INTO {migrate.HISTORY_TABLE} (name, applied) VALUES ('9999_future', '2030-01-01 00:00:00')"
    )
    backup.write_backup(database, file)
    with pytest.raises(SchemaMismatch):
        backup.restore(database, file)


def test_an_sqlite_file_of_something_else_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(Invalid, match="not a database of this gateway"):
        backup.restore(sqlite_url, other)


def test_restore_refuses_while_another_program_has_the_file_open(sqlite_url: str, tmp_path: Path) -> None:
    engine.open_database(sqlite_url)
    file = tmp_path / "copy"
    backup.write_backup(sqlite_url, file)
    other = sqlite3.connect(engine.sqlite_path(sqlite_url))  # type: ignore[arg-type]
    other.execute("SELECT COUNT(*) FROM users").fetchone()
    with pytest.raises(Conflict, match="open"):
        backup.restore(sqlite_url, file)
    other.close()
    backup.restore(sqlite_url, file)


def test_restore_brings_a_lost_file_back(sqlite_url: str, tmp_path: Path) -> None:
    engine.open_database(sqlite_url)
    file = tmp_path / "copy"
    backup.write_backup(sqlite_url, file)
    engine.close_connection()
    path = engine.sqlite_path(sqlite_url)
    assert path is not None
    path.unlink()
    assert backup.restore(sqlite_url, file) is None
    migrate.require_current()


def test_restore_replaces_a_damaged_database_and_keeps_it(sqlite_url: str, tmp_path: Path) -> None:
    engine.open_database(sqlite_url)
    _fill()
    file = tmp_path / "copy"
    backup.write_backup(sqlite_url, file)
    engine.close_connection()
    path = engine.sqlite_path(sqlite_url)
    assert path is not None
    path.write_bytes(b"rubbish" * 1000)
    path.with_name("gateway.db-wal").write_bytes(b"more rubbish")
    kept = backup.restore(sqlite_url, file)
    assert User.get(User.name == "alice").balance_nanos == 5_000_000_000
    assert kept is not None
    assert kept.read_bytes().startswith(b"rubbish")


def _write_for(url: str, seconds: float) -> None:
    engine.open_database(url)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ledger.top_up("alice", 1)
    engine.close_connection()


def test_backup_under_writes_is_consistent(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of one page give the writer every chance to disturb; balance = sum of entries in the copy all the same."""
    monkeypatch.setattr(backup, "PAGES_PER_STEP", 1)
    _fill()
    writer = multiprocessing.get_context("spawn").Process(target=_write_for, args=(database, 1.5))
    writer.start()
    try:
        while User.get(User.name == "alice").balance_nanos < 5_000_000_050:
            assert writer.is_alive()
            time.sleep(0.01)
        file = tmp_path / "copy"
        backup.write_backup(database, file)
        assert writer.is_alive()
    finally:
        writer.join()
    backup.restore(database, file)
    assert ledger.verify().ok
    assert User.get(User.name == "alice").balance_nanos >= 5_000_000_050


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_missing_pg_dump_is_said(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DatabaseUnavailable, match="pg_dump is not installed"):
        backup.write_backup(database, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_password_stays_out_of_the_arguments(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    tool = tmp_path / "pg_dump"
    tool.write_text(f'#!/bin/sh\necho "$@" "password=$PGPASSWORD" > {seen}\n')
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    backup.write_backup("postgresql://me:p%40ss@127.0.0.1:5/db", tmp_path / "copy")
    arguments, _, password = seen.read_text().strip().partition(" password=")
    assert password == "p@ss"
    assert "ss@" not in arguments
    assert "postgresql://me@127.0.0.1:5/db" in arguments
