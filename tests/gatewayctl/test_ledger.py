"""The ledger is listed whole, verified, and charges are refunded as new entries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db import engine, holds, ledger, processes
from db.models import User
from db.usage import UsageRow
from tests.support import records
from tests.support.cli import Gateway
from tests.support.records import NOON

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def opened(gateway: Gateway) -> Iterator[Gateway]:
    """A gateway whose database this test also has open; alice has 5 USD and a key."""
    gateway.ok("users", "create", "alice")
    gateway.ok("topup", "alice", "5", "--ref", "r1")
    engine.open_database(str(gateway.url))
    yield gateway
    engine.close_connection()


def _charge(request_id: str, nanos: int) -> None:
    """One request of alice's, held and settled."""
    user = User.get(User.name == "alice")
    key, process = records.key(user.id), processes.register()
    model, provider = records.model(f"m-{request_id}"), records.provider(f"p-{request_id}")
    request = holds.HoldRequest(
        request_id=request_id, user_id=user.id, user_version=user.version, key_id=key, catalog_version=_version(),
        model_id=model, provider_id=provider, amount_nanos=nanos, input_estimate=1, stream=False,
        requested_model="m", endpoint="/v1/chat/completions", terms="{}", process_id=process,
    )  # fmt: skip
    assert holds.place(request).outcome is holds.Placement.PLACED
    row = UsageRow(
        request_id=request_id, at=NOON, user_id=user.id, key_id=key, endpoint="/v1/chat/completions",
        requested_model="m", status="ok", http_status=200, cost_nanos=nanos,
    )  # fmt: skip
    assert holds.settle(row).closed
    processes.end(process)


def _version() -> int:
    from db.versions import catalog_version

    return catalog_version()


def test_list_has_the_keys_that_scripts_rely_on(opened: Gateway) -> None:
    _charge("req-1", 250_000_000)
    engine.close_connection()
    charge, topup = opened.json("ledger", "list", "--user", "alice", "--since", "1h")
    assert list(charge) == ["id", "user", "kind", "amount", "balance_after", "ref", "request_id", "at", "note"]
    assert (charge["kind"], charge["amount"], charge["balance_after"], charge["request_id"]) == (
        "charge",
        "-0.25",
        "4.75",
        "req-1",
    )
    assert (topup["kind"], topup["amount"], topup["ref"]) == ("topup", "5", "r1")
    assert charge["at"].endswith("Z")
    assert isinstance(charge["id"], str)


@SQLITE
def test_list_knows_its_users_and_times(opened: Gateway) -> None:
    assert opened.run("ledger", "list", "--user", "nobody").code == 3
    assert opened.run("ledger", "list", "--since", "yesterday").code == 2
    assert opened.json("ledger", "list", "--limit", "1")[0]["kind"] == "topup"


def test_verify_of_a_sound_ledger(opened: Gateway) -> None:
    _charge("req-1", 1)
    engine.close_connection()
    assert opened.json("ledger", "verify") == {"ok": True, "users": 1, "entries": 2, "drift": [], "stale_holds": []}


def test_verify_of_a_drifted_one_exits_1(opened: Gateway) -> None:
    User.update(balance_nanos=1).execute()
    engine.close_connection()
    result = opened.run("ledger", "verify", "--json")
    assert result.code == 1
    assert result.json["ok"] is False
    assert "alice" in result.json["drift"][0]


def test_refunds_never_exceed_the_charge(opened: Gateway) -> None:
    _charge("req-1", 1_000_000_000)
    engine.close_connection()
    first = opened.json("ledger", "refund", "req-1", "0.4", "--reason", "half empty", "--yes")
    assert (first["balance"], first["replayed"]) == ("4.4", False)
    assert opened.json("ledger", "refund", "req-1", "0.4", "--reason", "half empty", "--yes")["replayed"] is True
    assert opened.run("ledger", "refund", "req-1", "0.7", "--ref", "other", "--reason", "x", "--yes").code == 5
    assert opened.json("ledger", "refund", "req-1", "0.6", "--ref", "other", "--reason", "x", "--yes")["balance"] == "5"
    assert opened.run("ledger", "refund", "req-9", "1", "--reason", "x", "--yes").code == 3
    assert opened.run("ledger", "refund", "req-1", "0.1", "--reason", "x").code == 5  # nobody can answer
    assert opened.json("ledger", "verify")["ok"] is True


def test_entries_cannot_be_changed(opened: Gateway) -> None:
    """By whoever has the database open: X-07."""
    with pytest.raises(Exception, match="append-only"):
        engine.database.execute_sql("UPDATE ledger_entries SET amount_nanos = 1")
    with pytest.raises(Exception, match="append-only"):
        engine.database.execute_sql("DELETE FROM ledger_entries")
    assert len(ledger.list_entries()) == 1
