"""Balances are shown exactly, and corrected only with a reason and a yes."""

from __future__ import annotations

import pytest

from tests.support.cli import Gateway

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def alice(gateway: Gateway) -> Gateway:
    """alice with 5 USD and a credit limit of 1, bob with nothing."""
    gateway.ok("users", "create", "alice", "--credit-limit", "1")
    gateway.ok("users", "create", "bob")
    gateway.ok("topup", "alice", "5")
    return gateway


def test_show_has_the_keys_that_scripts_rely_on(alice: Gateway) -> None:
    assert alice.json("balances", "show", "alice") == {
        "user": "alice",
        "balance": "5",
        "held": "0",
        "available": "6",
        "currency": "USD",
    }
    assert alice.run("balances", "show", "nobody").code == 3


@SQLITE
def test_list_is_by_name(alice: Gateway) -> None:
    assert [row["user"] for row in alice.json("balances", "list")] == ["alice", "bob"]
    assert alice.ok("balances", "list").lines[0].split() == ["user", "balance", "held", "available"]


@SQLITE
@pytest.mark.parametrize(("amount", "balance"), [("-2.5", "2.5"), ("+1", "6"), ("1.000000001", "6.000000001"), ("-6", "-1")])
def test_adjust_takes_either_sign(alice: Gateway, amount: str, balance: str) -> None:
    found = alice.json("balances", "adjust", "alice", amount, "--reason", "by hand", "--yes")
    assert found["balance"] == balance
    [entry, _] = alice.json("ledger", "list", "--user", "alice")
    assert (entry["kind"], entry["balance_after"], entry["note"]) == ("adjustment", balance, "by hand")


def test_adjust_never_passes_the_credit_limit(alice: Gateway) -> None:
    result = alice.run("balances", "adjust", "alice", "-6.000000001", "--reason", "x", "--yes")
    assert result.code == 5
    assert "6 USD" in result.err


@SQLITE
def test_adjust_needs_a_yes_where_no_one_can_answer(alice: Gateway) -> None:
    result = alice.run("balances", "adjust", "alice", "-1", "--reason", "x")
    assert result.code == 5
    assert "--yes" in result.err
    assert alice.json("balances", "show", "alice")["balance"] == "5"


@SQLITE
def test_adjust_needs_a_reason(alice: Gateway) -> None:
    assert alice.run("balances", "adjust", "alice", "-1", "--yes").code == 2
