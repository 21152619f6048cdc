"""Money set aside for a request: place, mark as delivered, then settle or release, each in one transaction.

A hold is open, then once settled (charged), released (nothing charged) or expired (its process died before anything was
delivered). One conditional UPDATE takes it and its row count decides; closing it has `WHERE state = 'open'`, so the second
closer changes nothing. The statements are SQL text because they run on every request: Peewee's query builder would cost
twenty times as much. tests/db/test_holds.py checks them against the tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from db import clock, counters, fair_use, limits, usage
from db.engine import for_update, sql, transaction
from db.fair_use import Allowance, FairUse
from db.limits import Limits, Standing
from db.models import Hold, database
from db.money import MAX_NANOS
from db.names import lock_user
from db.usage import UsageRow

_TAKE = (
    "UPDATE users SET held_nanos = held_nanos + ? WHERE id = ? AND version = ? AND status = 'active' "
    "AND (? = 0 OR balance_nanos + credit_limit_nanos - held_nanos >= ?) "
    "AND (SELECT version FROM catalog_state WHERE id = 1) = ?"
)
_GIVE_BACK = "UPDATE users SET held_nanos = held_nanos - ? WHERE id = ?"
_NEW_WINDOW = "UPDATE keys SET budget_window_at = ?, budget_spent_nanos = 0 WHERE id = ? AND budget_window_at < ?"
_TAKE_BUDGET = (
    "UPDATE keys SET budget_held_nanos = budget_held_nanos + ? "
    "WHERE id = ? AND budget_spent_nanos + budget_held_nanos + ? <= budget_nanos"
)
_INSERT = (
    "INSERT INTO holds (request_id, user_id, key_id, model_id, provider_id, state, amount_nanos, budgeted, "
    "input_estimate, delivered, stream, placed_at, process_id, ticket, requested_model, endpoint, terms, "
    "limit_window_at, limit_tokens, limit_parallel, fair_use, fair_use_before_at) "
    "VALUES (?, ?, ?, ?, ?, 'open', ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (request_id) DO NOTHING"
)
_DELIVERED = "UPDATE holds SET delivered = ? WHERE request_id = ? AND state = 'open'"
_CLOSE = (
    "UPDATE holds SET state = ?, closed_at = ? WHERE request_id = ? AND state = 'open' "
    "RETURNING user_id, key_id, amount_nanos, budgeted, placed_at, limit_window_at, limit_tokens, limit_parallel, "
    "fair_use, fair_use_before_at"
)
_CHARGE = "UPDATE users SET held_nanos = held_nanos - ?, balance_nanos = balance_nanos - ? WHERE id = ? RETURNING balance_nanos"
_POST = (
    "INSERT INTO ledger_entries (user_id, kind, amount_nanos, balance_after_nanos, at, request_id) "
    "VALUES (?, 'charge', ?, ?, ?, ?)"
)
_KEY_USED = (
    "UPDATE keys SET spent_nanos = spent_nanos + ?, last_used_at = ?, "
    "budget_held_nanos = budget_held_nanos - ?, budget_spent_nanos = budget_spent_nanos + ? WHERE id = ?"
)


_tickets = itertools.count(1)


class HoldState(StrEnum):
    """OPEN, then once SETTLED, RELEASED or EXPIRED."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(slots=True)  # not frozen: that would cost microseconds on every request; nobody changes one
class HoldRequest:
    """What a hold is asked for. Versions are those of the knowledge by which the request was admitted.

    `limits`: to be counted with it. `fair_use`: the owner's allowance; `last_resort`: a throttled slot may be taken, because
    the amount cannot be lowered any more.
    """

    request_id: str
    user_id: int
    user_version: int
    key_id: int
    catalog_version: int
    model_id: int
    provider_id: int
    amount_nanos: int
    input_estimate: int
    stream: bool
    requested_model: str
    endpoint: str
    terms: str
    process_id: int
    budget_window_at: int | None = None  # start of the key's budget window, None without a budget
    limits: Limits | None = None
    fair_use: FairUse | None = None
    last_resort: bool = False
    ticket: int = field(default_factory=_tickets.__next__)  # tells this request from others of its id in the process


class Placement(StrEnum):
    """What became of a HoldRequest."""

    PLACED = "placed"
    STALE = "stale"
    DUPLICATE = "duplicate"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    KEY_BUDGET_EXCEEDED = "key_budget_exceeded"
    RATE_LIMITED = "rate_limited"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Placed:
    """The outcome, with the figures that a refusal names (nano-USD), and what is used of limits and allowance."""

    outcome: Placement
    balance_nanos: int = 0
    held_nanos: int = 0
    available_nanos: int = 0
    budget_nanos: int = 0
    budget_left_nanos: int = 0
    budget_held_nanos: int = 0
    standing: Standing | None = None
    allowance: Allowance | None = None


_PLACED = Placed(Placement.PLACED)


@transaction
def place(request: HoldRequest, *, again: bool = False) -> Placed:
    """Set the amount aside, or say why not. `again` repeats an attempt whose outcome was lost with the connection."""
    amount = request.amount_nanos
    if not 0 <= amount <= MAX_NANOS:
        raise ValueError(f"a hold of {amount} nano-USD is out of range")
    if again and _placed_before(request):
        return _standing_now(request)
    now = clock.now_ms()
    allowance: Allowance | None = None
    kind = before_at = 0
    if request.fair_use is not None:
        allowance = fair_use.read(request.user_id, request.fair_use, now)
        before_at = allowance.last_at
        if allowance.remaining:
            kind, amount = fair_use.FREE, 0
    if not _take(request, amount):
        refused = _why_not(request, allowance)
        if refused.outcome is not Placement.INSUFFICIENT_BALANCE or allowance is None:
            return refused
        if refused.available_nanos > 0 and not request.last_resort:
            return refused  # it may be affordable with a closer bound
        if now < allowance.slot_at:
            return replace(refused, outcome=Placement.THROTTLED)
        kind, amount = fair_use.SLOT, 0
        if not _take(request, amount):
            return _why_not(request, allowance)
    standing: Standing | None = None
    if request.limits is not None:
        standing = limits.take(request.limits)
        if standing.refused is not None:
            database.execute_sql(sql(_GIVE_BACK), (amount, request.user_id))
            return Placed(Placement.RATE_LIMITED, standing=standing, allowance=allowance)
    window = request.budget_window_at if kind == 0 else None  # what is free needs no budget
    if window is not None:
        database.execute_sql(sql(_NEW_WINDOW), (window, request.key_id, window))
        if database.execute_sql(sql(_TAKE_BUDGET), (amount, request.key_id, amount)).rowcount != 1:
            _untake(request, amount)
            return replace(_over_budget(request.key_id), allowance=allowance)
    if not _insert(request, amount, now, int(window is not None), standing, kind, before_at):
        _untake(request, amount)
        if window is not None:
            database.execute_sql(sql(_KEY_USED.replace("last_used_at = ?, ", "")), (0, amount, 0, request.key_id))
        return Placed(Placement.DUPLICATE)
    if allowance is not None:
        allowance = allowance.taken(kind)
        fair_use.take(request.user_id, allowance)
    elif standing is None:
        return _PLACED
    return Placed(Placement.PLACED, standing=standing, allowance=allowance)


_OPEN = "SELECT amount_nanos, budgeted, fair_use FROM holds WHERE request_id = ? AND process_id = ? AND state = 'open'"
_CHANGE = (
    "UPDATE holds SET amount_nanos = ?, model_id = ?, provider_id = ?, input_estimate = ?, terms = ? "
    "WHERE request_id = ? AND state = 'open'"
)


@transaction
def change(request: HoldRequest) -> Placed:
    """Let an open hold be for another model, at its terms: raised or lowered to the amount, or left as it is and told why not.

    The funds that a refusal names include what the hold has. What is free by an allowance stays free. STALE also when the hold
    is not open any more. May be repeated.
    """
    found = database.execute_sql(sql(_OPEN + for_update()), (request.request_id, request.process_id)).fetchone()
    if found is None:
        return Placed(Placement.STALE)
    before, budgeted, free = found
    amount = 0 if free else request.amount_nanos
    more = amount - before
    needed = max(more, 0)
    versions = (request.user_version, needed, needed, request.catalog_version)
    if database.execute_sql(sql(_TAKE), (more, request.user_id, *versions)).rowcount != 1:
        refused = _why_not(request, None)
        return replace(refused, available_nanos=refused.available_nanos + before)
    if budgeted and database.execute_sql(sql(_TAKE_BUDGET), (more, request.key_id, more)).rowcount != 1:
        database.execute_sql(sql(_GIVE_BACK), (more, request.user_id))
        refused = _over_budget(request.key_id)
        return replace(refused, budget_left_nanos=refused.budget_left_nanos + before)
    values = (amount, request.model_id, request.provider_id, request.input_estimate, request.terms, request.request_id)
    database.execute_sql(sql(_CHANGE), values)
    return _PLACED


def _take(request: HoldRequest, amount: int) -> bool:
    """Set the amount aside, if it is available and what the request was admitted by is no old knowledge."""
    values = (amount, request.user_id, request.user_version, amount, amount, request.catalog_version)
    return bool(database.execute_sql(sql(_TAKE), values).rowcount == 1)


def _untake(request: HoldRequest, amount: int) -> None:
    database.execute_sql(sql(_GIVE_BACK), (amount, request.user_id))
    if request.limits is not None:
        limits.untake(request.limits)


def _insert(
    request: HoldRequest, amount: int, now: int, budgeted: int, standing: Standing | None, kind: int, before_at: int
) -> bool:
    """False: the request id is taken."""
    window_at, tokens, running = None, 0, 0
    if standing is not None and request.limits is not None:
        window_at, tokens = standing.key.window_at, request.limits.reserved_tokens
        running = request.limits.parallel if request.limits.max_parallel is not None else 0
    done = database.execute_sql(
        sql(_INSERT),
        (
            request.request_id, request.user_id, request.key_id, request.model_id, request.provider_id, amount,
            budgeted, request.input_estimate, int(request.stream), now, request.process_id, request.ticket,
            request.requested_model, request.endpoint, request.terms, window_at, tokens, running, kind, before_at,
        ),
    )  # fmt: skip
    return bool(done.rowcount == 1)


def _standing_now(request: HoldRequest) -> Placed:
    """PLACED, with what is used now: the outcome of the first attempt was lost."""
    standing = limits.look(request.limits) if request.limits is not None else None
    allowance = None
    if request.fair_use is not None:
        allowance = fair_use.read(request.user_id, request.fair_use, clock.now_ms())
    return Placed(Placement.PLACED, standing=standing, allowance=allowance)


def _placed_before(request: HoldRequest) -> bool:
    """Whether the attempt whose outcome was lost was committed. Its commit, if it is still under way, holds the user's row."""
    lock_user(request.user_id)
    row = database.execute_sql(
        sql("SELECT process_id, ticket, state FROM holds WHERE request_id = ?"), (request.request_id,)
    ).fetchone()
    return row is not None and tuple(row) == (request.process_id, request.ticket, HoldState.OPEN)


def _why_not(request: HoldRequest, allowance: Allowance | None) -> Placed:
    user = database.execute_sql(
        sql("SELECT version, status, balance_nanos, held_nanos, credit_limit_nanos FROM users WHERE id = ?"),
        (request.user_id,),
    ).fetchone()
    [version] = database.execute_sql("SELECT version FROM catalog_state WHERE id = 1").fetchone()
    if user is None or user[0] != request.user_version or user[1] != "active" or version != request.catalog_version:
        return Placed(Placement.STALE)
    _, _, balance, held, credit = user
    return Placed(Placement.INSUFFICIENT_BALANCE, balance, held, balance + credit - held, allowance=allowance)


def _over_budget(key_id: int) -> Placed:
    budget, spent, held = database.execute_sql(
        sql("SELECT budget_nanos, budget_spent_nanos, budget_held_nanos FROM keys WHERE id = ?"), (key_id,)
    ).fetchone()
    if budget is None:
        return Placed(Placement.STALE)
    return Placed(
        Placement.KEY_BUDGET_EXCEEDED,
        budget_nanos=budget,
        budget_left_nanos=max(0, budget - spent - held),
        budget_held_nanos=held,
    )


@transaction
def mark_delivered(request_id: str, delivered: int) -> bool:
    """Raise the watermark (about the tokens delivered, at least 1). False: the hold is no longer open."""
    return bool(database.execute_sql(sql(_DELIVERED), (delivered, request_id)).rowcount == 1)


@dataclass(frozen=True, slots=True)
class Settled:
    """How a request was closed. `closed` is False when somebody closed it before: then nothing was changed."""

    closed: bool
    charged_nanos: int = 0
    absorbed_nanos: int = 0
    balance_nanos: int = 0


@transaction
def settle(row: UsageRow) -> Settled:
    """Close the hold and charge `row.cost_nanos`: usage record, ledger entry, balance, counters, in one transaction.

    The charge is at most the hold plus what is available; the rest stands on the usage record as absorbed.
    """
    cost = row.cost_nanos
    if not 0 <= cost <= MAX_NANOS:
        raise ValueError(f"a cost of {cost} nano-USD is out of range")
    closed = _close(row.request_id, HoldState.SETTLED)
    if closed is None:
        return Settled(closed=False)
    user_id, key_id, amount = closed.user_id, closed.key_id, closed.amount_nanos
    if closed.fair_use:
        charged = absorbed = 0
    else:
        charged = cost if cost <= amount else _affordable(user_id, cost, amount)
        absorbed = cost - charged
    [balance] = database.execute_sql(sql(_CHARGE), (amount, charged, user_id)).fetchone()
    database.execute_sql(sql(_POST), (user_id, -charged, balance, clock.now_ms(), row.request_id))
    returned, spent = (amount, charged) if closed.budgeted else (0, 0)
    database.execute_sql(sql(_KEY_USED), (charged, row.at, returned, spent, key_id))
    if closed.limit_window_at is not None:
        _correct(closed, row.input_tokens + row.output_tokens)
    usage.insert(row, charged_nanos=charged, absorbed_nanos=absorbed)
    _count(row, user_id, key_id, charged)
    return Settled(closed=True, charged_nanos=charged, absorbed_nanos=absorbed, balance_nanos=balance)


@transaction
def release(row: UsageRow, state: HoldState = HoldState.RELEASED) -> bool:
    """Close the hold without a charge and write the usage record. False: it was closed before.

    What it took of the allowance comes back, and the tokens that were reserved; it counted as a request all the same.
    """
    closed = _close(row.request_id, state)
    if closed is None:
        return False
    user_id, key_id, amount = closed.user_id, closed.key_id, closed.amount_nanos
    database.execute_sql(sql(_GIVE_BACK), (amount, user_id))
    database.execute_sql(sql(_KEY_USED), (0, row.at, amount if closed.budgeted else 0, 0, key_id))
    if closed.limit_window_at is not None:
        _correct(closed, 0)
    if closed.fair_use:
        fair_use.give_back(user_id, closed.fair_use, closed.placed_at, closed.fair_use_before_at)
    usage.insert(replace(row, cost_nanos=0, upstream_cost_nanos=0), charged_nanos=0, absorbed_nanos=0)
    return True


class _Closed(NamedTuple):
    """What a hold that was closed just now had taken."""

    user_id: int
    key_id: int
    amount_nanos: int
    budgeted: int
    placed_at: int
    limit_window_at: int | None
    limit_tokens: int
    limit_parallel: int
    fair_use: int
    fair_use_before_at: int


def _close(request_id: str, state: HoldState) -> _Closed | None:
    row = database.execute_sql(sql(_CLOSE), (state.value, clock.now_ms(), request_id)).fetchone()
    return None if row is None else _Closed(*row)


def _correct(closed: _Closed, tokens: int) -> None:
    """The window gets what was used for what was reserved. A later window than the hold's is not concerned."""
    assert closed.limit_window_at is not None
    more = tokens - closed.limit_tokens if closed.limit_tokens else 0
    limits.correct(closed.key_id, closed.limit_window_at, more, closed.limit_parallel)


@transaction
def refuse(row: UsageRow, asked: Limits | None) -> Standing | None:
    """Record a request that was refused before any money was held; it counts as one of `asked`, when that is given.

    When a limit is used up, that is what the record says: limits come before everything else.
    """
    standing = None
    if asked is not None:
        lock_user(asked.user_id)
        standing = limits.take(asked)
        if standing.refused is not None:
            row = replace(row, status="refused", http_status=429, error_code="rate_limit_exceeded")
    usage.record(row)
    return standing


def _affordable(user_id: int, cost: int, amount: int) -> int:
    balance, held, credit = database.execute_sql(
        sql("SELECT balance_nanos, held_nanos, credit_limit_nanos FROM users WHERE id = ?" + for_update()),
        (user_id,),
    ).fetchone()
    return int(min(cost, amount + max(0, balance + credit - held)))


def _count(row: UsageRow, user_id: int, key_id: int, charged: int) -> None:
    tokens = row.input_tokens + row.output_tokens
    counters.add("user", user_id, row.at, requests=1, tokens=tokens, cost_nanos=charged)
    counters.add("key", key_id, row.at, requests=1, tokens=tokens, cost_nanos=charged)
    if row.provider_id is not None:
        counters.add("provider", row.provider_id, row.at, requests=1, tokens=tokens, cost_nanos=row.upstream_cost_nanos)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an unfinished request is charged: costs in nano-USD, `usage` and `amounts` as JSON texts."""

    cost_nanos: int
    upstream_cost_nanos: int
    input_tokens: int
    output_tokens: int
    usage: str
    amounts: str = "{}"


@dataclass(frozen=True, slots=True)
class Recovered:
    """Request ids whose holds were closed for a dead process."""

    charged: tuple[str, ...]
    expired: tuple[str, ...]


Estimator = Callable[[str, int, int], Estimate]  # terms (JSON), input tokens, delivered output tokens


@transaction
def recover(process_id: int, estimate: Estimator, *, limit: int = 500) -> Recovered:
    """Close up to `limit` open holds of a process that is known to be dead.

    Something was delivered: charged by the watermark, flagged as estimated, and never more than was held. Nothing was:
    expired, nothing is charged.
    """
    columns = (
        Hold.request_id, Hold.user_id, Hold.key_id, Hold.model_id, Hold.provider_id, Hold.input_estimate,
        Hold.delivered, Hold.stream, Hold.placed_at, Hold.requested_model, Hold.endpoint, Hold.terms, Hold.amount_nanos,
    )  # fmt: skip
    query = Hold.select(*columns).where((Hold.process_id == process_id) & (Hold.state == HoldState.OPEN.value))
    charged: list[str] = []
    expired: list[str] = []
    for found in query.order_by(Hold.user_id, Hold.request_id).limit(limit).tuples():
        row, delivered, amount = _row_of_lost(found)
        if delivered > 0:
            guess = estimate(row.terms, found[5], delivered)
            row = replace(
                row,
                estimated=True,
                cost_nanos=min(guess.cost_nanos, amount),
                upstream_cost_nanos=guess.upstream_cost_nanos,
                input_tokens=guess.input_tokens,
                output_tokens=guess.output_tokens,
                usage=guess.usage,
                amounts=guess.amounts,
            )
            if settle(row).closed:
                charged.append(row.request_id)
        elif release(row, HoldState.EXPIRED):
            expired.append(row.request_id)
    return Recovered(tuple(charged), tuple(expired))


def _row_of_lost(found: tuple[Any, ...]) -> tuple[UsageRow, int, int]:
    (
        request_id,
        user_id,
        key_id,
        model_id,
        provider_id,
        _,
        delivered,
        stream,
        placed_at,
        model,
        endpoint,
        terms,
        amount,
    ) = found
    row = UsageRow(
        request_id=request_id,
        at=placed_at,
        user_id=user_id,
        key_id=key_id,
        endpoint=endpoint,
        requested_model=model,
        status="error",
        http_status=200 if delivered else 500,
        model_id=model_id,
        provider_id=provider_id,
        stream=bool(stream),
        error_code="gateway_restarted",
        terms=terms,
    )
    return row, delivered, amount


def open_holds(process_ids: list[int] | None = None) -> list[tuple[str, int]]:
    """(request id, process id) of open holds, of the given processes or of all."""
    query = Hold.select(Hold.request_id, Hold.process_id).where(Hold.state == HoldState.OPEN.value)
    if process_ids is not None:
        query = query.where(Hold.process_id.in_(process_ids))
    return [(row[0], row[1]) for row in query.tuples()]
