"""Explain a request without sending it, by the daemon's own decisions: caller, model, price, hold, admitted or why not.

Imports the daemon: import this module inside the function that uses it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from daemon.domain.access import check_identity
from daemon.domain.admission import CONVERSE, Ask, admit, counted_bound
from daemon.domain.catalog import Catalog, Provider
from daemon.domain.errors import CATALOGUE, ApiError
from daemon.domain.limits import rate_limited, throttled
from daemon.domain.pricing import Terms, affordable_output, ceiling
from daemon.snapshot import build_catalog
from db import clock, deployments, fair_use, identity, keys, limits, snapshot
from db.identity import Funds, Identity
from db.keys import KeyView
from db.meters import format_price
from db.money import format_multiplier, format_usd
from db.secrets import MasterKeys
from db.settings import Settings
from db.snapshot import StoredDeployment, StoredModel
from gatewayctl.usage_rows import price_unit

TEXT_ONLY = frozenset({"audio_input", "audio_output", "image_input", "image_output"})  # meters that text does not use
UNSERVED = frozenset({"model_unavailable", "no_active_api_keys", "provider_paused"})  # then a fallback is asked
BYTES_PER_TOKEN = 4  # of a prompt, for asking in tokens; what is held is bounded by the bytes of the body
ENDPOINTS = {
    "chat": "/v1/chat/completions",
    "embedding": "/v1/embeddings",
    "image": "/v1/images/generations",
    "audio": "/v1/audio/speech",
    "rerank": "/v1/rerank",
    "moderation": "/v1/moderations",
}


@dataclass(frozen=True, slots=True)
class Question:
    """What the request would be. `key` is an id, a prefix or a whole key."""

    key: str
    model: str
    prompt_tokens: int = 1000
    max_tokens: int | None = None
    n: int = 1
    stream: bool = False


@dataclass(frozen=True, slots=True)
class _Hold:
    amount_nanos: int
    input_bound: int
    output_bound: int
    lowered_output: int | None = None


def explain(question: Question, settings: Settings, master: MasterKeys) -> dict[str, Any]:
    """One document; `admitted` and `refusal` are the outcome. Raises NotFound for an unknown key."""
    key = keys.show(question.key)
    caller = identity.find_by_key_id(key.id)
    assert caller is not None  # the key was just shown, and every key has a secret
    catalog = build_catalog(snapshot.load(), master)
    funds = identity.funds(key.id)
    found = catalog.resolve(question.model)
    model = found.model if found else None
    refusal, hold, chosen = _decide(catalog, caller, _ask(question, model), settings, funds)
    fallbacks, stand_in = [], None
    if found is not None and found.provider_id is None:
        for name in found.model.fallbacks:
            other = replace(_ask(question, catalog.models_by_id[name]), model=name)
            decided = _decide(catalog, caller, other, settings, funds)
            fallbacks.append({"model": name, "refusal": None if decided[0] is None else decided[0].code})
            if refusal is not None and refusal.code in UNSERVED and decided[0] is None:
                (refusal, hold, _), stand_in = decided, name
    refusal = _limited(caller, hold) or refusal
    return {
        "admitted": refusal is None,
        "refusal": None if refusal is None else _refusal(refusal),
        "served_by": stand_in if stand_in is not None or model is None or refusal is not None else model.public_id,
        "key": _key(key),
        "user": _user(caller, catalog),
        "model": None if model is None else _model(question.model, model, caller, catalog),
        "deployments": [] if model is None or found is None else _deployments(catalog, model, found.provider_id, chosen),
        "fallbacks": fallbacks,
        "prices": [] if model is None else _prices(catalog.terms(_served(catalog, model, stand_in), caller)[0]),
        "hold": None if hold is None else _hold(hold),
        "limits": _limits(caller),
        "funds": _funds(caller, funds),
    }


def _served(catalog: Catalog, model: StoredModel, stand_in: str | None) -> StoredModel:
    return model if stand_in is None else catalog.models_by_id[stand_in]


def _limited(caller: Identity, hold: _Hold | None) -> ApiError | None:
    """The 429 of a limit that is used up now, as the database counts them; it comes before other refusals."""
    tokens = 0 if hold is None else hold.input_bound + hold.output_bound
    asked = caller.limits(tokens, 1 if hold is not None else 0)
    if asked is None:
        return None
    standing = limits.look(asked)
    return None if standing.refused is None else rate_limited(caller, standing, tokens)


def _limits(caller: Identity) -> dict[str, Any]:
    """The limits, what is used of them now, and the allowance."""
    shown: dict[str, Any] = {
        "rpm": caller.rpm,
        "tpm": caller.tpm,
        "max_parallel": caller.max_parallel,
        "user_rpm": caller.user_rpm,
    }
    if (asked := caller.limits()) is not None:
        key = limits.look(asked).key
        shown |= {"requests": key.requests, "tokens": key.tokens, "parallel": key.parallel, "resets_at": clock.iso(key.ends_at)}
    if caller.fair_use is not None:
        state = fair_use.read(caller.user_id, caller.fair_use, clock.now_ms(), lock=False)
        shown["fair_use"] = {"limit": caller.fair_use.limit, "used_today": state.used, "remaining": state.remaining}
    return shown


def _ask(question: Question, model: StoredModel | None) -> Ask:
    """The request as the daemon would read it from a body."""
    size = question.prompt_tokens * BYTES_PER_TOKEN
    return Ask(
        model=question.model,
        stream=question.stream,
        body_bytes=size,
        input_bound=size,
        output_limit=question.max_tokens if model is None or model.type == "chat" else 0,
        output_extra=0,
        n=question.n,
        media_parts=0,
        features=frozenset(),
        unbounded=(),
        not_used=TEXT_ONLY,
    )


def _decide(
    catalog: Catalog, caller: Identity, ask: Ask, settings: Settings, funds: Funds
) -> tuple[ApiError | None, _Hold | None, tuple[StoredDeployment, ...]]:
    """(refusal, hold, deployments in the order in which they would be tried), in the order of the daemon's own checks."""
    resolved = catalog.resolve(ask.model)
    kind = resolved.model.type if resolved else "chat"
    try:
        check_identity(caller, clock.now_ms())
        found = admit(
            catalog,
            caller,
            ask,
            None,
            endpoint=ENDPOINTS[kind],
            model_types=frozenset({kind}),
            protocols=CONVERSE if kind == "chat" else None,
            default_output=settings.default_max_output,
        )
    except ApiError as error:
        return error, None, ()
    deployments = tuple(deployment for _, deployment in found.candidates)
    terms, _ = catalog.terms(found.model, caller)
    amount = ceiling(terms, found.input_bound, found.output_bound, ask.n, not_used=ask.not_used)
    hold = _Hold(amount, found.input_bound, found.output_bound)
    state = None
    if caller.fair_use is not None:
        state = fair_use.read(caller.user_id, caller.fair_use, clock.now_ms(), lock=False)
        if state.remaining:
            return None, replace(hold, amount_nanos=0), deployments  # free by the allowance
    left, code = _left(caller, funds)
    if hold.amount_nanos > left:
        closer = _closer(hold, ask, terms, left)
        if closer is None and state is not None and code == "insufficient_balance":
            refusal = throttled(state) if clock.now_ms() < state.slot_at else None
            return refusal, replace(hold, amount_nanos=0), deployments
        if closer is None:
            return _short(code, caller, funds, left, hold.amount_nanos), hold, deployments
        hold = closer
    return None, hold, deployments


def _left(caller: Identity, funds: Funds) -> tuple[int, str]:
    """What may be held: the smaller of what is available and what the key's budget leaves."""
    budget = _budget_left(caller, funds)
    if budget is not None and budget < funds.available_nanos:
        return budget, "key_budget_exceeded"
    return funds.available_nanos, "insufficient_balance"


def _budget_left(caller: Identity, funds: Funds) -> int | None:
    if caller.budget_nanos is None:
        return None
    now = clock.now_ms()
    window = clock.window_start(now, caller.budget_period) if caller.budget_period else 0
    spent = funds.budget_spent_nanos if funds.budget_window_at >= window else 0
    return max(0, caller.budget_nanos - spent - funds.budget_held_nanos)


def _closer(hold: _Hold, ask: Ask, terms: Terms, left: int) -> _Hold | None:
    """As the daemon does when funds are short: count the prompt, then lower the output that nobody asked for."""
    tokens = ask.body_bytes // BYTES_PER_TOKEN
    bound = min(hold.input_bound, counted_bound(tokens))
    amount = ceiling(terms, bound, hold.output_bound, ask.n, not_used=ask.not_used)
    if amount <= left:
        return replace(hold, amount_nanos=amount, input_bound=bound)
    if ask.output_limit is not None or left <= 0:
        return None
    output = min(hold.output_bound, affordable_output(terms, bound, ask.n, left, not_used=ask.not_used))
    if output < 1:
        return None
    return _Hold(ceiling(terms, bound, output, ask.n, not_used=ask.not_used), bound, output, lowered_output=output)


def _short(code: str, caller: Identity, funds: Funds, left: int, needed: int) -> ApiError:
    figures: dict[str, Any] = {"available": format_usd(left), "needed": format_usd(needed)}
    if code == "key_budget_exceeded":
        return ApiError.of(code, scope="this API key", balance=format_usd(left), **figures)
    return ApiError.of(code, scope=f"user {caller.user}", balance=format_usd(funds.balance_nanos), **figures)


def _refusal(error: ApiError) -> dict[str, Any]:
    spec = CATALOGUE[error.code]
    return {
        "http_status": error.http_status,
        "code": error.code,
        "message": error.message,
        "cause": spec.cause,
        "remedy": spec.remedy,
    }


def _key(view: KeyView) -> dict[str, Any]:
    return {
        "id": str(view.id),
        "prefix": view.prefix,
        "name": view.name,
        "status": view.status,
        "expires_at": clock.iso(view.expires_at),
        "models": None if view.models is None else list(view.models),
    }


def _user(caller: Identity, catalog: Catalog) -> dict[str, Any]:
    groups = sorted(catalog.group_names[group] for group in caller.groups if group in catalog.group_names)
    return {"name": caller.user, "status": caller.user_status, "groups": groups}


def _model(asked: str, model: StoredModel, caller: Identity, catalog: Catalog) -> dict[str, Any]:
    how = "id" if asked == model.public_id else "alias" if asked in model.aliases else "Provider#Model"
    return {
        "asked": asked,
        "id": model.public_id,
        "matched_by": how,
        "type": model.type,
        "enabled": model.enabled,
        "granted_by": sorted(catalog.group_names[group] for group in model.groups & caller.groups),
        "on_allow_list": caller.models is None or model.public_id in caller.models,
        "context_length": model.context_length,
        "max_output": model.max_output,
    }


def _deployments(
    catalog: Catalog, model: StoredModel, provider_id: int | None, chosen: tuple[StoredDeployment, ...]
) -> list[dict[str, Any]]:
    """In the order in which they would be tried; those that would not be, last and with the reason."""
    order = {deployment.id: place for place, deployment in enumerate(chosen)}
    left_out = deployments.left_out()
    rows = []
    for deployment in sorted(model.deployments, key=lambda one: (order.get(one.id, len(order)), one.priority, one.id)):
        provider = catalog.providers[deployment.provider_id]
        asked_for = provider_id is None or provider_id == deployment.provider_id
        state, why = _state(provider, left_out.get(deployment.id))
        rows.append(
            {
                "provider": provider.stored.slug,
                "upstream": deployment.upstream_name,
                "priority": deployment.priority,
                "weight": deployment.weight,
                "state": state if asked_for else "not asked for",
                "why": why if asked_for else None,
                "try": order[deployment.id] + 1 if deployment.id in order else None,
            }
        )
    return rows


def _state(provider: Provider, left_out: tuple[int, str] | None) -> tuple[str, str | None]:
    """(state, why) of a deployment, as the database knows it: a worker may leave it out that another one asks."""
    if provider.stored.paused:
        return "paused", provider.stored.paused_reason
    benched = f"{len(provider.benched)} benched" if provider.benched else None
    if not provider.usable:
        return "no active credential", benched
    if left_out is not None:
        since, reason = left_out
        return "failing", f"{reason}, left out since {clock.iso(since)}; one request tries it every 30 s"
    return "ready", None if benched is None else f"{benched} of its credentials"


def _prices(terms: Terms) -> list[dict[str, Any]]:
    rows = []
    for meter, rate in terms.ordered():
        effective = Decimal(format_price(meter, rate.price_nanos)) * Decimal(rate.multiplier).scaleb(-18)
        rows.append(
            {
                "meter": meter,
                "unit": price_unit(meter),
                "price": format_price(meter, rate.price_nanos),
                "user": format_multiplier(rate.user_ppm),
                "group": format_multiplier(rate.group_ppm),
                "model": format_multiplier(rate.model_ppm),
                "effective": format(effective.normalize(), "f"),
            }
        )
    return rows


def _hold(hold: _Hold) -> dict[str, Any]:
    return {
        "amount": format_usd(hold.amount_nanos),
        "input_tokens": hold.input_bound,
        "output_tokens": hold.output_bound,
        "lowered_max_tokens": hold.lowered_output,
    }


def _funds(caller: Identity, funds: Funds) -> dict[str, Any]:
    left = _budget_left(caller, funds)
    return {
        "balance": format_usd(funds.balance_nanos),
        "held": format_usd(funds.held_nanos),
        "credit_limit": format_usd(funds.credit_limit_nanos),
        "available": format_usd(funds.available_nanos),
        "key_budget_left": None if left is None else format_usd(left),
        "currency": "USD",
    }
