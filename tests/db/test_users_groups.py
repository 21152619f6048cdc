"""Users and groups: who is where, and what a deletion takes along."""

from __future__ import annotations

import pytest

from db import catalog, groups, identity, keys, providers, users
from db.errors import Conflict, Invalid, NotFound
from db.prices import NewPrice

FREE = {"input": NewPrice(0), "output": NewPrice(0)}


@pytest.fixture(autouse=True)
def _groups(database: str) -> None:
    groups.create("everyone", is_default=True)
    groups.create("staff", multiplier_ppm=500_000)


def test_new_users_join_every_default_group_and_those_they_are_given() -> None:
    assert users.create("carol").groups == ("everyone",)
    assert users.create("dan", groups=["staff", "everyone"]).groups == ("everyone", "staff")


def test_models_of_a_user_are_the_union_of_its_groups() -> None:
    providers.create("openai")
    a = catalog.add(catalog.NewModel("a", "openai", "a", FREE))
    b = catalog.add(catalog.NewModel("b", "openai", "b", FREE, groups=["staff"]))
    c = catalog.add(catalog.NewModel("c", "openai", "c", FREE, private=True))
    assert (a.groups, b.groups, c.groups) == (("everyone",), ("staff",), ())
    groups.deny("everyone", ["a"])
    groups.allow("staff", ["a", "c"])
    assert groups.show("staff").models == ("a", "b", "c")
    assert groups.show("everyone").models == ()


def test_deleting_a_user_revokes_keys_and_frees_the_name() -> None:
    made = users.create("alice", groups=["staff"], multiplier_ppm=2_000_000)
    issued = keys.create("alice")
    gone = users.delete("alice")
    assert (gone.name, gone.status, gone.groups, gone.multipliers) == (f"deleted-{made.id}-alice", "deleted", (), {})
    assert keys.show(str(issued.view.id)).status == "revoked"
    found = identity.find(issued.view.secrets[0].public_id)
    assert found is not None
    assert (found.key_status, found.user_status) == ("revoked", "deleted")
    assert [view.name for view in users.list_all()] == []
    again = users.create("alice")
    assert again.id != made.id
    with pytest.raises(Conflict):
        users.delete(gone.name)
    with pytest.raises(Conflict):
        keys.create(gone.name)
    with pytest.raises(Conflict):
        users.set_status(gone.name, "active")


def test_deleting_a_group_takes_its_grants_members_and_multiplier_along() -> None:
    users.create("alice", groups=["staff"])
    groups.delete("staff")
    assert users.show("alice").groups == ("everyone",)
    assert groups.create("staff").multiplier_ppm == 1_000_000  # even if it gets the same number
    with pytest.raises(NotFound):
        groups.remove_user("staff", "alice")


def test_fields_are_checked_and_none_removes_a_limit() -> None:
    users.create("alice", rpm=5, fair_use_limit=200, fair_use_throttle_s=600, credit_limit_nanos=10)
    view = users.update("alice", rpm=None, fair_use_limit=None)
    assert (view.rpm, view.fair_use.limit, view.fair_use.throttle_s, view.available_nanos) == (None, None, 600, 10)
    for bad in ({"rpm": 0}, {"credit_limit_nanos": -1}, {"email": "x"}, {"balance_nanos": 5}):
        with pytest.raises(Invalid):
            users.update("alice", **bad)
    for name in ("", "a b", "-x", "x" * 81, "a/b", "a\n", "é"):
        with pytest.raises(Invalid):
            users.create(name)
