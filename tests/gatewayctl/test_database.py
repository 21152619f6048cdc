"""`db`: where the schema stands, whether the file is sound, backup and restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import engine, processes
from tests.support.cli import Gateway


def test_status_of_a_current_schema(gateway: Gateway) -> None:
    found = gateway.json("db", "status")
    assert (found["current"], found["pending"], found["unknown"]) == (True, [], [])
    assert found["applied"][0] == "0001_initial"
    assert found["size_bytes"] > 10_000
    assert found["backend"] in str(gateway.url)


def test_migrate_brings_an_empty_database_to_the_head(local: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "empty.db"
    file.touch()
    url = f"sqlite:///{file}"
    assert local.json("--db", url, "db", "status")["pending"]
    assert local.run("--db", url, "users", "list").code == 1
    assert local.json("--db", url, "db", "migrate")["current"] is True
    assert local.json("--db", url, "db", "migrate")["applied"] == []
    local.ok("--db", url, "users", "list")


def test_a_newer_database_is_refused(gateway: Gateway) -> None:
    engine.open_database(str(gateway.url))
    engine.database.execute_sql("INSERT INTO schema_migrations (name, applied) VALUES ('9999_x', '2030-01-01 00:00:00')")
    engine.close_connection()
    for words in (("users", "list"), ("db", "migrate"), ("db", "check")):
        result = gateway.run(*words)
        assert result.code == 1
        assert "newer" in result.err
    assert gateway.json("db", "status")["unknown"] == ["9999_x"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_check_of_a_sound_database(gateway: Gateway) -> None:
    found = gateway.json("db", "check")
    assert {check["status"] for check in found["checks"]} <= {"ok", "warn"}
    assert "integrity" in gateway.ok("db", "check").out


def test_backup_and_restore(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    gateway.ok("users", "create", "alice")
    gateway.ok("topup", "alice", "5")
    done = gateway.run("db", "backup", str(file), "--json")
    assert done.json == {"file": str(file), "size_bytes": file.stat().st_size}
    assert "master.key" in done.err
    assert gateway.run("db", "backup", str(file)).code == 4
    gateway.ok("topup", "alice", "1")
    assert gateway.run("db", "restore", str(file)).code == 5  # nobody can answer
    found = gateway.json("db", "restore", str(file), "--yes")
    assert found["migrations_pending"] == []
    assert Path(found["kept"]).exists()
    assert gateway.json("balances", "show", "alice")["balance"] == "5"
    assert gateway.json("ledger", "verify")["ok"] is True


def test_restore_refuses_while_a_gateway_runs(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "copy"
    gateway.ok("db", "backup", str(file))
    engine.open_database(str(gateway.url))
    process = processes.register()
    result = gateway.run("db", "restore", str(file), "--yes")
    assert result.code == 4
    assert "running" in result.err
    engine.open_database(str(gateway.url))
    processes.end(process)
    engine.close_connection()


def test_restore_of_nothing_is_not_found(local: Gateway) -> None:
    local.ok("init")
    assert local.run("db", "restore", "/nowhere/at/all", "--yes").code == 3
