"""Aggregates over the usage records: totals, latency, time lines, shares of a user, key, model, provider, …

They read only the small columns that stand first in a row, and reach it by an index on the time (`at`), alone
or after a user or key; never the JSON columns. Amounts are nano-USD, instants milliseconds since the epoch,
UTC; every window is half open: since ≤ at < until. Single requests are in db.request_log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import JOIN, SQL, fn

from db import keys
from db.clock import DAY_MS, iso
from db.engine import translated_errors
from db.errors import Invalid
from db.models import CatalogModel, Group, Key, Membership, Provider, UsageRecord, User
from db.models.usage import USAGE_STATUSES
from db.names import model_row, provider_row, user_row

HOUR_MS = 3_600_000
STEPS_MS = {"hour": HOUR_MS, "day": DAY_MS}
MAX_BUCKETS = 10_000
STATUSES = USAGE_STATUSES
DIMENSIONS = ("model", "user", "key", "provider", "group")


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
        return Filters(
            since=since,
            until=until,
            user_id=None if user is None else int(user_row(user).id),
            key_id=None if key is None else keys.show(key).id,
            model_id=None if model is None else int(model_row(model).id),
            provider_id=None if provider is None else int(provider_row(provider).id),
            status=status,
        )


def where(query: Any, chosen: Filters) -> Any:
    """A query over UsageRecord, narrowed to what `chosen` selects."""
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
        fn.COUNT(UsageRecord.id).filter(UsageRecord.status == status) for status in ("error", "refused", "client_disconnected")
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
    return where(UsageRecord.select(*_sums()), chosen).tuples()


def summary(chosen: Filters) -> Totals:
    """The totals of everything that `chosen` selects."""
    with translated_errors():
        return _totals(next(iter(_summary_query(chosen))))


def _latency_query(chosen: Filters) -> Any:
    counted = UsageRecord.select(UsageRecord.latency_ms, fn.COUNT(UsageRecord.id))
    good = where(counted, chosen).where(UsageRecord.status == "ok", UsageRecord.latency_ms.is_null(False))
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
    return where(UsageRecord.select(start, *_sums()), chosen).group_by(SQL("bucket")).tuples()


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
    subject = Membership.group if dimension == "group" else getattr(UsageRecord, f"{dimension}_id")
    # `+ 0`: grouping by a bare user or key would tempt SQLite to walk that index from end to end, for its order.
    subject = (subject + 0).alias("subject")
    newest = (fn.MAX(UsageRecord.at), fn.MAX(UsageRecord.requested_model))
    query = UsageRecord.select(subject, *newest, *_sums())
    if dimension == "group":
        query = query.join(Membership, JOIN.LEFT_OUTER, on=(Membership.user == UsageRecord.user_id))
    return where(query, chosen).group_by(SQL("subject")).tuples()


def by(dimension: str, chosen: Filters) -> list[Share]:
    """The totals of each model, user, key, provider or group, the dearest first.

    A user in several groups counts in each of them, so the shares of groups may add up to more than the
    summary.
    """
    if dimension not in DIMENSIONS:
        raise Invalid(f"Usage cannot be shown by {dimension!r}", f"One of: {', '.join(DIMENSIONS)}")
    with translated_errors():
        rows = list(_by_query(dimension, chosen))
        names = _names(dimension, [row[0] for row in rows if row[0] is not None])
    shares = []
    for subject, last_at, requested, *sums in rows:
        name = names.get(subject)
        if name is None and subject is not None:  # deleted since
            name = requested if dimension == "model" else f"({dimension} {subject}, deleted)"
        shares.append(Share(subject, name or f"(no {dimension})", _totals(sums), last_at))
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
    found: dict[int, str] = {}
    for part in _parts(ids):
        found.update(table.select(table.id, column).where(table.id.in_(part)).tuples())
    return found


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
