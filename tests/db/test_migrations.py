"""Migrations: they lead to what the models say, keep what is there, and are done wholly or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from peewee import IntegrityError
from playhouse.migrations import Runner

from db import engine, ledger, migrate, versions
from db.engine import sqlite_path
from db.errors import DatabaseDamaged, SchemaMismatch
from db.models import TABLES, CatalogState, LedgerEntry, User
from db.models import database as bound
from tests.support import records, schema
from tests.support.contenders import contend
from tests.support.crash import COMMIT, Crash, crash_at
from tests.support.postgres import Server

NAMES = ("0001_initial", "0002_append_only_ledger", "0003_prices_and_apis", "0004_limits", "0005_routing")
TRIGGERS = {"sqlite": {"ledger_no_update", "ledger_no_delete"}, "postgresql": {"ledger_no_change"}}


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes an empty database and opens it; returns its URL."""
    urls: list[str] = []
    server: Server | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None

    def make() -> str:
        if server is not None:
            urls.append(server.new_database())
        else:
            urls.append(f"sqlite:///{tmp_path}/{len(urls)}/gateway.db")
        engine.open_database(urls[-1], create=True)
        return urls[-1]

    yield make
    engine.close_connection()
    for url in urls if server is not None else []:
        server.drop(url)


def _backend(url: str) -> str:
    return url.split(":", 1)[0]


def _runner() -> Runner:
    return Runner(bound.obj, directory=str(migrate.DIRECTORY), table_name=migrate.HISTORY_TABLE)


def _backup(url: str) -> Path:
    path = sqlite_path(url)
    assert path is not None
    return path.with_name("gateway.db.before-migration")


def test_an_empty_database_comes_to_what_the_models_say(fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    url = fresh()
    assert migrate.migrate() == list(NAMES)
    by_migration, triggers = schema.described(), schema.triggers()
    fresh()
    if _backend(url) == "postgresql":  # STRICT is SQLite's word
        for table in TABLES:
            monkeypatch.setattr(table._meta, "strict_tables", False)
    bound.create_tables(TABLES, safe=False)
    by_models = schema.described()
    assert by_migration.keys() == by_models.keys() == {table._meta.table_name for table in TABLES}
    for table, lines in by_models.items():
        assert by_migration[table] == lines, table
    assert triggers == TRIGGERS[_backend(url)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_every_table_is_strict(database: str) -> None:
    tables = bound.execute_sql("SELECT name, strict FROM pragma_table_list WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    assert {name for name, strict in tables.fetchall() if not strict} == {migrate.HISTORY_TABLE}


def test_the_names_are_numbered_and_unchanged() -> None:
    """A migration is known by its name: one that was released must not get another."""
    found = sorted(path.stem for path in migrate.DIRECTORY.glob("*.py"))
    assert found == list(NAMES)
    assert [int(name[:4]) for name in found] == list(range(1, len(found) + 1))


def test_migrating_twice_changes_nothing(database: str) -> None:
    before = schema.described()
    assert migrate.migrate() == []
    assert schema.described() == before
    assert migrate.status() == migrate.SchemaStatus(NAMES, (), ())
    assert "sqlite" not in database or not _backup(database).exists()


def test_a_new_database_has_a_catalogue_version(database: str) -> None:
    assert versions.catalog_version() == 1


def test_an_empty_database_is_behind(fresh: Callable[[], str]) -> None:
    fresh()
    assert migrate.status() == migrate.SchemaStatus((), NAMES, ())
    with pytest.raises(SchemaMismatch, match="behind by 5") as caught:
        migrate.require_current()
    assert caught.value.hint == "Run: gatewayctl db migrate"


def _first_version(balance: int = 0) -> None:
    """The first schema with one user, written as its program did."""
    _runner().up(NAMES[0])
    bound.execute_sql(
        "INSERT INTO users (name, status, version, balance_nanos, held_nanos, credit_limit_nanos, created_at) "
        f"VALUES ('alice', 'active', 1, {balance}, 0, 0, 1)"
    )
    if balance:
        bound.execute_sql(
            "INSERT INTO ledger_entries (user_id, kind, amount_nanos, balance_after_nanos, at, ref) "
            f"VALUES (1, 'topup', {balance}, {balance}, 1, 'r1')"
        )


def test_data_of_the_previous_version_is_kept_and_copied_first(fresh: Callable[[], str]) -> None:
    url = fresh()
    _first_version(700)
    with pytest.raises(SchemaMismatch, match="behind by 4"):
        migrate.require_current()
    LedgerEntry.update(note="changed").execute()  # nothing forbids it yet
    assert migrate.migrate() == list(NAMES[1:])
    migrate.require_current()
    assert ledger.top_up("alice", 700, ref="r1").replayed
    assert User.get().balance_nanos == 700
    with pytest.raises(Exception, match="append-only"):
        LedgerEntry.update(note="changed again").execute()
    if _backend(url) == "sqlite":
        assert _backup(url).stat().st_mode & 0o777 == 0o600
        with closing(sqlite3.connect(_backup(url))) as copy:
            assert copy.execute("SELECT balance_nanos FROM users").fetchall() == [(700,)]
            assert copy.execute(f"SELECT name FROM {migrate.HISTORY_TABLE}").fetchall() == [(NAMES[0],)]


def test_an_upgraded_database_equals_a_new_one(fresh: Callable[[], str]) -> None:
    fresh()
    _first_version()
    migrate.migrate()
    upgraded, triggers = schema.described(), schema.triggers()
    fresh()
    migrate.migrate()
    assert (upgraded, triggers) == (schema.described(), schema.triggers())


def test_a_database_of_a_newer_program_is_refused(database: str) -> None:
    _runner().History.create(name="0099_future")
    before = schema.described()
    for attempt in (migrate.require_current, migrate.migrate):
        with pytest.raises(SchemaMismatch, match=r"newer gatewayctl.*0099_future") as caught:
            attempt()
        assert caught.value.hint == "Upgrade gatewayctl"
    assert schema.described() == before
    assert migrate.status().unknown == ("0099_future",)


def _check_whole() -> int:
    """Every migration is there with all that belongs to it, or nothing of it is; the number of those that are."""
    bound.close()
    applied = migrate.status().applied
    assert applied == NAMES[: len(applied)]
    expected = {table._meta.table_name for table in TABLES} if applied else set()
    if "0004_limits" not in applied:
        expected -= {"limit_windows"}
    assert schema.described().keys() == expected
    assert bool(schema.triggers()) is (len(applied) >= 2)
    if applied:
        assert CatalogState.select().count() == 1
    return len(applied)


def _statements(of: Callable[[], object]) -> int:
    with crash_at(10_000, after=False) as seen:
        of()
    return seen.statements


def test_a_kill_at_any_statement_leaves_no_half_state(fresh: Callable[[], str]) -> None:
    """Every migration of a new database, before each statement on SQLite and before every tenth on PostgreSQL."""
    url = fresh()
    count = _statements(migrate.migrate)
    assert count > 50
    step = 1 if _backend(url) == "sqlite" else 10
    outcomes = []
    for statement, after in [
        (COMMIT, False),
        (COMMIT, True),
        *((number, False) for number in range(1, count, step)),
        (count, True),
    ]:
        fresh()
        with crash_at(statement, after=after), pytest.raises(Crash):
            migrate.migrate()
        outcomes.append(_check_whole())
        migrate.migrate()
        assert _check_whole() == len(NAMES)
    assert outcomes[:2] == [0, 1]
    assert outcomes[2:] == sorted(outcomes[2:])
    assert {0, len(NAMES) - 1} <= set(outcomes[2:]) <= set(range(len(NAMES)))


def test_a_kill_while_upgrading_keeps_the_data_and_the_copy(fresh: Callable[[], str]) -> None:
    url = fresh()
    _first_version(700)
    for statement in (COMMIT, 1, 2, 3):
        with crash_at(statement, after=False), pytest.raises(Crash):
            migrate.migrate()
        assert _check_whole() == 1
        assert bound.execute_sql("SELECT balance_nanos FROM users").fetchall() == [(700,)]
        if _backend(url) == "sqlite":
            assert _backup(url).exists()
    migrate.migrate()
    assert _check_whole() == len(NAMES)
    assert ledger.verify().ok


_KILLED = """
import os, signal, sys
from db import engine, migrate
from db.models import database
engine.open_database(sys.argv[1], create=True)
execute, seen = database.obj.execute_sql, []
def killing(sql, params=None):
    seen.append(sql)
    if len(seen) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(sql, params)
database.obj.execute_sql = killing
migrate.migrate()
"""


@pytest.mark.parametrize("statement", [5, 30, 55])
def test_a_real_kill_leaves_no_half_state(fresh: Callable[[], str], statement: int) -> None:
    url = fresh()
    engine.close_connection()
    done = subprocess.run([sys.executable, "-c", _KILLED, url, str(statement)], check=False, timeout=60)
    assert done.returncode == -9
    engine.open_database(url)
    _check_whole()
    migrate.migrate()
    assert _check_whole() == len(NAMES)


def test_two_that_migrate_at_once(fresh: Callable[[], str]) -> None:
    """Two commands or containers that start at the same moment: one does it, the other finds it done or says so."""
    url = fresh()
    engine.close_connection()
    found = contend("migrate_now", url, processes=2)
    assert not [error for one in found for error in one["errors"]], found
    assert _check_whole() == len(NAMES)


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("users", "status = 'gone'"),
        ("users", "held_nanos = -1"),
        ("users", "credit_limit_nanos = 4611686018427387905"),
        ("users", "balance_nanos = NULL"),
        ("keys", "budget_period = 'year'"),
        ("keys", "spent_nanos = -1"),
        ("models", "enabled = 2"),
        ("prices", "price_nanos = -1"),
        ("multipliers", "ppm = 1000000001"),
    ],
)
def test_the_database_refuses_what_no_program_should_write(database: str, table: str, values: str) -> None:
    user = records.user("alice")
    records.key(user)
    model = records.model("gpt", input=5)
    bound.execute_sql(f"INSERT INTO multipliers (scope, subject_id, meter, ppm) VALUES ('model', {model}, '*', 1)")
    with pytest.raises(IntegrityError):
        bound.execute_sql(f"UPDATE {table} SET {values}")


def test_a_name_is_not_longer_than_its_column(database: str) -> None:
    with pytest.raises(IntegrityError):
        records.user("x" * 121)
    records.user("ä" * 120)


@pytest.mark.parametrize("damage", [lambda data: data[:5000] + bytes(3000), lambda data: b"not a database, but a letter" * 400])
def test_a_damaged_file_is_named(tmp_path: Path, sqlite_url: str, damage: Callable[[bytes], bytes]) -> None:
    path = sqlite_path(sqlite_url)
    assert path is not None
    broken = tmp_path / "broken.db"
    broken.write_bytes(damage(path.read_bytes()))
    engine.open_database(f"sqlite:///{broken}")
    with pytest.raises(DatabaseDamaged, match="damaged"):
        migrate.status()
    engine.close_connection()
