"""Top-ups are booked once per reference, and wait for a locked database."""

from __future__ import annotations

import concurrent.futures
import sqlite3
import threading
import time

import pytest

from db import audit, engine, ledger
from db.models import database as bound
from tests.support.cli import Gateway

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def alice(gateway: Gateway) -> Gateway:
    """A gateway with the user alice."""
    gateway.ok("users", "create", "alice")
    return gateway


def test_topup_has_the_keys_that_scripts_rely_on(alice: Gateway) -> None:
    found = alice.json("topup", "alice", "4.9989875", "--ref", "r1", "--note", "thanks")
    assert list(found) == ["user", "amount", "balance", "entry_id", "ref", "replayed"]
    assert (found["amount"], found["balance"], found["ref"], found["replayed"]) == ("4.9989875", "4.9989875", "r1", False)
    assert isinstance(found["entry_id"], str)
    [entry] = alice.json("ledger", "list", "--user", "alice")
    assert entry["note"] == "thanks"


def test_the_same_reference_adds_nothing(alice: Gateway) -> None:
    first = alice.json("topup", "alice", "5", "--ref", "r1")
    again = alice.json("topup", "alice", "5.00", "--ref", "r1")
    assert again == {**first, "replayed": True}
    conflict = alice.run("topup", "alice", "6", "--ref", "r1")
    assert conflict.code == 4
    assert "r1" in conflict.err
    assert conflict.out == ""


@SQLITE
def test_without_a_reference_each_adds(alice: Gateway) -> None:
    alice.ok("topup", "alice", "1")
    assert alice.json("topup", "alice", "1")["balance"] == "2"


@SQLITE
@pytest.mark.parametrize("amount", ["-5", "0", "NaN", "1e3", "five", "0.0000000001", "", "99999999999999"])
def test_what_is_no_amount_is_refused(alice: Gateway, amount: str) -> None:
    assert alice.run("topup", "alice", amount).code == 2
    assert alice.json("balances", "show", "alice")["balance"] == "0"


@SQLITE
def test_an_unknown_user_is_not_found(alice: Gateway) -> None:
    result = alice.run("topup", "bob", "1")
    assert (result.code, result.out) == (3, "")
    assert "bob" in result.err


@SQLITE
def test_quiet_prints_the_entry(alice: Gateway) -> None:
    assert alice.ok("topup", "alice", "1", "--quiet").out.strip().isdecimal()


def test_every_topup_is_in_the_audit_log(alice: Gateway) -> None:
    alice.ok("topup", "alice", "1", "--ref", "r1")
    alice.ok("topup", "alice", "1", "--ref", "r1")
    engine.open_database(str(alice.url))
    found = [entry for entry in audit.entries() if entry.action == "ledger.topup"]
    engine.close_connection()
    assert [(entry.subject, entry.before, entry.after and entry.after["balance"]) for entry in found] == [
        ("alice", {"balance": "0"}, "1")
    ]


def test_the_same_payment_many_times_at_once_is_one_credit(alice: Gateway) -> None:
    engine.open_database(str(alice.url))

    def pay(_: int) -> list[bool]:
        replayed = [ledger.top_up("alice", 5_000_000_000, ref="once").replayed for _ in range(25)]
        engine.close_connection()
        return replayed

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = [replayed for found in pool.map(pay, range(8)) for replayed in found]
    engine.close_connection()
    assert (len(outcomes), outcomes.count(False)) == (200, 1)
    assert alice.json("balances", "show", "alice")["balance"] == "5"


@SQLITE
def test_topup_waits_for_a_locked_database(alice: Gateway) -> None:
    """As while a backup tool or the sqlite3 shell is at work."""
    locked = threading.Event()

    def hold() -> None:
        other = sqlite3.connect(str(alice.url).removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        locked.set()
        time.sleep(1)
        other.execute("COMMIT")
        other.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(5)
    started = time.monotonic()
    alice.ok("topup", "alice", "1")
    assert time.monotonic() - started > 0.8
    holder.join()


@SQLITE
def test_a_command_waits_longer_than_the_daemon(alice: Gateway) -> None:
    alice.ok("balances", "list")
    assert bound.obj.lock_wait_s >= 60 > engine.LOCK_WAIT_S
