"""Read-only questions over the usage records: totals, time lines, by subject, single requests, rows for export.

Aggregates read only the small columns that stand first in a row and are reached by an index on the time (`at`), alone or
after a user or key; the JSON columns are read for single requests and exports only. All amounts are nano-USD, all
instants milliseconds since the epoch (UTC), every window is half open: since ≤ at < until.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import JOIN, SQL, Tuple, fn

from db.clock import DAY_MS, iso
from db.engine import translated_errors
from db.errors import Invalid, NotFound
from db.models import (
    Alias,
    CatalogModel,
    Group,
    Key,
    KeySecret,
    LedgerEntry,
    Membership,
    Provider,
    UsageRecord,
    User,
)
from db.secrets import KEY_PREFIX

HOUR_MS = 3_600_000
STEPS_MS = {"hour": HOUR_MS, "day": DAY_MS}
MAX_BUCKETS = 10_000
DIMENSIONS = ("model", "user", "key", "provider", "group")
EXPORT_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records: a half-open window and, when given, one user, key, model, provider or status."""

    since: int | None = None
    until: int | None = None
    user_id: int | None = None
    key_id: int | None = None
    model_id: int | None = None
    provider_id: int | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some requests; `errors` counts those with status 'error'."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    disconnected: int = 0
    cached: int = 0
    estimated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0
    upstream_cost_nanos: int = 0
    charged_nanos: int = 0
    absorbed_nanos: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds by nearest rank over the requests that went well; None when there are none."""

    p50_ms: int | None
    p95_ms: int | None


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour or UTC day that starts at `at`."""

    at: int
    totals: Totals


@dataclass(frozen=True, slots=True)
class Share:
    """The totals of one user, key, model, provider or group; `id` is None for what belongs to none."""

    id: int | None
    name: str
    totals: Totals
    last_at: int


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
    """One request with the terms it was charged by, its attempts and its ledger entry (None when nothing was charged)."""

    view: UsageView
    terms: dict[str, Any]
    attempts: list[Any]
    ledger_entry_id: int | None


def key_id_of(text: str) -> int:
    """The id of the key that is named by its id, a public id, a prefix 'sk-gw-…' or the whole key. Raises NotFound."""
    public = text.removeprefix(KEY_PREFIX).split("_", 1)[0]
    secret = KeySecret.get_or_none(KeySecret.public_id == public)
    if secret is not None:
        return int(secret.key_id)
    if (
        text.isascii()
        and text.isdigit()
        and len(text) < 19
        and Key.get_or_none(Key.id == int(text)) is not None
    ):
        return int(text)
    shown = f"{text[:14]}…" if text.startswith(KEY_PREFIX) else repr(text[:40])
    raise NotFound(f"There is no key {shown}", "See: gatewayctl keys list")


def model_id_of(text: str) -> int:
    """The id of the model with this public id or alias. Raises NotFound."""
    model = CatalogModel.get_or_none(CatalogModel.public_id == text)
    if model is not None:
        return int(model.id)
    alias = Alias.get_or_none(Alias.alias == text)
    if alias is None:
        raise NotFound(f"There is no model {text[:200]!r}", "See: gatewayctl models list")
    return int(alias.model_id)


def filters(
    *,
    since: int | None = None,
    until: int | None = None,
    user: str | None = None,
    key: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    status: str | None = None,
) -> Filters:
    """Filters from names as a person writes them. Raises NotFound for a name that does not exist."""
    with translated_errors():
        user_row = provider_row = None
        if user is not None:
            user_row = User.get_or_none(User.name == user)
            if user_row is None:
                raise NotFound(f"There is no user {user[:120]!r}", "See: gatewayctl users list")
        if provider is not None:
            provider_row = Provider.get_or_none(Provider.slug == provider)
            if provider_row is None:
                raise NotFound(f"There is no provider {provider[:40]!r}", "See: gatewayctl providers list")
        return Filters(
            since=since,
            until=until,
            user_id=user_row and user_row.id,
            key_id=None if key is None else key_id_of(key),
            model_id=None if model is None else model_id_of(model),
            provider_id=provider_row and provider_row.id,
            status=status,
        )


def _where(query: Any, chosen: Filters) -> Any:
    conditions = []
    if chosen.since is not None:
        conditions.append(UsageRecord.at >= chosen.since)
    if chosen.until is not None:
        conditions.append(UsageRecord.at < chosen.until)
    for column in ("user_id", "key_id", "model_id", "provider_id", "status"):
        value = getattr(chosen, column)
        if value is not None:
            conditions.append(getattr(UsageRecord, column) == value)
    return query.where(*conditions) if conditions else query


def _sums() -> list[Any]:
    """One column for each field of Totals, in its order."""
    count = fn.COUNT(UsageRecord.id)
    by_status = [
        fn.COUNT(UsageRecord.id).filter(UsageRecord.status == status)
        for status in ("error", "refused", "client_disconnected")
    ]
    summed = (
        UsageRecord.cached,
        UsageRecord.estimated,
        UsageRecord.input_tokens,
        UsageRecord.output_tokens,
        UsageRecord.cost_nanos,
        UsageRecord.upstream_cost_nanos,
        UsageRecord.charged_nanos,
        UsageRecord.absorbed_nanos,
    )
    return [count, *by_status, *(fn.COALESCE(fn.SUM(column), 0) for column in summed)]


def _totals(values: Sequence[Any]) -> Totals:
    # PostgreSQL's SUM of a bigint is a numeric, which arrives as Decimal: whole, so int() is exact.
    return Totals(*(int(value) for value in values))


def _summary_query(chosen: Filters) -> Any:
    return _where(UsageRecord.select(*_sums()), chosen).tuples()


def summary(chosen: Filters) -> Totals:
    """The totals of everything that `chosen` selects."""
    with translated_errors():
        return _totals(next(iter(_summary_query(chosen))))


def _latency_query(chosen: Filters) -> Any:
    counted = UsageRecord.select(UsageRecord.latency_ms, fn.COUNT(UsageRecord.id))
    good = _where(counted, chosen).where(UsageRecord.status == "ok", UsageRecord.latency_ms.is_null(False))
    return good.group_by(UsageRecord.latency_ms).order_by(UsageRecord.latency_ms).tuples()


def latency(chosen: Filters) -> Latency:
    """Median and 95th percentile, exact, from one count per distinct millisecond."""
    with translated_errors():
        counts = [(int(value), int(count)) for value, count in _latency_query(chosen)]
    return Latency(p50_ms=_percentile(counts, 50), p95_ms=_percentile(counts, 95))


def _percentile(counts: Sequence[tuple[int, int]], percent: int) -> int | None:
    """Nearest rank over (value, how often) in rising order."""
    rank = -(-sum(count for _, count in counts) * percent // 100)
    for value, count in counts:
        rank -= count
        if rank <= 0:
            return value
    return None


def _timeline_query(chosen: Filters, step_ms: int) -> Any:
    start = (UsageRecord.at / step_ms).alias("bucket")
    return _where(UsageRecord.select(start, *_sums()), chosen).group_by(SQL("bucket")).tuples()


def timeline(chosen: Filters, step: str, *, until: int) -> list[Bucket]:
    """One bucket per 'hour' or UTC 'day' from the window's start to `until`, empty ones included.

    Without a start the first record's bucket is the first. Raises Invalid beyond 10,000 buckets.
    """
    step_ms = STEPS_MS[step]
    with translated_errors():
        since = chosen.since
        if since is None:
            since = UsageRecord.select(fn.MIN(UsageRecord.at)).scalar()
        if since is None or since >= until:
            return []
        first, last = since // step_ms, (until - 1) // step_ms
        if last - first >= MAX_BUCKETS:
            raise Invalid(
                f"From {iso(since)} to {iso(until)} there are {last - first + 1} {step}s",
                "Choose a later --since, or --by day",
            )
        found = {int(start): _totals(sums) for start, *sums in _timeline_query(chosen, step_ms)}
    return [Bucket(at=start * step_ms, totals=found.get(start, Totals())) for start in range(first, last + 1)]


def _by_query(dimension: str, chosen: Filters) -> Any:
    if dimension == "group":
        subject: Any = Membership.group_id
        query = UsageRecord.select(
            subject, fn.MAX(UsageRecord.at), fn.MAX(UsageRecord.requested_model), *_sums()
        )
        query = query.join(Membership, JOIN.LEFT_OUTER, on=(Membership.user_id == UsageRecord.user_id))
    else:
        subject = getattr(UsageRecord, f"{dimension}_id")
        query = UsageRecord.select(
            subject, fn.MAX(UsageRecord.at), fn.MAX(UsageRecord.requested_model), *_sums()
        )
    return _where(query, chosen).group_by(subject).tuples()


def by(dimension: str, chosen: Filters) -> list[Share]:
    """The totals of each model, user, key, provider or group, the dearest first.

    A user in several groups counts in each of them, so the shares of groups may add up to more than the summary.
    """
    if dimension not in DIMENSIONS:
        raise Invalid(f"Usage cannot be shown by {dimension!r}", f"One of: {', '.join(DIMENSIONS)}")
    with translated_errors():
        rows = list(_by_query(dimension, chosen))
        names = _names(dimension, [row[0] for row in rows if row[0] is not None])
    shares = []
    for subject, last_at, requested, *sums in rows:
        name = names.get(subject) or (requested if dimension == "model" and subject is not None else None)
        shares.append(
            Share(id=subject, name=name or f"(no {dimension})", totals=_totals(sums), last_at=last_at)
        )
    return sorted(shares, key=lambda share: (-share.totals.cost_nanos, -share.totals.requests, share.name))


def _names(dimension: str, ids: Sequence[int]) -> dict[int, str]:
    if dimension == "key":
        return _key_names(ids)
    table, column = {
        "model": (CatalogModel, CatalogModel.public_id),
        "user": (User, User.name),
        "provider": (Provider, Provider.slug),
        "group": (Group, Group.name),
    }[dimension]
    return {
        row[0]: row[1]
        for part in _parts(ids)
        for row in table.select(table.id, column).where(table.id.in_(part)).tuples()
    }


def _key_names(ids: Sequence[int]) -> dict[int, str]:
    """'alice/ci', or 'alice/7' for a key without a name."""
    names = {}
    for part in _parts(ids):
        rows = Key.select(Key.id, Key.name, User.name).join(User).where(Key.id.in_(part)).tuples()
        names.update({key_id: f"{user}/{name or key_id}" for key_id, name, user in rows})
    return names


def _parts(ids: Sequence[int], size: int = 500) -> Iterator[Sequence[int]]:
    """Slices that stay below both databases' number of parameters."""
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


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
    query = query.switch(UsageRecord).join(
        Provider, JOIN.LEFT_OUTER, on=(Provider.id == UsageRecord.provider_id)
    )
    return _where(query, chosen)


def _view(row: dict[str, Any]) -> UsageView:
    usage = {str(meter): int(count) for meter, count in json.loads(row.pop("usage")).items()}
    flags = {name: bool(row.pop(name)) for name in ("stream", "estimated", "cached")}
    return UsageView(usage=usage, **flags, **row)


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
            raise NotFound(
                f"There is no usage record of request {request_id[:200]!r}", "See: gatewayctl usage log"
            )
        record = UsageRecord.get_by_id(view.id)
        charge = LedgerEntry.get_or_none(LedgerEntry.request_id == request_id, LedgerEntry.kind == "charge")
    return UsageDetail(
        view=view,
        terms=json.loads(record.terms),
        attempts=json.loads(record.attempts),
        ledger_entry_id=charge and int(charge.id),
    )


def count(chosen: Filters) -> int:
    """How many records there are: the length of an export."""
    with translated_errors():
        return int(_where(UsageRecord.select(fn.COUNT(UsageRecord.id)), chosen).scalar())


def _page_query(chosen: Filters, after: tuple[int, int]) -> Any:
    query = _view_query(chosen).where(Tuple(UsageRecord.at, UsageRecord.id) > after)
    return query.order_by(UsageRecord.at, UsageRecord.id).limit(EXPORT_PAGE)


def rows(chosen: Filters) -> Iterator[UsageView]:
    """Every record, the oldest first, a page at a time: no long read transaction holds up the daemon's checkpoints."""
    after = (-1, -1)
    while True:
        with translated_errors():
            page = [_view(row) for row in _page_query(chosen, after).dicts()]
        yield from page
        if len(page) < EXPORT_PAGE:
            return
        after = (page[-1].at, page[-1].id)
