"""Every check sees what it is for, and is quiet when all is well."""

from __future__ import annotations

import sqlite3

import pytest

from db import checks, credentials, ledger, processes
from db.checks import Status
from db.models import Credential, Deployment, Grant, Group, Hold, Provider, User
from db.models import database as bound
from db.secrets import MasterKeys
from tests.support import records
from tests.support.records import DAY, NOON

MASTER = MasterKeys([bytes(range(32))])


def _status(findings: list[checks.Finding], name: str) -> Status:
    return {finding.name: finding.status for finding in findings}[name]


def _detail(findings: list[checks.Finding], name: str) -> str:
    return {finding.name: finding.detail for finding in findings}[name]


def _hold(user: int, process: int, request: str = "r1") -> None:
    Hold.insert(
        request_id=request, user=user, key=records.key(user), amount_nanos=5, placed_at=NOON, process_id=process,
        requested_model="m", endpoint="/v1/chat/completions", terms="{}",
    ).execute()  # fmt: skip
    User.update(held_nanos=User.held_nanos + 5, credit_limit_nanos=5).where(User.id == user).execute()


def test_a_new_database_has_no_failure(database: str) -> None:
    found = [*checks.engine(), *checks.integrity(), *checks.content(), *checks.keys(180, NOON)]
    failed = {finding.name for finding in found if finding.status is Status.FAIL}
    assert failed == (set() if database.startswith("sqlite") else {"durability"})  # the tests' server is not durable
    assert all(finding.fix for finding in found if finding.status is not Status.OK)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_server_that_may_lose_commits_is_named(database: str) -> None:
    assert "fsync is off" in _detail(checks.engine(), "durability")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("version", "status"), [((3, 40, 1), Status.WARN), ((3, 51, 3), Status.OK)])
def test_sqlite_before_the_wal_fix_is_named(
    database: str, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], status: Status
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert _status(checks.engine(), "sqlite version") is status


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_foreign_synchronous_setting_fails(database: str) -> None:
    bound.execute_sql("PRAGMA synchronous = off")
    assert _status(checks.engine(), "durability") is Status.FAIL


def test_drift_fails(database: str) -> None:
    records.user("alice")
    ledger.top_up("alice", 1_000)
    assert _status(checks.money(), "ledger") is Status.OK
    User.update(balance_nanos=999).execute()
    found = checks.money()
    assert _status(found, "ledger") is Status.FAIL
    assert "alice" in _detail(found, "ledger")


def test_a_hold_of_a_living_process_is_not_stale(database: str) -> None:
    user = records.user("alice")
    _hold(user, processes.register())
    assert checks.verify_ledger().ok


def test_a_hold_of_a_dead_process_is_stale(database: str) -> None:
    user = records.user("alice")
    process = processes.register()
    processes.end(process)
    _hold(user, process)
    assert checks.verify_ledger().stale_holds == ("r1",)
    assert _status(checks.money(), "stale holds") is Status.WARN


def test_verifying_waits_for_no_writer(database: str) -> None:
    """It takes no write lock: another connection may be in the middle of a transaction."""
    records.user("alice")
    if not database.startswith("sqlite"):
        return
    with sqlite3.connect(database.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert checks.verify_ledger().ok
        other.execute("ROLLBACK")
    other.close()


def test_providers_without_credentials_are_named(database: str) -> None:
    records.provider("openai")
    records.provider("local", no_auth=1)
    records.provider("demo", protocol="demo")
    found = checks.providers()
    assert _detail(found, "provider credentials").endswith(": openai")
    added = credentials.add("openai", "sk-upstream-AAA", MASTER)
    assert _status(checks.providers(), "provider credentials") is Status.OK
    Credential.update(status="benched").where(Credential.id == added.id).execute()
    found = checks.providers()
    assert _status(found, "provider credentials") is Status.WARN
    assert _detail(found, "refused credentials").endswith("openai/default")


def test_paused_providers_are_named(database: str) -> None:
    records.provider("openai", status="paused", no_auth=1)
    assert _detail(checks.providers(), "paused providers") == "Paused: openai"


def test_models_that_nobody_can_use_are_named(database: str) -> None:
    provider = records.provider("openai", no_auth=1)
    whole = records.model("whole", input=1, output=0)
    Deployment.insert(model=whole, provider=provider, upstream_name="whole").execute()
    group = Group.insert(name="everyone", is_default=1, created_at=NOON).execute()
    Grant.insert(group=group, model=whole).execute()
    assert {finding.status for finding in checks.models()} == {Status.OK}
    records.model("half", input=1)
    found = checks.models()
    assert [finding.detail.split(": ")[-1] for finding in found] == ["half", "half", "half"]
    assert {finding.status for finding in found} == {Status.WARN}


def test_credentials_under_another_master_key_fail(database: str) -> None:
    records.provider("openai")
    credentials.add("openai", "sk-upstream-AAA", MASTER)
    assert {finding.status for finding in checks.credentials(MASTER)} == {Status.OK}
    other = bytes(range(1, 33))
    assert _status(checks.credentials(MasterKeys([other])), "credential encryption") is Status.FAIL
    rotated = checks.credentials(MasterKeys([other, bytes(range(32))]))
    assert _status(rotated, "credential encryption") is Status.OK
    assert _status(rotated, "credential key age") is Status.WARN


def test_old_keys_are_named_by_age_of_their_newest_secret(database: str) -> None:
    key = records.key(records.user("alice"), "ci")  # 30 days before NOON
    assert _status(checks.keys(31, NOON), "old keys") is Status.OK
    found = checks.keys(29, NOON)
    assert _detail(found, "old keys") == f"Older than 29 days: {key} (alice/ci, 30 days)"
    assert _status(checks.keys(0, NOON + 1000 * DAY), "old keys") is Status.OK


def test_a_missing_default_group_is_a_warning(database: str) -> None:
    assert _status(checks.groups(), "default group") is Status.WARN
    Group.insert(name="everyone", is_default=1, created_at=NOON).execute()
    assert _detail(checks.groups(), "default group") == "everyone"


def test_dangling_references_fail(database: str) -> None:
    if not database.startswith("sqlite"):
        return
    bound.execute_sql("PRAGMA foreign_keys = off")
    Credential.insert(provider=99, name="x", created_at=NOON, hint="", secret=b"").execute()
    assert Provider.select().count() == 0
    assert _status(checks.integrity(), "foreign keys") is Status.FAIL
