"""Who presents a key: found by its public id, proved by its digest, with everything that decides what it may."""

from __future__ import annotations

import pytest

from db import clock, groups, identity, keys, multipliers, users
from db.models import Key, KeySecret
from tests.support import hot_sql, records
from tests.support.ledger_text import play

STATEMENTS = hot_sql.statements(identity)


def _issue(user: str = "alice", **fields: object) -> tuple[str, identity.Identity]:
    """A new key's text, and who presents it."""
    text = keys.create(user, **fields).text
    found = identity.find(text[6:14])
    assert found is not None
    return text, found


def test_everything_that_decides(database: str) -> None:
    beta = groups.create("beta").id
    user = users.create("alice", groups=["beta"], multiplier_ppm=1_500_000)
    multipliers.set_for("user", "alice", 2_000_000, "output")
    multipliers.set_for("group", "beta", 9, "output")
    records.model("gpt")
    expiry = clock.now_ms() + 60_000
    text, found = _issue(
        name="ci", rpm=1, tpm=2, max_parallel=3, budget_nanos=4, budget_period="week", models=["gpt"], expires_at=expiry
    )
    assert (found.user_id, found.user, found.user_status, found.groups) == (user.id, "alice", "active", frozenset({beta}))
    assert found.multipliers == {"*": 1_500_000, "output": 2_000_000}
    assert (found.key_name, found.key_status, found.key_expires_at, found.models) == (
        "ci",
        "active",
        expiry,
        frozenset({"gpt"}),
    )
    assert (found.rpm, found.tpm, found.max_parallel, found.budget_nanos, found.budget_period) == (1, 2, 3, 4, "week")
    assert identity.proves(found, text)
    assert not identity.proves(found, keys.create("alice").text)
    assert found.digest.hex() not in repr(found)


def test_no_limits_are_none(database: str) -> None:
    users.create("alice")
    _, found = _issue()
    assert (found.models, found.budget_nanos, found.budget_period, found.key_expires_at) == (None, None, None, None)
    assert (found.rpm, found.tpm, found.max_parallel, found.groups, found.multipliers) == (None, None, None, frozenset(), {})


@pytest.mark.parametrize("public_id", ["", "00000000", "alice", "' OR 1=1 --", "\ud7ff", "a" * 5000])
def test_nobody_is_found_by_anything_else(database: str, public_id: str) -> None:
    users.create("alice")
    _issue()
    assert identity.find(public_id) is None


def test_states_are_reported_not_judged(database: str) -> None:
    users.create("alice")
    text, _ = _issue()
    keys.set_status(text[6:14], "revoked")
    users.set_status("alice", "suspended")
    found = identity.find(text[6:14])
    assert found is not None
    assert (found.key_status, found.user_status) == ("revoked", "suspended")


def test_the_earlier_of_two_expiries_counts(database: str) -> None:
    """A rotation ends the old secret, an expiry the key."""
    users.create("alice")
    now = clock.now_ms()
    old, _ = _issue(expires_at=now + 60_000)
    new = keys.rotate(old[6:14], grace_ms=1000).text
    before, after = identity.find(old[6:14]), identity.find(new[6:14])
    assert before is not None
    assert after is not None
    assert now + 1000 <= before.key_expires_at <= clock.now_ms() + 1000
    assert after.key_expires_at == now + 60_000
    assert (before.key_id, before.user_version) == (after.key_id, after.user_version)
    assert identity.proves(before, old)
    assert not identity.proves(after, old)


def test_a_key_by_its_number_is_the_newest_secret(database: str) -> None:
    users.create("alice")
    old, found = _issue()
    KeySecret.update(created_at=5).execute()
    new = keys.rotate(old[6:14], grace_ms=60_000).text
    latest = identity.find_by_key_id(found.key_id)
    assert latest is not None
    assert identity.proves(latest, new)
    assert identity.find_by_key_id(12345) is None


def test_funds_are_those_of_now(database: str) -> None:
    book = play("user alice credit=50 budget=700\ntop-up alice 1000\nplace q1 alice 300\nplace q2 alice 200\nsettle q1 120")
    found = identity.funds(book.key_of("alice"))
    assert (found.balance_nanos, found.held_nanos, found.credit_limit_nanos, found.available_nanos) == (880, 200, 50, 730)
    assert (found.key_spent_nanos, found.budget_spent_nanos, found.budget_held_nanos) == (120, 120, 200)
    assert found.budget_window_at == Key.get().budget_window_at


@pytest.mark.parametrize("name", STATEMENTS)
def test_hot_sql_fits_the_tables(name: str, database: str) -> None:
    hot_sql.check_columns(STATEMENTS[name])
    hot_sql.check_plan(STATEMENTS[name])
