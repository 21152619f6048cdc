"""What a call used and cost, and the one way its hold ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from daemon import log
from daemon.domain.catalog import Provider
from daemon.domain.pricing import Bill, Terms, price
from daemon.domain.usage import Usage
from daemon.gateway import Gateway
from daemon.relay.call import Attempt, Call, Plan
from db import holds, usage
from db.holds import Estimate, Settled
from db.usage import UsageRow


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


def usage_json(found: Usage) -> str:
    """The stored form of a usage: meters, and reasoning beside them."""
    meters: dict[str, Any] = {meter: count for meter, count in found.meters.items() if count}
    if found.reasoning:
        meters["reasoning"] = found.reasoning
    return json.dumps(meters, separators=(",", ":"))


async def estimated_usage(gateway: Gateway, call: Call, text: str) -> Usage:
    """Counted by us, because the upstream did not say (or said nonsense)."""
    if call.dialect == "openai_chat":
        prompt = await gateway.estimate_prompt(call.data)
    else:
        prompt = max(1, len(call.body) // 4)
    output = await gateway.estimate_text(text) if text else 0
    return Usage({"input": prompt, "output": output}, estimated=True)


def bill(plan: Plan, call: Call, found: Usage) -> Bill:
    """Price a usage. The request itself is a unit; an estimate never costs more than what was held."""
    rates = plan.terms.rates
    counted = {meter: count for meter, count in call.ask.extra.items() if meter in rates}
    if "request" in rates:
        counted["request"] = 1
    if counted:
        found = Usage({**counted, **found.meters}, found.reasoning, found.estimated)
    return price(found, plan.terms)


def row(call: Call, plan: Plan, result: Result, now: float) -> UsageRow:
    """The usage record of a call that was admitted, without its usage."""
    provider = result.provider.stored.id if result.provider else None
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
        provider_id=provider,
        served_model=result.served_model or plan.model.public_id,
        stream=call.ask.stream,
        latency_ms=int((now - call.started) * 1000),
        ttft_ms=result.ttft_ms,
        error_code=result.error_code,
        terms=plan.terms_json,
        attempts=attempts_json(result.attempts),
    )


def attempts_json(attempts: list[Attempt]) -> str:
    """Stored only when there is something to tell: one good attempt is what the record says anyway."""
    if len(attempts) == 1 and attempts[0].error is None:
        return "[]"
    return json.dumps([attempt.as_json() for attempt in attempts], separators=(",", ":"))


async def settle(gateway: Gateway, call: Call, plan: Plan, result: Result, found: Usage, now: float) -> Settled:
    """Charge what was used; durable when this returns."""
    cost = bill(plan, call, found)
    amount = cost.cost_nanos
    if found.estimated:
        amount = min(amount, plan.amount_nanos)
    base = row(call, plan, result, now)
    record = UsageRow(
        **{name: getattr(base, name) for name in _COPIED},
        estimated=found.estimated,
        cost_nanos=amount,
        upstream_cost_nanos=cost.upstream_cost_nanos,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        usage=usage_json(found),
    )
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
    return settled


_CHANGED = {"estimated", "cost_nanos", "upstream_cost_nanos", "input_tokens", "output_tokens", "usage"}
_COPIED = tuple(name for name in UsageRow.__slots__ if name not in _CHANGED)


def _settle_again(record: UsageRow) -> Settled:
    """After a lost connection: a hold that is closed now was closed by the first attempt."""
    settled = holds.settle(record)
    return settled if settled.closed else Settled(closed=True, charged_nanos=record.cost_nanos)


async def release(gateway: Gateway, call: Call, plan: Plan, result: Result, now: float) -> None:
    """Give the hold back: nothing was delivered, nothing is charged."""
    record = row(call, plan, result, now)
    await gateway.store.write(partial(holds.release, record), order=call.identity.user_id)
    gateway.metrics.released(record)


async def refused(gateway: Gateway, record: UsageRow) -> None:
    """Record a request that was refused before money was held."""
    await gateway.store.write(partial(usage.record, record), order=record.user_id)
    gateway.metrics.released(record)


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
            usage=usage_json(found),
        )

    return estimate
