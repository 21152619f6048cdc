"""What every change of an admin leaves behind: one audit row (or none when nothing changed) and a raised version."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from db import audit, catalog, credentials, engine, groups, keys, multipliers, providers, users, versions
from db.errors import StoreError
from db.models import TABLES, User
from db.prices import NewPrice
from db.secrets import MasterKeys

MASTER = MasterKeys([os.urandom(32)])
PRICES = {"input": NewPrice(150_000_000), "output": NewPrice(600_000_000)}
NEW_MODEL = catalog.NewModel("m2", "openai", "m2", PRICES, aliases=("two",))


@pytest.fixture
def filled(database: str) -> str:
    """alice in everyone and staff, a provider with a credential, a model with an alias, a key (id 1)."""
    groups.create("everyone", is_default=True)
    groups.create("staff")
    users.create("alice", groups=["staff"])
    providers.create("openai")
    providers.create("groq")
    credentials.add("openai", "sk-abcdefghijklmnop", MASTER, name="one")
    catalog.add(catalog.NewModel("m1", "openai", "m1", PRICES, aliases=("one",)))
    keys.create("alice", name="first")
    return database


def _versions() -> tuple[int, int]:
    return versions.catalog_version(), User.get(User.id == 1).version


# (what is done, audit action, whether the catalogue's version rises, whether alice's does)
CHANGES: list[tuple[Callable[[], Any], str, bool, bool]] = [
    (lambda: users.create("bob"), "users.create", False, False),
    (lambda: users.update("alice", rpm=5), "users.update", False, True),
    (lambda: users.set_status("alice", "suspended"), "users.suspend", False, True),
    (lambda: users.delete("alice"), "users.delete", False, True),
    (lambda: groups.create("g"), "groups.create", True, False),
    (lambda: groups.delete("staff"), "groups.delete", True, True),
    (lambda: groups.remove_user("staff", "alice"), "groups.remove-user", False, True),
    (lambda: groups.allow("staff", ["one"]), "groups.allow", True, False),
    (lambda: groups.deny("everyone", ["m1"]), "groups.deny", True, False),
    (lambda: keys.create("alice"), "keys.create", False, True),
    (lambda: keys.update("1", rpm=1), "keys.update", False, True),
    (lambda: keys.rotate("1", grace_ms=0), "keys.rotate", False, True),
    (lambda: keys.set_status("1", "disabled"), "keys.disable", False, True),
    (lambda: keys.set_status("1", "revoked"), "keys.revoke", False, True),
    (lambda: multipliers.set_for("user", "alice", 5), "multipliers.set", False, True),
    (lambda: multipliers.set_for("group", "staff", 5), "multipliers.set", True, False),
    (lambda: multipliers.set_for("model", "one", 5, "output"), "multipliers.set", True, False),
    (lambda: providers.create("mistral"), "providers.add", True, False),
    (lambda: providers.update("openai", read_timeout_ms=5), "providers.update", True, False),
    (lambda: providers.pause("openai", "why"), "providers.pause", True, False),
    (lambda: providers.delete("groq"), "providers.delete", True, False),
    (lambda: credentials.add("openai", "sk-abcdefghijklmnop", MASTER, name="b"), "credentials.add", True, False),
    (lambda: credentials.set_status("1", "disabled"), "credentials.disable", True, False),
    (lambda: credentials.delete("openai/one"), "credentials.delete", True, False),
    (lambda: catalog.add(NEW_MODEL), "models.add", True, False),
    (lambda: catalog.update("m1", max_output=5), "models.update", True, False),
    (lambda: catalog.update("m1", new_prices={"input": NewPrice(1)}), "models.update", True, False),
    (lambda: catalog.update("m1", provider="groq"), "models.update", True, False),
    (lambda: catalog.set_enabled("m1", False), "models.disable", True, False),
    (lambda: catalog.add_alias("another", "m1"), "models.alias", True, False),
    (lambda: catalog.remove_alias("one"), "models.unalias", True, False),
    (lambda: catalog.delete("m1"), "models.delete", True, False),
]


def test_a_change_is_audited_once_and_raises_the_right_version(filled: str) -> None:
    from db.models import database as bound

    for act, action, catalog_rises, user_rises in CHANGES:
        with bound.atomic() as undo:
            count, before = len(audit.entries(1000)), _versions()
            act()
            after = _versions()
            added = audit.entries(1000)[: len(audit.entries(1000)) - count]
            assert [row.action for row in added] == [action]
            assert added[0].at > 0
            assert added[0].actor
            assert (after[0] > before[0], after[1] > before[1]) == (catalog_rises, user_rises), action
            undo.rollback()


# Things that are so already, or may not be: no row of any table changes.
NOTHING: list[Callable[[], Any]] = [
    lambda: users.set_status("alice", "active"),
    lambda: groups.add_user("staff", "alice"),
    lambda: groups.allow("everyone", ["m1"]),
    lambda: keys.set_status("1", "active"),
    lambda: providers.resume("openai"),
    lambda: credentials.set_status("1", "active"),
    lambda: credentials.reencrypt(MASTER),
    lambda: catalog.set_enabled("m1", True),
    lambda: catalog.add_alias("one", "m1"),
    lambda: catalog.update("m1", new_prices=PRICES),
    lambda: users.create("alice"),
    lambda: users.create("bob", groups=["nowhere"]),
    lambda: users.create("bob", email="nonsense"),
    lambda: keys.create("alice", models=["m1", "nowhere"]),
    lambda: keys.create("alice", budget_period="week"),
    lambda: keys.create("alice", budget_nanos=1, budget_period="year"),
    lambda: groups.allow("staff", ["m1", "nowhere"]),
    lambda: providers.create("openai"),
    lambda: providers.create("models", protocol="openai", base_url="http://x"),
    lambda: providers.delete("openai"),
    lambda: credentials.add("openai", "sk-abcdefghijklmnop", MASTER, name="one"),
    lambda: catalog.add(catalog.NewModel("m2", "openai", "m2", {"input": NewPrice(1)})),
    lambda: catalog.add(catalog.NewModel("M1", "openai", "m2", PRICES)),
    lambda: catalog.add(catalog.NewModel("m2", "openai", "m2", PRICES, aliases=("ok", "ONE"))),
    lambda: catalog.add(catalog.NewModel("m2", "openai", "m2", PRICES, groups=["nowhere"])),
    lambda: catalog.add_alias("M1", "m1"),
    lambda: catalog.update("m1", type="nonsense", max_output=3),
    lambda: catalog.update("m1", max_output=3, provider="nowhere"),
    lambda: multipliers.set_for("user", "alice", -1),
    lambda: multipliers.set_for("user", "alice", 1, "nonsense"),
    lambda: multipliers.unset("user", "alice"),
]


def _everything() -> list[Any]:
    return [sorted(map(repr, table.select().tuples())) for table in TABLES]


def test_what_changes_nothing_or_is_refused_leaves_no_trace(filled: str) -> None:
    before = _everything()
    for act in NOTHING:
        with contextlib.suppress(StoreError):
            act()
        assert _everything() == before


def test_no_audit_row_holds_a_secret(filled: str) -> None:
    issued = keys.rotate("1", grace_ms=0)
    text = repr(audit.entries(1000))
    assert "sk-abcdefghijklmnop" not in text
    assert issued.text not in text
    assert issued.text not in repr(issued)


@pytest.mark.parametrize(
    "create",
    [
        lambda: users.create("bob"),
        lambda: groups.create("g"),
        lambda: providers.create("mistral"),
        lambda: credentials.add("openai", "sk-abcdefghijklmnop", MASTER, name="b"),
        lambda: catalog.add(NEW_MODEL),
    ],
)
def test_of_many_creators_at_once_one_wins_and_the_others_are_told(filled: str, create: Callable[[], Any]) -> None:
    outcomes: list[str] = []
    together = threading.Barrier(4)

    def attempt() -> None:
        together.wait()
        try:
            create()
            outcomes.append("made")
        except StoreError as error:
            outcomes.append(type(error).__name__)
        finally:
            engine.close_connection()

    threads = [threading.Thread(target=attempt) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["Conflict", "Conflict", "Conflict", "made"]
