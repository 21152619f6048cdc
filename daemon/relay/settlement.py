"""What a call used and cost, and the one way its hold ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from daemon import log
from daemon.domain.catalog import Provider
from daemon.domain.errors import ApiError
from daemon.domain.limits import Headers, limit_headers, rate_limited
from daemon.domain.pricing import TOKEN_METERS, USUAL_TIERS, Bill, Terms, price
from daemon.domain.usage import Usage, meter_of, with_counted
from daemon.gateway import Gateway
from daemon.protocols.dialects import DIALECTS
from daemon.relay.call import Attempt, Call, Plan
from daemon.shared_counters import SharedCounters
from db import holds, usage
from db.errors import DatabaseUnavailable
from db.holds import Estimate, Settled
from db.identity import Identity
from db.usage import UsageRow

FIRST_PAUSE_S, LONGEST_PAUSE_S, MOST_REPEATS = 0.5, 5.0, 100_000
TOLD_TOGETHER = (TOKEN_METERS, frozenset({"second"}))  # a usage that has one of a group has them all
DELIVERED_METERS = frozenset({"image"})  # what a request asks for, and a broken reply may hold less of


@dataclass(slots=True)
class Result:
    """How a call went, filled in as it goes."""

    status: str = "ok"
    http_status: int = 200
    error_code: str | None = None
    provider: Provider | None = None
    served_model: str | None = None
    ttft_ms: int | None = None
    attempts: list[Attempt] = field(default_factory=list)


def usage_json(found: Usage, terms: Terms) -> str:
    """The stored form of a usage: meters, and beside them reasoning and a service tier that may have another price.

    Where a tier was asked for, the one that served is always kept: none at all is charged as the dearest it may have been.
    """
    counts = [f'"{meter}":{count}' for meter, count in found.meters.items() if count]
    if found.reasoning:
        counts.append(f'"reasoning":{found.reasoning}')
    if found.tier is not None and (terms.asked is not None or found.tier not in USUAL_TIERS):
        counts.append(f'"service_tier":{json.dumps(found.tier)}')
    return "{" + ",".join(counts) + "}"


def amounts_json(bill: Bill) -> str:
    """The stored form of a bill's lines: nano-USD by meter."""
    return "{" + ",".join([f'"{line.meter}":{line.amount_nanos}' for line in bill.lines]) + "}"


async def estimated_usage(gateway: Gateway, call: Call, plan: Plan, text: str, *, at_once: bool) -> Usage:
    """Counted by us, because the upstream did not say (or said nonsense). `at_once`: see `TokenCounter`."""
    estimate = DIALECTS[call.dialect].estimate
    if estimate is None:
        if TOKEN_METERS.isdisjoint(plan.terms.rates):
            return Usage({})  # priced by what the request itself fixes: nothing to estimate
        if DIALECTS[call.dialect].protocol is not None:
            prompt = await gateway.tokens.estimate_prompt(call.data, call.dialect, at_once=at_once)
        else:
            prompt = max(1, len(call.body) // 4)
        meters = {"input": prompt, "output": 0}
    else:
        counted = estimate(call.data, text, call.file_bytes).meters
        meters = {key: count for key, count in counted.items() if plan.terms.key(key) is not None}
        text = text if plan.terms.key("output") is not None else ""
        if not meters and not text:
            return Usage({})
    if text:
        meters["output"] = await gateway.tokens.estimate_text(text, at_once=at_once)
    return Usage(meters, estimated=True)


def untold(call: Call, plan: Plan, found: Usage) -> frozenset[str]:
    """The meters that have a price and that a reported usage says nothing of, though it should: the host left them out."""
    if DIALECTS[call.dialect].estimate is None:
        return frozenset()
    groups = [group for group in TOLD_TOGETHER if not group.isdisjoint(plan.terms.rates) and group.isdisjoint(found.meters)]
    return frozenset().union(*groups)


def completed(found: Usage, estimate: Usage, left_out: frozenset[str]) -> Usage:
    """A reported usage with what its host left out, as estimated."""
    more = {key: count for key, count in estimate.meters.items() if key in left_out}
    return replace(found, meters={**found.meters, **more}, estimated=True) if more else found


def billable(plan: Plan, call: Call, found: Usage, *, broken: bool = False) -> Usage:
    """What a usage is billed as: with what the request itself fixes, as far as it has a price. The request is a unit too.

    `broken`: the provider did not deliver all. Of what was asked for, only what came is billed then.
    """
    terms = plan.terms
    if not call.ask.extra and "request" not in terms.rates:
        return found
    fixed = {key: count for key, count in call.ask.extra.items() if not broken or meter_of(key) not in DELIVERED_METERS}
    counted = {"request": 1, **fixed}
    return with_counted(found, {key: count for key, count in counted.items() if terms.key(key) is not None})


def row(
    call: Call,
    plan: Plan,
    result: Result,
    now: float,
    *,
    used: Usage | None = None,
    cost_nanos: int = 0,
    bill: Bill | None = None,
) -> UsageRow:
    """The usage record of a call that was admitted; without a usage and its bill when nothing is charged."""
    return UsageRow(
        request_id=call.request_id,
        at=call.at,
        user_id=call.identity.user_id,
        key_id=call.identity.key_id,
        endpoint=call.endpoint,
        requested_model=call.ask.model,
        status=result.status,
        http_status=result.http_status,
        model_id=plan.model.id,
        provider_id=result.provider.stored.id if result.provider else None,
        served_model=result.served_model or plan.model.public_id,
        stream=call.ask.stream,
        estimated=used is not None and used.estimated,
        cost_nanos=cost_nanos,
        upstream_cost_nanos=bill.upstream_cost_nanos if bill else 0,
        input_tokens=used.input_tokens if used else 0,
        output_tokens=used.output_tokens if used else 0,
        latency_ms=int((now - call.started) * 1000),
        ttft_ms=result.ttft_ms,
        error_code=result.error_code,
        usage=usage_json(used, plan.terms) if used else "{}",
        terms=plan.terms_json,
        attempts=attempts_json(result.attempts),
        amounts=amounts_json(bill) if bill else "{}",
    )


def attempts_json(attempts: list[Attempt]) -> str:
    """Stored only when there is something to tell: one good attempt is what the record says anyway."""
    if len(attempts) == 1 and attempts[0].error is None:
        return "[]"
    return json.dumps([attempt.as_json() for attempt in attempts], separators=(",", ":"))


async def settle(gateway: Gateway, call: Call, plan: Plan, result: Result, found: Usage, now: float) -> Settled:
    """Charge what was used; durable when this returns. An estimate never costs more than what was held."""
    found = billable(plan, call, found, broken=result.status == "error")
    cost = price(found, plan.terms)
    amount = min(cost.cost_nanos, plan.amount_nanos) if found.estimated else cost.cost_nanos
    record = row(call, plan, result, now, used=found, cost_nanos=amount, bill=cost)
    settled = await gateway.store.write(
        partial(holds.settle, record),
        order=call.identity.user_id,
        repeat=partial(_settle_again, record),
    )
    if not settled.closed:
        log.warning("hold was closed by another", request_id=call.request_id)
    elif settled.absorbed_nanos:
        log.warning("cost absorbed", request_id=call.request_id, nanos=settled.absorbed_nanos)
    gateway.metrics.settled(record, settled)
    if gateway.counters is not None and settled.closed:
        _count(gateway.counters, plan, record, settled, result)
    return settled


def _count(counters: SharedCounters, plan: Plan, record: UsageRow, settled: Settled, result: Result) -> None:
    """Tell the shared counters what was used."""
    tokens = record.input_tokens + record.output_tokens
    if plan.reserved is not None and plan.reserved.limits.reserved_tokens:
        counters.correct(plan.reserved.limits, plan.reserved.window_at, tokens - plan.reserved.limits.reserved_tokens)
    for scope, subject in (("user", record.user_id), ("key", record.key_id)):
        counters.add(scope, subject, record.at, tokens=tokens, cost_nanos=settled.charged_nanos)
    if result.provider is not None:
        counters.add("provider", result.provider.stored.slug, record.at, tokens=tokens, cost_nanos=record.upstream_cost_nanos)


def _settle_again(record: UsageRow) -> Settled:
    """After a lost connection: a hold that is closed now was closed by the first attempt."""
    settled = holds.settle(record)
    return settled if settled.closed else Settled(closed=True, charged_nanos=record.cost_nanos)


async def release(gateway: Gateway, call: Call, plan: Plan, result: Result, now: float) -> None:
    """Give the hold back: nothing was delivered, nothing is charged. When the database is away: as soon as it is back."""
    try:
        await _release(gateway, call, plan, result, now)
    except DatabaseUnavailable as error:
        log.error("release delayed", request_id=call.request_id, text=error.message)
        release_later(gateway, call, plan, result, now)


async def _release(gateway: Gateway, call: Call, plan: Plan, result: Result, now: float) -> None:
    record = row(call, plan, result, now)
    await gateway.store.write(partial(holds.release, record), order=call.identity.user_id)
    gateway.metrics.released(record)
    if gateway.counters is not None and plan.reserved is not None:
        gateway.counters.correct(plan.reserved.limits, plan.reserved.window_at, -plan.reserved.limits.reserved_tokens)


def settle_later(gateway: Gateway, call: Call, plan: Plan, result: Result, found: Usage, now: float) -> None:
    """The database was away when something delivered was to be charged: try again until it is back."""
    gateway.tasks.spawn(_until_back(lambda: settle(gateway, call, plan, result, found, now)), name=f"settle {call.request_id}")


def release_later(gateway: Gateway, call: Call, plan: Plan, result: Result, now: float) -> None:
    """The database was away when a hold was to be given back: try again until it is back."""
    gateway.tasks.spawn(_until_back(lambda: _release(gateway, call, plan, result, now)), name=f"release {call.request_id}")


async def _until_back(work: Callable[[], Awaitable[object]]) -> None:
    # Not for ever: a process that ends with open holds is found dead, and its holds are closed by the next one.
    pause = FIRST_PAUSE_S
    for _ in range(MOST_REPEATS):
        await asyncio.sleep(pause)
        with suppress(DatabaseUnavailable):
            await work()
            return
        pause = min(2 * pause, LONGEST_PAUSE_S)


async def refused(gateway: Gateway, record: UsageRow) -> None:
    """Record a request that holds no money."""
    await gateway.store.write(partial(usage.record, record), order=record.user_id)
    gateway.metrics.released(record)


async def refuse(gateway: Gateway, record: UsageRow, error: ApiError, identity: Identity) -> tuple[ApiError, Headers]:
    """Record a refusal and count it as a request. The error to answer with (a limit comes before all else), and headers."""
    limits = identity.limits()
    if limits is None:
        await refused(gateway, record)
        return error, []
    standing = None if gateway.counters is None else await gateway.counters.take(limits)
    if standing is None:
        standing = await gateway.store.write(partial(holds.refuse, record, limits), order=record.user_id)
    else:
        if standing.refused is not None:
            record = replace(record, http_status=429, error_code="rate_limit_exceeded")
        await gateway.store.write(partial(usage.record, record), order=record.user_id)
    gateway.metrics.released(record)
    assert standing is not None
    headers = limit_headers(identity, standing)
    return (error if standing.refused is None else rate_limited(identity, standing)), headers


def estimator() -> Callable[[str, int, int], Estimate]:
    """How recovery prices a request whose process died: by its stored terms and watermark."""

    def estimate(terms_json: str, input_tokens: int, output_tokens: int) -> Estimate:
        terms = Terms.from_json(terms_json)
        found = Usage({"input": input_tokens, "output": output_tokens, "request": 1}, estimated=True)
        cost = price(found, terms)
        return Estimate(
            cost_nanos=cost.cost_nanos,
            upstream_cost_nanos=cost.upstream_cost_nanos,
            input_tokens=found.input_tokens,
            output_tokens=found.output_tokens,
            usage=usage_json(found, terms),
            amounts=amounts_json(cost),
        )

    return estimate
