"""Single requests from the usage records: the log, one request in full, and every row for an export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from peewee import JOIN, Tuple, fn

from db import ledger
from db.engine import translated_errors
from db.errors import NotFound
from db.models import Hold, Provider, UsageRecord, User
from db.reports import Filters, where

EXPORT_PAGE = 1000


@dataclass(frozen=True, slots=True)
class UsageView:
    """One request as `usage log` and the exports show it."""

    id: int
    request_id: str
    at: int
    user: str | None
    key_id: int
    provider: str | None
    model: str
    served_model: str | None
    endpoint: str
    stream: bool
    status: str
    http_status: int
    usage: dict[str, int]
    service_tier: str | None  # that the provider reported, when it may have a price of its own
    cost_nanos: int
    upstream_cost_nanos: int
    charged_nanos: int
    absorbed_nanos: int
    estimated: bool
    cached: bool
    latency_ms: int | None
    ttft_ms: int | None
    error_code: str | None


@dataclass(frozen=True, slots=True)
class UsageDetail:
    """One request with its terms (prices, multipliers), the amounts of its bill's lines (nano-USD by meter), its attempts
    and the ledger entry of its charge.
    """

    view: UsageView
    terms: dict[str, Any]
    amounts: dict[str, int]
    attempts: list[Any]
    ledger_entry_id: int | None


@dataclass(frozen=True, slots=True)
class Priced:
    """A charged request with all that its price was made of: meters, terms (JSON text), and what was held (None: unknown)."""

    id: int
    at: int
    request_id: str
    user: str | None
    key_id: int
    model_id: int | None
    model: str
    usage: dict[str, int]
    service_tier: str | None
    terms: str
    estimated: bool
    cost_nanos: int
    charged_nanos: int
    held_nanos: int | None


def _view_query(chosen: Filters) -> Any:
    columns = (
        UsageRecord.id,
        UsageRecord.request_id,
        UsageRecord.at,
        User.name.alias("user"),
        UsageRecord.key_id,
        Provider.slug.alias("provider"),
        UsageRecord.requested_model.alias("model"),
        UsageRecord.served_model,
        UsageRecord.endpoint,
        UsageRecord.stream,
        UsageRecord.status,
        UsageRecord.http_status,
        UsageRecord.usage,
        UsageRecord.cost_nanos,
        UsageRecord.upstream_cost_nanos,
        UsageRecord.charged_nanos,
        UsageRecord.absorbed_nanos,
        UsageRecord.estimated,
        UsageRecord.cached,
        UsageRecord.latency_ms,
        UsageRecord.ttft_ms,
        UsageRecord.error_code,
    )
    query = UsageRecord.select(*columns).join(User, JOIN.LEFT_OUTER, on=(User.id == UsageRecord.user_id))
    query = query.switch(UsageRecord).join(Provider, JOIN.LEFT_OUTER, on=(Provider.id == UsageRecord.provider_id))
    return where(query, chosen)


def _view(row: dict[str, Any]) -> UsageView:
    for flag in ("stream", "estimated", "cached"):
        row[flag] = bool(row[flag])
    usage = json.loads(row["usage"])
    row["service_tier"] = usage.pop("service_tier", None)
    row["usage"] = {str(meter): int(count) for meter, count in usage.items()}
    return UsageView(**row)


def log(chosen: Filters, *, request_id: str | None = None, limit: int = 100) -> list[UsageView]:
    """The newest `limit` requests, the newest first."""
    query = _view_query(chosen).order_by(UsageRecord.at.desc(), UsageRecord.id.desc()).limit(limit)
    if request_id is not None:
        query = query.where(UsageRecord.request_id == request_id)
    with translated_errors():
        return [_view(row) for row in query.dicts()]


def show(request_id: str) -> UsageDetail:
    """One request by its id. Raises NotFound."""
    with translated_errors():
        view = next(iter(log(Filters(), request_id=request_id, limit=1)), None)
        if view is None:
            raise NotFound(f"There is no usage record of request {request_id[:200]!r}", "See: gatewayctl usage log")
        record = UsageRecord.get_by_id(view.id)
        charge = ledger.charge_of(request_id)
    return UsageDetail(
        view=view,
        terms=json.loads(record.terms),
        amounts=json.loads(record.amounts),
        attempts=json.loads(record.attempts),
        ledger_entry_id=None if charge is None else int(charge.id),
    )


def _priced_query(chosen: Filters, after: tuple[int, int]) -> Any:
    columns = (
        UsageRecord.id, UsageRecord.at, UsageRecord.request_id, User.name.alias("user"), UsageRecord.key_id,
        UsageRecord.model_id, UsageRecord.requested_model.alias("model"), UsageRecord.usage, UsageRecord.terms,
        UsageRecord.estimated, UsageRecord.cost_nanos, UsageRecord.charged_nanos, Hold.amount_nanos.alias("held_nanos"),
    )  # fmt: skip
    settled = (Hold.request_id == UsageRecord.request_id) & (Hold.state == "settled")
    query = UsageRecord.select(*columns).join(Hold, on=settled)
    query = query.switch(UsageRecord).join(User, JOIN.LEFT_OUTER, on=(User.id == UsageRecord.user_id))
    query = where(query, chosen).where(Tuple(UsageRecord.at, UsageRecord.id) > after)
    return query.order_by(UsageRecord.at, UsageRecord.id).limit(EXPORT_PAGE)


def priced(chosen: Filters, *, request_id: str | None = None) -> Iterator[Priced]:
    """Every request that was charged, the oldest first, a page at a time."""
    after = (-1, -1)
    while True:
        query = _priced_query(chosen, after)
        if request_id is not None:
            query = query.where(UsageRecord.request_id == request_id)
        with translated_errors():
            page = [_priced(row) for row in query.dicts()]
        yield from page
        if len(page) < EXPORT_PAGE:
            return
        after = (page[-1].at, page[-1].id)


def _priced(row: dict[str, Any]) -> Priced:
    usage = json.loads(row["usage"])
    row["estimated"] = bool(row["estimated"])
    row["service_tier"] = usage.pop("service_tier", None)
    row["usage"] = {str(meter): int(count) for meter, count in usage.items()}
    return Priced(**row)


def count(chosen: Filters) -> int:
    """How many records there are: the length of an export."""
    with translated_errors():
        return int(where(UsageRecord.select(fn.COUNT(UsageRecord.id)), chosen).scalar())


def _page_query(chosen: Filters, after: tuple[int, int]) -> Any:
    query = _view_query(chosen).where(Tuple(UsageRecord.at, UsageRecord.id) > after)
    return query.order_by(UsageRecord.at, UsageRecord.id).limit(EXPORT_PAGE)


def rows(chosen: Filters) -> Iterator[UsageView]:
    """Every record, the oldest first, a page at a time: no long read holds up the daemon's checkpoints."""
    after = (-1, -1)
    while True:
        with translated_errors():
            page = [_view(row) for row in _page_query(chosen, after).dicts()]
        yield from page
        if len(page) < EXPORT_PAGE:
            return
        after = (page[-1].at, page[-1].id)
