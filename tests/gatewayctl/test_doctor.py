"""doctor names what is wrong with its fix, changes nothing, and leaves with 1 only when something failed."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest

from db import engine, processes
from db.models import User
from tests.support.cli import Gateway


def _checks(gateway: Gateway, *, code: int = 0, env: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    result = gateway.run("doctor", "--json", env=env)
    assert result.code == code, result.out
    found = result.json
    assert found["ok"] is (code == 0)
    assert all(check["fix"] for check in found["checks"] if check["status"] != "ok")
    return {check["name"]: check for check in found["checks"]}


def test_a_fresh_gateway_is_healthy(local: Gateway) -> None:
    local.ok("init")
    found = _checks(local)
    assert {name for name, check in found.items() if check["status"] != "ok"} <= {"sqlite version"}
    assert found["gateway"]["detail"] == "not running"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_is_checked_too(gateway: Gateway) -> None:
    found = _checks(gateway, code=1)
    assert found["durability"]["status"] == "fail"  # the tests' server runs with fsync off
    assert {name for name, check in found.items() if check["status"] != "ok"} == {"durability"}


def test_before_init_everything_leads_to_init(local: Gateway) -> None:
    found = _checks(local, code=1)
    assert {check["fix"] for check in found.values() if check["status"] == "fail"} == {"Run: gatewayctl init"}


def test_open_rights_are_named(local: Gateway) -> None:
    local.ok("init")
    local.ok("config", "set", "port", "9000")
    for path, mode in ((local.home, 0o755), (local.home / "gateway.db", 0o644), (local.home / "config.toml", 0o644)):
        path.chmod(mode)
    found = _checks(local)
    assert [found[name]["status"] for name in ("home", "database file", "settings")] == ["warn"] * 3
    (local.home / "master.key").chmod(0o644)
    assert _checks(local, code=1)["master key"]["fix"].startswith("Run: chmod 600")


def test_drift_and_a_lost_master_key_fail(local: Gateway) -> None:
    local.ok("init")
    local.ok("users", "create", "alice")
    engine.open_database(f"sqlite:///{local.home / 'gateway.db'}")
    User.update(balance_nanos=1).execute()
    engine.close_connection()
    (local.home / "master.key").unlink()
    found = _checks(local, code=1)
    assert found["ledger"]["status"] == found["master key"]["status"] == "fail"


def test_a_wrong_setting_is_one_finding(local: Gateway) -> None:
    local.ok("init")
    (local.home / "config.toml").write_text("port = 'x'\n")
    found = _checks(local, code=1)
    assert "port" in found["settings"]["detail"]


def test_a_fake_clock_is_named(local: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from db import clock

    local.ok("init")
    monkeypatch.setattr(clock, "_fake_path", "/nowhere")
    assert _checks(local)["clock"]["status"] == "warn"


def test_a_running_gateway_and_its_port_are_seen(local: Gateway) -> None:
    local.ok("init")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        env = {"GATEWAYCTL_PORT": str(listener.getsockname()[1])}
        found = _checks(local, env=env)
        assert "Something answers" in found["gateway"]["detail"]
        engine.open_database(f"sqlite:///{local.home / 'gateway.db'}")
        process = processes.register()
        assert _checks(local, env=env)["gateway"]["status"] == "ok"
    assert "nothing answers" in _checks(local, env=env)["gateway"]["detail"]
    engine.open_database(f"sqlite:///{local.home / 'gateway.db'}")
    processes.end(process)
    engine.close_connection()


def test_a_file_that_is_no_database_fails(local: Gateway) -> None:
    local.ok("init")
    (local.home / "gateway.db").write_bytes(b"rubbish" * 1000)
    found = _checks(local, code=1)
    assert "restore" in found["database"]["fix"]


def test_an_unreachable_server_says_what_the_driver_said(local: Gateway) -> None:
    local.ok("init")
    found = _checks(local, code=1, env={"GATEWAYCTL_DB": "postgresql://me:topsecret@127.0.0.1:1/none"})
    assert "refused" in found["database"]["detail"]
    assert "topsecret" not in str(found)


def test_nothing_is_changed(local: Gateway) -> None:
    local.ok("init")

    def state() -> dict[str, str]:
        files = sorted(path for path in Path(local.home).iterdir() if not path.name.endswith(("-shm", "-wal")))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = state()
    local.run("doctor")
    assert state() == before


def test_the_text_is_for_people(local: Gateway) -> None:
    result = local.run("doctor")
    assert result.code == 1
    assert "FAIL  home" in result.out
    assert "→ Run: gatewayctl init" in result.out
    assert "failed" in result.err
