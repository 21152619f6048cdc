"""Totals, time lines and shares equal the records, and are found by an index."""

from __future__ import annotations

import re

import pytest

from db import reports
from db.errors import Invalid, NotFound
from db.models import Alias, Group, KeySecret, Membership
from db.models import database as bound
from db.reports import Filters
from tests.support import records
from tests.support.records import DAY, HOUR, NOON

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def two_users(database: str) -> dict[str, int]:
    """alice with two keys and bob with one; six records over three days."""
    alice, bob = records.user("alice"), records.user("bob")
    ids = {
        "alice": alice,
        "bob": bob,
        "laptop": records.key(alice, "laptop"),
        "nameless": records.key(alice),
        "ci": records.key(bob, "ci"),
        "openai": records.provider("openai"),
        "mini": records.model("gpt-4o-mini", input=1),
    }
    known = {"model_id": ids["mini"], "provider_id": ids["openai"], "latency_ms": 100}
    records.usage(NOON, user_id=alice, key_id=ids["laptop"], cost=4_000, **known)
    records.usage(NOON + 1, user_id=alice, key_id=ids["nameless"], cost=3_000, charged=2_000, estimated=True, **known)
    records.usage(NOON - DAY, user_id=alice, key_id=ids["laptop"], cost=1_000, status="client_disconnected", **known)
    records.usage(NOON - 2 * DAY, user_id=bob, key_id=ids["ci"], cost=500, **{**known, "latency_ms": 900})
    records.usage(NOON, user_id=bob, key_id=ids["ci"], status="error", http_status=502, **known)
    records.usage(NOON, user_id=bob, key_id=ids["ci"], status="refused", http_status=404, requested_model="nope")
    return ids


def test_summary_adds_everything_up(two_users: dict[str, int]) -> None:
    totals = reports.summary(Filters())
    assert (totals.requests, totals.errors, totals.refused, totals.disconnected) == (6, 1, 1, 1)
    assert (totals.cost_nanos, totals.charged_nanos, totals.absorbed_nanos) == (8_500, 7_500, 1_000)
    assert (totals.input_tokens, totals.output_tokens, totals.estimated) == (60, 30, 1)
    assert all(type(value) is int for value in (totals.cost_nanos, totals.requests, totals.estimated))


def test_window_is_half_open(two_users: dict[str, int]) -> None:
    assert reports.summary(Filters(since=NOON, until=NOON + 1)).requests == 3
    assert reports.summary(Filters(since=NOON + 2)) == reports.Totals()


def test_filters_narrow_by_name(two_users: dict[str, int]) -> None:
    Alias.insert(alias="mini", model=two_users["mini"]).execute()
    assert reports.summary(reports.filters(user="alice")).requests == 3
    assert reports.summary(reports.filters(key=str(two_users["laptop"]))).cost_nanos == 5_000
    assert reports.summary(reports.filters(model="mini", provider="openai")).requests == 5
    assert reports.summary(reports.filters(user="bob", status="error")).requests == 1


@SQLITE
@pytest.mark.parametrize("name", ["user", "key", "model", "provider"])
def test_unknown_name_is_not_found(database: str, name: str) -> None:
    with pytest.raises(NotFound, match=name):
        reports.filters(**{name: "nobody"})


def test_key_is_found_by_number_public_id_prefix_or_whole(two_users: dict[str, int]) -> None:
    key = two_users["ci"]
    KeySecret.update(public_id="AbCdEf12").where(KeySecret.key == key).execute()
    for text in (str(key), "AbCdEf12", "sk-gw-AbCdEf12", "sk-gw-AbCdEf12_secretsecretsecretsecretsecretsecretssss00"):
        assert reports.filters(key=text).key_id == key


@SQLITE
def test_unknown_whole_key_is_not_repeated(database: str) -> None:
    with pytest.raises(NotFound) as caught:
        reports.filters(key="sk-gw-AbCdEf12_secretsecret")
    assert "secret" not in caught.value.message


def test_latency_is_the_nearest_rank_of_requests_that_went_well(two_users: dict[str, int]) -> None:
    assert reports.latency(Filters()) == reports.Latency(p50_ms=100, p95_ms=900)
    assert reports.latency(Filters(since=NOON + DAY)) == reports.Latency(None, None)


def test_timeline_fills_empty_buckets(two_users: dict[str, int]) -> None:
    buckets = reports.timeline(Filters(since=NOON - 3 * DAY), "day", until=NOON + 1)
    assert [(bucket.at % DAY, bucket.totals.requests) for bucket in buckets] == [(0, 0), (0, 1), (0, 1), (0, 4)]
    hours = reports.timeline(Filters(since=NOON - HOUR), "hour", until=NOON + HOUR)
    assert [bucket.totals.requests for bucket in hours] == [0, 4]
    assert hours[0].at == NOON - HOUR


def test_timeline_without_a_start_begins_at_the_first_record(two_users: dict[str, int]) -> None:
    assert len(reports.timeline(Filters(), "day", until=NOON + 1)) == 3


@SQLITE
def test_timeline_is_bounded(database: str) -> None:
    with pytest.raises(Invalid, match="hours"):
        reports.timeline(Filters(since=0), "hour", until=NOON)


def test_by_key_counts_each_key_apart(two_users: dict[str, int]) -> None:
    shares = {share.name: share.totals for share in reports.by("key", Filters())}
    assert {name: totals.requests for name, totals in shares.items()} == {
        "alice/laptop": 2,
        f"alice/{two_users['nameless']}": 1,
        "bob/ci": 3,
    }
    assert sum(totals.cost_nanos for totals in shares.values()) == reports.summary(Filters()).cost_nanos


def test_by_user_is_sorted_by_cost(two_users: dict[str, int]) -> None:
    assert [(share.name, share.totals.cost_nanos) for share in reports.by("user", Filters())] == [
        ("alice", 8_000),
        ("bob", 500),
    ]


@pytest.mark.parametrize(("dimension", "name"), [("model", "gpt-4o-mini"), ("provider", "openai")])
def test_records_of_nothing_known_stand_apart(two_users: dict[str, int], dimension: str, name: str) -> None:
    shares = {share.name: share.totals.requests for share in reports.by(dimension, Filters())}
    assert shares == {name: 5, f"(no {dimension})": 1}


def test_a_user_in_two_groups_counts_in_both(two_users: dict[str, int]) -> None:
    for group in ("g1", "g2"):
        group_id = Group.insert(name=group, created_at=NOON).execute()
        Membership.insert(user=two_users["alice"], group=group_id).execute()
    shares = {share.name: share.totals.requests for share in reports.by("group", Filters())}
    assert shares == {"g1": 3, "g2": 3, "(no group)": 3}


def test_a_deleted_provider_is_still_told_apart(database: str) -> None:
    records.usage(provider_id=77)
    assert reports.by("provider", Filters())[0].name == "(provider 77, deleted)"


def _plan(query: object) -> str:
    text, parameters = query.sql()  # type: ignore[attr-defined]
    return " / ".join(row[3] for row in bound.execute_sql(f"EXPLAIN QUERY PLAN {text}", parameters).fetchall())


AGGREGATES = {
    "summary": lambda chosen: reports._summary_query(chosen),
    "latency": lambda chosen: reports._latency_query(chosen),
    "timeline": lambda chosen: reports._timeline_query(chosen, DAY),
    **{name: lambda chosen, name=name: reports._by_query(name, chosen) for name in reports.DIMENSIONS},
}


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_aggregates_search_by_index_and_never_read_json(database: str, name: str) -> None:
    build = AGGREGATES[name]
    for chosen, index in (
        (Filters(since=NOON), "usage_records_at"),
        (Filters(since=NOON, user_id=1), "usage_records_user_id_at"),
        (Filters(since=NOON, key_id=1), "usage_records_key_id_at"),
    ):
        assert re.search(rf"SEARCH t\d USING (COVERING )?INDEX {index} ", _plan(build(chosen)))
        text = build(chosen).sql()[0]
        assert not re.search(r'"(usage|terms|attempts)"', text)
