"""Admit a call: cheap refusals by what is known, then the hold, whose transaction is the only authoritative check.

Knowledge that turns out to be old is loaded again and the decision is made again, so a change by an admin counts from the
very next request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from daemon.domain import admission as rules
from daemon.domain.access import check_identity
from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.domain.limits import fair_use_headers, limit_headers, rate_limited, throttled
from daemon.domain.pricing import TOKEN_METERS, affordable_output, ceiling
from daemon.gateway import Gateway
from daemon.protocols import dialects
from daemon.protocols.tiers import carried_tier
from daemon.relay.call import Call, Candidate, Denied, Plan
from daemon.relay.choice import Chooser, spoken_by
from daemon.relay.tally import Tally
from db import clock, holds
from db.holds import HoldRequest, Placed, Placement
from db.identity import Identity
from db.limits import Limit
from db.money import format_usd
from db.snapshot import StoredModel

MOST_TRIES = 5
NO_FALLBACK = frozenset({b"0", b"false", b"off", b"no", b"none"})  # values of X-Gateway-Fallback
# The refusals that another model may be asked after: nobody can serve it now, and nobody asks money for having tried.
UNSERVED = frozenset({
    "model_unavailable", "no_active_api_keys", "overloaded", "provider_paused", "upstream_error", "upstream_rate_limited",
    "upstream_timeout",
})  # fmt: skip
BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Held:
    """A placed hold: the call with the identity and request id it was placed by, the plan, and headers about limits."""

    call: Call
    plan: Plan
    headers: list[tuple[bytes, bytes]]


async def admit(gateway: Gateway, call: Call) -> Held:
    """Refuse (Denied), or place the hold. Returns with the hold durable."""
    tally = Tally(gateway)
    for _ in range(MOST_TRIES):
        try:
            plan = decide(gateway, call)
        except ApiError as error:
            call, fresh = await _fresh(gateway, call)
            if not fresh:
                continue  # what refused it was old: decide again
            tally.give_back(request=True)
            raise Denied(error, call.identity, _model_of(gateway, call)) from error
        outcome, plan = await _place(gateway, call, plan, tally)
        if tally.refused:
            call, fresh = await _fresh(gateway, call)
            if not fresh:
                tally = Tally(gateway)
                continue
        if outcome.outcome is Placement.PLACED:
            plan.reserved = tally.reserved
            return Held(call, plan, _told(call.identity, outcome))
        if outcome.outcome is Placement.DUPLICATE:
            call = replace(call, request_id=f"{call.request_id}.{gateway.new_suffix()}")
        elif outcome.outcome is Placement.STALE:
            call, _ = await _fresh(gateway, call)
        else:
            limited = outcome.outcome is Placement.RATE_LIMITED
            tally.give_back(request=limited)
            counted = limited or tally.counted
            told = _told(call.identity, outcome)
            raise Denied(_refusal(call, plan, outcome), call.identity, plan.model, counted=counted, headers=told)
    tally.give_back(request=True)
    raise Denied(ApiError.of("overloaded"), call.identity)


def _told(identity: Identity, outcome: Placed) -> list[tuple[bytes, bytes]]:
    """The headers about limits and fair use; none for who has neither."""
    headers = [] if outcome.standing is None else limit_headers(identity, outcome.standing)
    return headers if outcome.allowance is None else headers + fair_use_headers(outcome.allowance)


def decide(gateway: Gateway, call: Call) -> Plan:
    """Everything but the balance, by the catalogue in memory. When nobody can serve the model, the first fallback that may."""
    check_identity(call.identity, clock.now_ms())
    fallbacks = _fallbacks(gateway, call)
    try:
        return replace(_plan(gateway, call, call.ask), fallbacks=fallbacks)
    except ApiError as error:
        if error.code in UNSERVED:
            for plan in _stand_ins(gateway, call, fallbacks):
                return plan
        raise


def _fallbacks(gateway: Gateway, call: Call) -> tuple[str, ...]:
    """The models that may stand in for what was asked for; none when the caller named the provider or wants none."""
    resolved = gateway.snapshot.catalog.resolve(call.ask.model)
    if call.verbatim or resolved is None or resolved.provider_id is not None or not resolved.model.fallbacks:
        return ()
    wish = next((value for name, value in call.headers if name.lower() == b"x-gateway-fallback"), b"")
    return () if wish.strip().lower() in NO_FALLBACK else resolved.model.fallbacks


def _stand_ins(gateway: Gateway, call: Call, names: tuple[str, ...]) -> Iterator[Plan]:
    """A plan for each model that may serve the call in place of the one that was asked for. The caller must be allowed to use
    it, and it must be able to serve the endpoint."""
    for number, name in enumerate(names):
        with suppress(ApiError):
            plan = _plan(gateway, call, replace(call.ask, model=name))
            yield replace(plan, stands_in=True, fallbacks=names[number + 1 :])


async def stand_in(gateway: Gateway, call: Call, plan: Plan) -> Plan | None:
    """Nobody could serve the plan: the next model's, for which the hold now is; None when there is none."""
    await gateway.snapshot.refresh()
    for other in _stand_ins(gateway, call, plan.fallbacks):
        outcome, held = await _place(gateway, call, other, None)
        if outcome.outcome is Placement.PLACED:
            held.reserved = plan.reserved  # it counts as the request that it was
            return held
    return None


def _plan(gateway: Gateway, call: Call, asked: Ask) -> Plan:
    catalog, ask = gateway.snapshot.catalog, _as_translated(gateway, call, asked)
    provider = None
    if call.provider is not None:
        provider = catalog.provider_by_slug.get(call.provider)
        if provider is None:
            raise ApiError.of("unknown_provider", method="POST", path=call.endpoint, provider=call.provider)
    found = rules.admit(
        catalog,
        call.identity,
        ask,
        provider,
        endpoint=call.endpoint,
        model_types=call.model_types,
        protocols=call.protocols,
        default_output=gateway.settings.default_max_output,
        routes=gateway.routes,
    )
    terms, terms_json = catalog.terms(found.model, call.identity, ask.tier)
    return Plan(
        catalog_version=catalog.version,
        model=found.model,
        terms=terms,
        terms_json=terms_json,
        candidates=_with_passages(call, found),
        amount_nanos=ceiling(terms, found.input_bound, found.output_bound, ask.n, found.extra, ask.not_used),
        input_bound=found.input_bound,
        output_bound=found.output_bound * ask.n,
        extra=found.extra,
        lowered_output=None,
        input_estimate=max(1, min(found.input_bound, _about_input(call))),
        ask=ask,
        alone=found.alone,
    )


def _about_input(call: Call) -> int:
    """About how many prompt tokens it has: what recovery charges after a crash."""
    estimate = dialects.DIALECTS[call.dialect].estimate
    return len(call.body) // BYTES_PER_TOKEN if estimate is None else estimate(call.data, "", call.file_bytes).input_tokens


def _as_translated(gateway: Gateway, call: Call, ask: Ask) -> Ask:
    """The ask without what never reaches the provider: where no deployment speaks the dialect, the translation decides."""
    plain = not (ask.unbounded or ask.hosted or ask.stored) and ask.tier is None
    if plain or call.verbatim or dialects.DIALECTS[call.dialect].protocol is None:
        return ask
    resolved = gateway.snapshot.catalog.resolve(ask.model)
    if resolved is None:
        return ask
    providers = (gateway.snapshot.catalog.providers[found.provider_id].stored for found in resolved.model.deployments)
    if any(call.dialect in spoken_by(provider) for provider in providers):
        return ask
    return replace(ask, unbounded=(), hosted={}, stored=False, tier=carried_tier(call.data))


def _with_passages(call: Call, found: rules.Admitted) -> tuple[Candidate, ...]:
    """The candidates that can carry the call; the first one's refusal when none can."""
    chooser = Chooser(call, found.model, found.output_bound)
    usable: list[Candidate] = []
    refusal: ApiError | None = None
    for provider, deployment in found.candidates:
        try:
            passage = chooser.choose(provider.stored, deployment)
        except ApiError as error:
            refusal = refusal or error
        else:
            usable.append(Candidate(provider, deployment, passage))
    if not usable:
        assert refusal is not None
        raise refusal
    return tuple(usable)


async def _place(gateway: Gateway, call: Call, plan: Plan, tally: Tally | None) -> tuple[Placed, Plan]:
    """Ask for the hold; when funds or tokens are short, once more with a closer bound or a lower output limit.

    Without a `tally` the call has a hold, for another model.
    """
    outcome = await _ask(gateway, call, plan, tally)
    if outcome.outcome is Placement.RATE_LIMITED and outcome.standing is not None and outcome.standing.refused is Limit.TOKENS:
        closer = await _counted(gateway, call, plan)
        return (outcome, plan) if closer is None else (await _ask(gateway, call, closer, tally), closer)
    if outcome.outcome not in (Placement.INSUFFICIENT_BALANCE, Placement.KEY_BUDGET_EXCEEDED):
        return outcome, plan
    closer = await _closer(gateway, call, plan, _left(outcome))
    if closer is not None:
        outcome, plan = await _ask(gateway, call, closer, tally), closer
    if tally is not None and outcome.outcome is Placement.INSUFFICIENT_BALANCE and call.identity.fair_use is not None:
        outcome = await _ask(gateway, call, plan, tally, last_resort=True)
    return outcome, plan


async def _counted(gateway: Gateway, call: Call, plan: Plan) -> Plan | None:
    """The plan with the prompt counted, when that makes it smaller."""
    ask = plan.ask
    if ask.media_parts or ask.hosted or ask.stored or dialects.DIALECTS[call.dialect].protocol is None:
        return None
    bound = await gateway.tokens.prompt_bound(call.data, call.dialect)
    if bound >= plan.input_bound:
        return None
    return replace(
        plan,
        input_bound=bound,
        amount_nanos=ceiling(plan.terms, bound, plan.output_bound // ask.n, ask.n, plan.extra, ask.not_used),
    )


async def _ask(gateway: Gateway, call: Call, plan: Plan, tally: Tally | None, *, last_resort: bool = False) -> Placed:
    identity = call.identity
    period = identity.budget_period
    window = None
    if identity.budget_nanos is not None:
        window = clock.window_start(call.at, period) if period else 0
    limits = None
    if identity.limited and tally is not None:
        limits = identity.limits(_tokens_of(plan), 1)
        if gateway.counters is not None and limits is not None:
            limits = await tally.take(limits)
            if tally.refused:
                return Placed(Placement.RATE_LIMITED, standing=tally.standing)
    request = HoldRequest(
        request_id=call.request_id,
        user_id=identity.user_id,
        user_version=identity.user_version,
        key_id=identity.key_id,
        catalog_version=plan.catalog_version,
        model_id=plan.model.id,
        provider_id=plan.candidates[0].provider.stored.id,
        amount_nanos=plan.amount_nanos,
        input_estimate=plan.input_estimate,
        stream=call.ask.stream,
        requested_model=call.ask.model,
        endpoint=call.endpoint,
        terms=plan.terms_json,
        process_id=gateway.process_id,
        budget_window_at=window,
        limits=limits,
        fair_use=identity.fair_use,
        last_resort=last_resort,
    )
    if tally is None:
        return await gateway.store.write(partial(holds.change, request), order=identity.user_id)
    outcome = await gateway.store.write(
        partial(holds.place, request), order=identity.user_id, repeat=partial(holds.place, request, again=True)
    )
    if not tally.counted or tally.standing is None:
        return outcome
    standing, found = tally.standing, outcome.standing
    if found is not None:  # of parallel requests, which only the database counts
        standing = replace(standing, key=replace(standing.key, parallel=found.key.parallel), refused=found.refused)
    return replace(outcome, standing=standing)


def _tokens_of(plan: Plan) -> int:
    """What it counts against a limit of tokens: nothing when it is sold by the piece, the character or the second."""
    return 0 if TOKEN_METERS.isdisjoint(plan.terms.rates) else plan.input_bound + plan.output_bound


def _left(outcome: Placed) -> int:
    return outcome.available_nanos if outcome.outcome is Placement.INSUFFICIENT_BALANCE else outcome.budget_left_nanos


async def _closer(gateway: Gateway, call: Call, plan: Plan, left: int) -> Plan | None:
    """The funds are short of the cheap bound: count the prompt, then lower the output limit if the client set none."""
    ask = plan.ask
    if left <= 0 or dialects.DIALECTS[call.dialect].protocol is None:
        return None
    input_bound = plan.input_bound
    if not (ask.media_parts or ask.hosted or ask.stored):
        input_bound = min(input_bound, await gateway.tokens.prompt_bound(call.data, call.dialect))
    limit = ask.output_limit
    output = limit if limit is not None else _default_output(gateway, plan.model)
    closer = _held_for(plan, ask, input_bound, output + ask.output_extra)
    if closer.amount_nanos <= left:
        return closer
    if limit is not None or call.verbatim or ask.media_parts:
        return None
    affordable = affordable_output(plan.terms, input_bound, ask.n, left, plan.extra, ask.not_used) - ask.output_extra
    if affordable < 1:
        return None
    lowered = min(affordable, output)
    return replace(_held_for(plan, ask, input_bound, lowered + ask.output_extra), lowered_output=lowered)


def _held_for(plan: Plan, ask: Ask, input_bound: int, output_bound: int) -> Plan:
    """The plan with a hold for so many tokens of prompt, and of each answer."""
    amount = ceiling(plan.terms, input_bound, output_bound, ask.n, plan.extra, ask.not_used)
    return replace(plan, amount_nanos=amount, input_bound=input_bound, output_bound=output_bound * ask.n)


def _default_output(gateway: Gateway, model: StoredModel) -> int:
    default = gateway.settings.default_max_output
    return min(model.max_output or default, default, model.context_length or default)


async def _fresh(gateway: Gateway, call: Call) -> tuple[Call, bool]:
    """The call with the newest identity; False when that or the catalogue had changed."""
    changed = await gateway.snapshot.refresh()
    identity = await gateway.snapshot.look_up(call.public_id)
    if identity is None or identity.digest != call.identity.digest:
        raise Denied(ApiError.of("invalid_api_key"), call.identity)
    if identity.user_version != call.identity.user_version:
        changed = True
    return replace(call, identity=identity), not changed


def _model_of(gateway: Gateway, call: Call) -> StoredModel | None:
    found = gateway.snapshot.catalog.resolve(call.ask.model)
    return found.model if found else None


def _refusal(call: Call, plan: Plan, outcome: Placed) -> ApiError:
    if outcome.outcome is Placement.RATE_LIMITED:
        assert outcome.standing is not None
        return rate_limited(call.identity, outcome.standing, _tokens_of(plan))
    if outcome.outcome is Placement.THROTTLED:
        assert outcome.allowance is not None
        return throttled(outcome.allowance)
    return _short_of_funds(call, plan, outcome)


def _short_of_funds(call: Call, plan: Plan, outcome: Placed) -> ApiError:
    identity: Identity = call.identity
    if outcome.outcome is Placement.KEY_BUDGET_EXCEEDED:
        code, scope, left, held = "key_budget_exceeded", "this API key", outcome.budget_left_nanos, outcome.budget_held_nanos
        balance = left
    else:
        code, scope = "insufficient_balance", f"user {identity.user}"
        left, held, balance = outcome.available_nanos, outcome.held_nanos, outcome.balance_nanos
    wait = 1 if held > 0 and left + held >= plan.amount_nanos else None  # other requests of theirs will give some back
    return ApiError.of(
        code,
        scope=scope,
        balance=format_usd(balance),
        available=format_usd(left),
        needed=format_usd(plan.amount_nanos),
        retry_after_s=wait,
    )
