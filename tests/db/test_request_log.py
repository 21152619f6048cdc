"""The log, one request in full, and the pages of an export."""

from __future__ import annotations

import pytest

from db import request_log
from db.errors import NotFound
from db.models import LedgerEntry
from db.reports import Filters
from tests.support import records
from tests.support.records import NOON, TERMS


def test_log_is_newest_first_and_limited(database: str) -> None:
    user = records.user("alice")
    asked = [records.usage(NOON + index, user_id=user) for index in range(5)]
    assert [view.request_id for view in request_log.log(Filters(), limit=3)] == asked[:1:-1]


def test_log_names_user_and_provider(database: str) -> None:
    request = records.usage(
        user_id=records.user("alice"), provider_id=records.provider("openai"), cost=7, stream=True, estimated=True
    )
    [view] = request_log.log(Filters(), request_id=request)
    assert (view.user, view.provider, view.model, view.cost_nanos) == ("alice", "openai", "gpt-4o-mini", 7)
    assert (view.stream, view.estimated, view.cached) == (True, True, False)
    assert view.usage == {"input": 10, "output": 5}


def test_records_outlive_what_they_name(database: str) -> None:
    records.usage(user_id=99, provider_id=99)
    [view] = request_log.log(Filters())
    assert (view.user, view.provider) == (None, None)


def test_show_brings_terms_attempts_and_the_charge(database: str) -> None:
    user = records.user("alice")
    request = records.usage(user_id=user, cost=12, attempts='[{"provider":"openai","status":200}]')
    charge = LedgerEntry.insert(
        user=user, kind="charge", amount_nanos=-12, balance_after_nanos=-12, at=NOON, request_id=request
    ).execute()
    detail = request_log.show(request)
    assert detail.terms == TERMS
    assert detail.attempts == [{"provider": "openai", "status": 200}]
    assert detail.ledger_entry_id == charge


def test_show_of_an_unknown_request_is_not_found(database: str) -> None:
    with pytest.raises(NotFound, match="nope"):
        request_log.show("nope")


def test_rows_pages_over_every_record_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_log, "EXPORT_PAGE", 3)
    user = records.user("alice")
    # The same instant for many, and ids against the order of time: neither loses nor repeats a row.
    asked = {records.usage(NOON - index // 4, user_id=user) for index in range(9)}
    found = [view.request_id for view in request_log.rows(Filters())]
    assert len(found) == 9
    assert set(found) == asked
    assert request_log.count(Filters(since=NOON)) == 4
