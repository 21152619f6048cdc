"""The audit log is readable: who, when, what, before and after."""

from __future__ import annotations

from tests.support.cli import Gateway


def test_changes_are_listed_newest_first(gateway: Gateway) -> None:
    gateway.ok("users", "create", "alice")
    gateway.ok("topup", "alice", "5", "--ref", "r1")
    newest, earlier = gateway.json("audit", "list", "--limit", "2")
    assert (newest["action"], newest["subject"], newest["before"]) == ("ledger.topup", "alice", {"balance": "0"})
    assert newest["after"]["balance"] == "5"
    assert newest["actor"].startswith("cli:")
    assert newest["at"].endswith("Z")
    assert earlier["action"] == "users.create"
