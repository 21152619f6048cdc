"""The two databases: where they are, how durable they are, how long one waits for them, and what their failures say."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from peewee import IntegrityError, InternalError, OperationalError

from db import engine, ledger, migrate
from db.engine import LOCK_WAIT_S, sqlite_path, transaction
from db.errors import DatabaseUnavailable, Invalid, NotInitialised
from db.models import Membership, Setting, User
from db.models import database as bound
from tests.support import records
from tests.support.threads import together

only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/gateway.db", "/var/lib/gateway.db"),
        ("sqlite:///gateway.db", "gateway.db"),
        ("sqlite:////a%20b/c%3Fd.db", "/a b/c?d.db"),
        ("postgresql://127.0.0.1/gateway", None),
    ],
)
def test_the_file_of_a_url(url: str, path: str | None) -> None:
    assert sqlite_path(url) == (None if path is None else Path(path))


@pytest.mark.parametrize(
    "url", ["", "gateway.db", "sqlite:", "sqlite://", "sqlite:///", "sqlite:gateway.db", "mysql://x/y", "postgresql://h", "x"]
)
def test_what_is_no_database_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        engine.open_database(url)


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotInitialised) as caught:
        engine.open_database(f"sqlite:///{tmp_path}/gateway.db")
    assert caught.value.hint == "Run: gatewayctl init"
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_belongs_to_its_owner_only(tmp_path: Path) -> None:
    earlier = os.umask(0)
    try:
        engine.open_database(f"sqlite:///{tmp_path}/home/gateway.db", create=True)
        migrate.migrate()
        engine.close_connection()
    finally:
        os.umask(earlier)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "home").iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["a%20b", "50% off", "what?", "x#y", "ä ö", "a&mode=ro"])
def test_any_name_of_a_directory_will_do(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir()
    url = "sqlite:///" + str(directory / "gateway.db").replace("%", "%25").replace("?", "%3f")
    engine.open_database(url, create=True)
    Setting.create_table()
    engine.close_connection()
    assert [file.name for file in directory.iterdir()] == ["gateway.db"]
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (directory / "gateway.db").stat().st_size > 0


@only_sqlite
def test_a_file_that_vanished_is_an_error_and_stays_away(database: str) -> None:
    path = sqlite_path(database)
    assert path is not None
    engine.close_connection()
    path.unlink()
    with pytest.raises(DatabaseUnavailable):
        ledger.top_up("alice", 5)
    assert not path.exists()


@only_sqlite
def test_sqlite_is_durable_and_strict(database: str) -> None:
    found = {
        name: bound.execute_sql(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with pytest.raises(IntegrityError):
        bound.execute_sql("INSERT INTO catalog_state (id, version) VALUES (5, 'five')")
    with pytest.raises(IntegrityError):  # would silently become a float in a table that is not strict
        bound.execute_sql("UPDATE catalog_state SET version = 9223372036854775807 + 1")


@only_postgresql
def test_postgresql_is_durable_and_impatient(database: str) -> None:
    names = ("synchronous_commit", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
    found = [bound.execute_sql(f"SHOW {name}").fetchone()[0] for name in names]
    assert found == ["on", "5s", "4s", "10s", "UTC"]
    assert "psycopg" in type(bound.connection()).__module__


@only_postgresql
def test_long_statements_are_for_the_transaction_or_the_connection(database: str) -> None:
    def limit() -> str:
        return str(bound.execute_sql("SHOW statement_timeout").fetchone()[0])

    with engine.read_snapshot():
        engine.long_statements()
        assert limit() == "0"
    assert limit() == "5s"
    ledger.verify()
    assert limit() == "5s"
    engine.long_statements()
    assert limit() == "0"


def test_references_are_checked(database: str) -> None:
    with pytest.raises(IntegrityError):
        Membership.insert(user=12345, group=12345).execute()


def test_a_transaction_is_all_or_nothing(database: str) -> None:
    @transaction
    def fail() -> None:
        records.user("alice")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert User.select().count() == 0
    assert not bound.in_transaction()


def test_a_transaction_joins_the_one_that_is_open(database: str) -> None:
    records.user("alice")

    def fail() -> None:
        with bound.atomic():
            ledger.top_up("alice", 5)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert User.get().balance_nanos == 0


def test_a_snapshot_stays_as_it_was(database: str) -> None:
    records.user("alice")
    with engine.read_snapshot():
        assert User.select().count() == 1
        together([lambda: records.user("bob")])
        assert User.select().count() == 1
    assert User.select().count() == 2


def test_a_snapshot_takes_no_write_lock(database: str) -> None:
    records.user("alice")
    with engine.read_snapshot():
        User.select().count()
        began = time.monotonic()
        together([lambda: ledger.top_up("alice", 5)] * 3)
        assert time.monotonic() - began < LOCK_WAIT_S


def test_a_reading_connection_does_not_write(database: str) -> None:
    records.user("alice")

    def write() -> None:
        engine.close_connection()
        engine.read_only_connection()
        assert User.select().count() == 1
        User.update(balance_nanos=5).execute()

    with pytest.raises((OperationalError, InternalError), match=r"read-?only"):
        together([write])
    assert User.get().balance_nanos == 0


def test_connections_belong_to_threads(database: str) -> None:
    seen = [bound.connection(), *together([bound.connection] * 4)]
    assert len({id(connection) for connection in seen}) == 5


@contextmanager
def _locked(path: Path, seconds: float | None = None) -> Iterator[None]:
    """Another program has the file, for that long or throughout."""
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            ready.set()
            done.wait(seconds)
            other.execute("ROLLBACK")
        other.close()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


@only_sqlite
def test_a_lock_of_a_moment_is_waited_for(database: str) -> None:
    records.user("alice")
    path = sqlite_path(database)
    assert path is not None
    with _locked(path, 0.5):
        began = time.monotonic()
        ledger.top_up("alice", 5)
        took = time.monotonic() - began
    assert 0.4 < took < 1.5
    assert User.get().balance_nanos == 5


@only_sqlite
def test_a_lock_that_stays_is_named(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records.user("alice")
    path = sqlite_path(database)
    assert path is not None
    monkeypatch.setattr(bound.obj, "lock_wait_s", 0.2)
    with _locked(path):
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="locked by another program"):
            ledger.top_up("alice", 5)
        assert 0.2 <= time.monotonic() - began < 1
        assert User.get().balance_nanos == 0, "readers are not in the way"
    ledger.top_up("alice", 5)


def test_five_seconds_are_waited_for_a_lock() -> None:
    assert LOCK_WAIT_S == 5


@only_postgresql
def test_a_locked_row_is_named(database: str) -> None:
    records.user("alice")
    bound.execute_sql("SET lock_timeout = 100")
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM users FOR UPDATE")
        with pytest.raises(DatabaseUnavailable, match="locked by another program"):
            ledger.top_up("alice", 5)
    ledger.top_up("alice", 5)


@only_sqlite
def test_a_full_disk_is_named(database: str) -> None:
    """The cause stands behind a failed ROLLBACK."""
    records.user("alice")
    bound.execute_sql("PRAGMA max_page_count = 1")  # as many as there are

    @transaction
    def fill() -> None:
        for number in range(200):
            Setting.insert(name=str(number), value="x" * 4000).execute()

    with pytest.raises(DatabaseUnavailable, match="disk is full") as caught:
        fill()
    assert caught.value.hint.startswith("Free some space")
    assert Setting.select().count() == 0


def test_a_database_without_a_schema_says_so(tmp_path: Path) -> None:
    engine.open_database(f"sqlite:///{tmp_path}/empty.db", create=True)
    with pytest.raises(DatabaseUnavailable) as caught:
        ledger.top_up("alice", 5)
    assert caught.value.hint == "Run: gatewayctl init"
    engine.close_connection()


@pytest.mark.parametrize(
    "url", ["postgresql://gateway@127.0.0.1:1/gateway", "postgresql://gateway@127.0.0.1:1/gateway?sslmode=disable"]
)
def test_a_server_that_is_not_there_says_so_soon(url: str) -> None:
    engine.open_database(url)
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        ledger.verify()
    assert time.monotonic() - began < 3
    assert caught.value.hint == "Run: gatewayctl doctor"
    engine.close_connection()


def test_a_server_without_the_database_says_so(postgres: object) -> None:
    engine.open_database(postgres.url("nowhere"))  # type: ignore[attr-defined]
    with pytest.raises(DatabaseUnavailable):
        ledger.verify()
    engine.close_connection()


@only_postgresql
def test_a_server_that_went_is_reached_again(database: str) -> None:
    records.user("alice")
    [pid] = bound.execute_sql("SELECT pg_backend_pid()").fetchone()
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(DatabaseUnavailable):
        ledger.top_up("alice", 5)
    engine.close_connection()
    assert ledger.top_up("alice", 5).balance_nanos == 5


def test_sql_is_written_for_both(database: str) -> None:
    mark = "?" if database.startswith("sqlite") else "%s"
    assert engine.sql("SELECT ? WHERE ?") == f"SELECT {mark} WHERE {mark}"
    assert bound.execute_sql(engine.sql("SELECT name FROM users WHERE id = ?") + engine.for_update(), (1,)).fetchone() is None
