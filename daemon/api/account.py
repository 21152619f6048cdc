"""GET /v1/key, /v1/credits, /v1/usage: what the caller's own key may do, has, and has spent."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response

from daemon.api.reply import caller_of, json_reply
from daemon.gateway import Gateway
from db import clock, counters
from db import fair_use as allowances
from db import identity as identities
from db.counters import Count
from db.fair_use import FairUse
from db.identity import Funds, Identity
from db.money import format_usd

NO_STORE = {"Cache-Control": "no-store"}


def _spent(count: Count) -> dict[str, Any]:
    return {"requests": count.requests, "tokens": count.tokens, "cost": format_usd(count.cost_nanos)}


def budget(funds: Funds, limit: int | None, period: str | None, now: int) -> tuple[dict[str, Any] | None, int | None]:
    """The key's budget in its current window, and what is left of it in nano-USD; None when it has none."""
    if limit is None:
        return None, None
    current = period is None or funds.budget_window_at >= clock.window_start(now, period)
    spent = funds.budget_spent_nanos if current else 0
    left = max(0, limit - spent - funds.budget_held_nanos)
    shown = {
        "limit": format_usd(limit),
        "period": period,
        "spent": format_usd(spent),
        "held": format_usd(funds.budget_held_nanos),
        "remaining": format_usd(left),
    }
    return shown, left


def make_blueprint(gateway: Gateway) -> Blueprint:
    """The routes, bound to a gateway."""
    blueprint = Blueprint("account", __name__)

    async def fair_use(identity: Identity, rule: FairUse, now: int) -> dict[str, Any]:
        state = await gateway.store.read(allowances.read, identity.user_id, rule, now, lock=False)
        funds = await gateway.store.read(identities.funds, identity.key_id)
        throttled = not state.remaining and funds.available_nanos <= 0 and state.slot_at > now
        return {
            "limit": rule.limit,
            "used_today": state.used,
            "remaining": state.remaining,
            "resets_at": clock.iso(state.resets_at),
            "throttle_s": rule.throttle_s,
            "throttled_until": clock.iso(state.slot_at) if throttled else None,
        }

    @blueprint.get("/v1/key")
    async def key() -> Response:
        identity = (await caller_of(gateway)).identity
        now = clock.now_ms()
        funds = await gateway.store.read(identities.funds, identity.key_id)
        today = await gateway.store.read(counters.of_day, "key", identity.key_id, now)
        limits, left = budget(funds, identity.budget_nanos, identity.budget_period, now)
        available = max(0, funds.available_nanos)
        shown = {
            "object": "key",
            "id": str(identity.key_id),
            "name": identity.key_name,
            "user": identity.user,
            "expires_at": clock.iso(identity.key_expires_at),
            "models": sorted(identity.models) if identity.models is not None else None,
            "limits": {
                "rpm": identity.rpm,
                "tpm": identity.tpm,
                "max_parallel": identity.max_parallel,
                "user_rpm": identity.user_rpm,
            },
            "budget": limits,
            "spend": format_usd(funds.key_spent_nanos),
            "remaining": format_usd(available if left is None else min(available, left)),
            "today": _spent(today),
        }
        return json_reply(shown, headers=NO_STORE)

    @blueprint.get("/v1/credits")
    async def credits() -> Response:
        identity = (await caller_of(gateway)).identity
        funds = await gateway.store.read(identities.funds, identity.key_id)
        shown = {
            "object": "credits",
            "user": identity.user,
            "balance": format_usd(funds.balance_nanos),
            "held": format_usd(funds.held_nanos),
            "available": format_usd(funds.available_nanos),
            "credit_limit": format_usd(funds.credit_limit_nanos),
            "currency": "USD",
        }
        return json_reply(shown, headers=NO_STORE)

    @blueprint.get("/v1/usage")
    async def usage() -> Response:
        identity = (await caller_of(gateway)).identity
        now = clock.now_ms()
        user = await gateway.store.read(counters.of_day, "user", identity.user_id, now)
        key = await gateway.store.read(counters.of_day, "key", identity.key_id, now)
        shown = {
            "object": "usage",
            "user": identity.user,
            "day": (clock.iso(clock.window_start(now, "day")) or "")[:10],
            "today": _spent(user),
            "key_today": _spent(key),
            "fair_use": None if identity.fair_use is None else await fair_use(identity, identity.fair_use, now),
        }
        return json_reply(shown, headers=NO_STORE)

    return blueprint
