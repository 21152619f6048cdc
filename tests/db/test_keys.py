"""Keys: only a hash is stored, rotation overlaps exactly, counters stay."""

from __future__ import annotations

import threading

import pytest

from db import catalog, clock, engine, identity, keys, providers, secrets, users
from db.errors import Conflict, Invalid, NotFound
from db.models import Key, KeySecret
from db.prices import NewPrice


@pytest.fixture(autouse=True)
def _alice(database: str) -> None:
    users.create("alice")


def test_only_the_hash_is_stored() -> None:
    issued = keys.create("alice")
    row = KeySecret.get()
    assert bytes(row.digest) == secrets.digest_of(issued.text)
    assert row.public_id == secrets.public_id_of(issued.text)
    assert issued.text not in repr([list(Key.select().tuples()), list(KeySecret.select().tuples())])


def test_rotation_keeps_the_row_and_overlaps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000_000
    monkeypatch.setattr(clock, "now_ms", lambda: now)
    first = keys.create("alice", rpm=3, budget_nanos=9)
    Key.update(spent_nanos=77, budget_spent_nanos=5).execute()
    now += 1000
    second = keys.rotate(first.view.prefix, grace_ms=60_000)
    assert (second.view.id, second.view.rpm, second.view.spent_nanos) == (first.view.id, 3, 77)
    assert Key.get().budget_spent_nanos == 5
    old, new = (identity.find(str(secrets.public_id_of(issued.text))) for issued in (first, second))
    assert old is not None
    assert new is not None
    assert (old.key_id, old.key_expires_at) == (new.key_id, now + 60_000)
    assert new.key_expires_at is None
    third = keys.rotate(str(first.view.id), grace_ms=0)
    ends = {view.public_id: view.expires_at for view in third.view.secrets}
    assert list(ends.values()).count(None) == 1
    assert all(end is None or end <= now for end in ends.values())  # --now also shortens an earlier grace
    assert third.view.secrets[0].expires_at is None  # the newest stands first, even within one millisecond


def test_a_longer_grace_does_not_revive_an_older_secret() -> None:
    first = keys.create("alice")
    keys.rotate("1", grace_ms=0)
    keys.rotate("1", grace_ms=3_600_000)
    found = identity.find(str(secrets.public_id_of(first.text)))
    assert found is not None
    assert found.key_expires_at is not None
    assert found.key_expires_at <= clock.now_ms()


def test_revoked_is_for_good() -> None:
    keys.create("alice")
    keys.set_status("1", "disabled")
    assert keys.set_status("1", "active").status == "active"
    keys.set_status("1", "revoked")
    assert keys.set_status("1", "revoked").status == "revoked"
    for status in ("active", "disabled"):
        with pytest.raises(Conflict):
            keys.set_status("1", status)
    with pytest.raises(Conflict):
        keys.rotate("1", grace_ms=0)


def test_models_are_canonical_ids() -> None:
    providers.create("openai")
    free = {"input": NewPrice(0), "output": NewPrice(0)}
    catalog.add(catalog.NewModel("gpt", "openai", "gpt", free, aliases=("g",)))
    assert keys.create("alice", models=["g", "gpt"]).view.models == ("gpt",)
    assert keys.update("1", models=None).models is None
    with pytest.raises(NotFound):
        keys.create("alice", models=["nowhere"])


def test_a_budget_has_a_period_and_a_period_a_budget() -> None:
    assert keys.create("alice", budget_nanos=5).view.budget_period == "month"
    assert keys.update("1", budget_nanos=None).budget_period is None
    with pytest.raises(Invalid):
        keys.update("1", budget_period="day")
    assert keys.update("1", budget_nanos=5, budget_period="day").budget_period == "day"


def test_expiry_shows_as_status(monkeypatch: pytest.MonkeyPatch) -> None:
    at = clock.now_ms()
    keys.create("alice", expires_at=at + 50)
    with pytest.raises(Invalid):
        keys.create("alice", expires_at=at)
    monkeypatch.setattr(clock, "now_ms", lambda: at + 50)
    assert [view.status for view in keys.list_all()] == ["expired"]
    assert keys.list_all(statuses=("active",)) == []


def test_a_key_is_found_by_number_prefix_public_id_or_whole_and_never_echoed() -> None:
    issued = keys.create("alice")
    for reference in ("1", issued.view.prefix, issued.view.prefix[6:], issued.text):
        assert keys.show(reference).id == 1
    for reference in ("2", "sk-gw-AAAAAAAA", "", "x" * 99, "9" * 40):
        with pytest.raises(NotFound):
            keys.show(reference)
    unknown = secrets.make_key().text
    with pytest.raises(NotFound) as caught:
        keys.show(unknown)
    assert unknown not in caught.value.message


def test_two_rotations_at_the_same_time_both_work(database: str) -> None:
    keys.create("alice")
    failures: list[BaseException] = []

    def rotate() -> None:
        try:
            keys.rotate("1", grace_ms=1000)
        except BaseException as error:
            failures.append(error)
        finally:
            engine.close_connection()

    threads = [threading.Thread(target=rotate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    view = keys.show("1")
    assert len(view.secrets) == 7
    assert [item.expires_at for item in view.secrets].count(None) == 1
