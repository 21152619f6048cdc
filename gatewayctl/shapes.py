"""What the database layer returns, as the JSON documents that scripts rely on: money in USD text, ISO time, ids as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from db.clock import iso
from db.meters import format_price, place
from db.money import format_multiplier, format_usd

if TYPE_CHECKING:
    from db.catalog import ModelView
    from db.credentials import CredentialView
    from db.groups import GroupView
    from db.keys import IssuedKey, KeyView
    from db.limit_report import Used
    from db.multipliers import MultiplierView
    from db.providers import ProviderView
    from db.users import FairUse, UserView


def usd(nanos: int | None) -> str | None:
    """nano-USD → '4.99'; None stays None."""
    return None if nanos is None else format_usd(nanos)


def factors(multipliers: dict[str, int]) -> dict[str, str]:
    """Multipliers of single meters (not '*') as text."""
    return {meter: format_multiplier(ppm) for meter, ppm in multipliers.items() if meter != "*"}


def fair_use(fair: FairUse) -> dict[str, Any]:
    """An allowance and what is used of it; `granted_by` is the group that gives it."""
    return {
        "limit": fair.limit,
        "used_today": fair.used_today,
        "throttled_until": iso(fair.throttled_until_at),
        "throttle_s": fair.throttle_s,
        "granted_by": fair.granted_by,
    }


def limits(used: Used) -> dict[str, Any]:
    """A row of `limits show`."""
    return {
        "scope": used.scope,
        "id": str(used.id),
        "user": used.user,
        "name": used.name,
        "rpm": used.rpm,
        "tpm": used.tpm,
        "max_parallel": used.max_parallel,
        "requests": used.window.requests,
        "tokens": used.window.tokens,
        "parallel": used.window.parallel,
        "resets_at": iso(used.window.ends_at),
        "today": {"requests": used.today.requests, "tokens": used.today.tokens, "cost": format_usd(used.today.cost_nanos)},
        "fair_use": None if used.fair_use is None or used.fair_use.limit is None else fair_use(used.fair_use),
    }


def user(view: UserView) -> dict[str, Any]:
    """`users show`."""
    shape: dict[str, Any] = {
        "id": str(view.id),
        "name": view.name,
        "email": view.email,
        "status": view.status,
        "groups": list(view.groups),
        "multiplier": format_multiplier(view.multiplier_ppm),
        "balance": format_usd(view.balance_nanos),
        "held": format_usd(view.held_nanos),
        "available": format_usd(view.available_nanos),
        "credit_limit": format_usd(view.credit_limit_nanos),
        "rpm": view.rpm,
        "fair_use": {name: fair_use(view.fair_use)[name] for name in ("limit", "used_today", "throttled_until")},
        "created_at": iso(view.created_at),
    }
    if own := factors(view.multipliers):
        shape["multipliers"] = own
    return shape


def group(view: GroupView) -> dict[str, Any]:
    """`groups show`."""
    shape: dict[str, Any] = {
        "id": str(view.id),
        "name": view.name,
        "default": view.is_default,
        "multiplier": format_multiplier(view.multiplier_ppm),
        "users": list(view.users),
        "models": list(view.models),
        "fair_use": {"limit": view.fair_use_limit, "throttle_s": view.fair_use_throttle_s},
        "created_at": iso(view.created_at),
    }
    if own := factors(view.multipliers):
        shape["multipliers"] = own
    return shape


def key(view: KeyView) -> dict[str, Any]:
    """`keys list` and `show`: everything but a secret."""
    return {
        "id": str(view.id),
        "user": view.user,
        "name": view.name,
        "prefix": view.prefix,
        "status": view.status,
        "created_at": iso(view.created_at),
        "secret_created_at": iso(view.secret_at),
        "expires_at": iso(view.expires_at),
        "last_used_at": iso(view.last_used_at),
        "models": None if view.models is None else list(view.models),
        "rpm": view.rpm,
        "tpm": view.tpm,
        "max_parallel": view.max_parallel,
        "budget": usd(view.budget_nanos),
        "budget_period": view.budget_period,
        "spend": format_usd(view.spent_nanos),
        "metadata": view.metadata,
    }


def issued_key(issued: IssuedKey) -> dict[str, Any]:
    """`keys create` and `rotate`: the only place that shows a secret."""
    shape = key(issued.view)
    for name in ("status", "last_used_at", "spend", "secret_created_at"):
        del shape[name]
    return {"id": shape.pop("id"), "user": shape.pop("user"), "name": shape.pop("name"), "key": issued.text, **shape}


def provider(view: ProviderView) -> dict[str, Any]:
    """`providers show`."""
    return {
        "id": str(view.id),
        "slug": view.slug,
        "name": view.name,
        "protocol": view.protocol,
        "status": view.status,
        "paused_at": iso(view.paused_at),
        "paused_reason": view.paused_reason,
        "base_url": view.base_url or None,
        "no_auth": view.no_auth,
        "auth_header": view.auth_header,
        "auth_prefix": view.auth_prefix,
        "connect_timeout_ms": view.connect_timeout_ms,
        "first_byte_timeout_ms": view.first_byte_timeout_ms,
        "read_timeout_ms": view.read_timeout_ms,
        "total_timeout_ms": view.total_timeout_ms,
        "max_connections": view.max_connections,
        "on_disconnect": view.on_disconnect,
        "include_usage": view.include_usage,
        "daily_alert": usd(view.daily_alert_nanos),
        "daily_stop": usd(view.daily_stop_nanos),
        "allow_endpoints": list(view.allow_endpoints),
        "chat_api": view.chat_api,
        "rotation": view.rotation,
        "on_no_answer": view.on_no_answer,
        "credentials": view.credentials,
        "models": list(view.models),
        "created_at": iso(view.created_at),
    }


def credential(view: CredentialView) -> dict[str, Any]:
    """`credentials list`: masked."""
    return {
        "id": str(view.id),
        "provider": view.provider,
        "name": view.name,
        "status": view.status,
        "weight": view.weight,
        "secret": view.hint,
        "last_error": view.last_error,
        "last_error_at": iso(view.last_error_at),
        "max_parallel": view.max_parallel,
        "benched_at": iso(view.benched_at),
        "next_try_at": iso(view.probe_at),
        "created_at": iso(view.created_at),
    }


def model(view: ModelView) -> dict[str, Any]:
    """`models show`. Prices as people write them: USD per million tokens, per image, per second, …"""
    first = view.deployments[0] if view.deployments else None
    shape: dict[str, Any] = {
        "id": view.public_id,
        "type": view.type,
        "enabled": view.enabled,
        "private": view.private,
        "display_name": view.display_name,
        "description": view.description,
        "provider": first.provider if first else None,
        "upstream": first.upstream if first else None,
        "deployments": [
            {
                "provider": item.provider,
                "upstream": item.upstream,
                "priority": item.priority,
                "weight": item.weight,
                "enabled": item.enabled,
                "broken_since": iso(item.open_since_at),
                "broken_why": item.open_reason,
            }
            for item in view.deployments
        ],
        "routing": view.routing,
        "fallbacks": list(view.fallbacks),
        "prices": {key: format_price(key, view.prices[key].nanos) for key in sorted(view.prices, key=place)},
        "price_sources": sorted({price.source for price in view.prices.values()}),
        "price_dates": sorted({price.source_date for price in view.prices.values() if price.source_date}),
        "multiplier": format_multiplier(view.multiplier_ppm),
        "context_length": view.context_length,
        "max_output": view.max_output,
        "media_tokens": view.media_tokens,
        "features": list(view.features),
        "input_modalities": list(view.input_modalities),
        "output_modalities": list(view.output_modalities),
        "aliases": list(view.aliases),
        "groups": list(view.groups),
        "created_at": iso(view.created_at),
    }
    if view.service_tiers:
        shape["service_tiers"] = {tier: format_multiplier(ppm) for tier, ppm in view.service_tiers.items()}
    if view.hosted_tools:
        shape["hosted_tools"] = dict(view.hosted_tools)
    if own := factors(view.multipliers):
        shape["multipliers"] = own
    return shape


def multiplier(view: MultiplierView) -> dict[str, Any]:
    """`multipliers list`."""
    return {
        "scope": view.scope,
        "subject": view.subject,
        "meter": view.meter,
        "multiplier": format_multiplier(view.ppm),
    }
