"""GET /health, /api/status, /metrics, HEAD /, /api/hello: whether all works. Nothing here calls a provider."""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any

from quart import Blueprint, Response, request

from daemon.api.auth import presented_key
from daemon.api.models import base_url
from daemon.api.reply import json_reply, raw_headers
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from db import __version__, clock, versions
from db.errors import StoreError


def upstream_states(gateway: Gateway) -> list[dict[str, Any]]:
    """One entry a provider: its name and state, nothing that leads to it."""
    shown = []
    for provider in gateway.snapshot.catalog.providers.values():
        state = "unknown"
        if provider.stored.paused:
            state = "paused"
        elif not provider.usable:
            state = "no_keys"
        elif provider.stored.protocol == "demo":
            state = "up"
        seen = gateway.health.get(provider.stored.id)
        if state == "unknown" and seen is not None:
            state = "up" if seen.up else "down"
        shown.append(
            {
                "name": provider.stored.name,
                "status": state,
                "latency_ms": seen.latency_ms if seen else None,
                "checked_at": clock.iso(seen.at) if seen else None,
            }
        )
    return shown


def _without_redis(gateway: Gateway) -> bool:
    """Whether the database counts in the place of a Redis that is away."""
    return gateway.counters is not None and not gateway.counters.up


def make_blueprint(gateway: Gateway) -> Blueprint:
    """The routes, bound to a gateway."""
    blueprint = Blueprint("health", __name__)

    async def database_works() -> bool:
        try:
            await gateway.store.read(versions.catalog_version)
        except (StoreError, OSError):
            return False
        return True

    @blueprint.get("/health")
    async def health() -> Response:
        works = await database_works()
        shown = {
            "status": "unhealthy" if not works else "degraded" if _without_redis(gateway) else "healthy",
            "service": gateway.settings.service_name,
            "version": __version__,
        }
        return json_reply(shown, 200 if works else 503)

    @blueprint.get("/api/status")
    async def status() -> Response:
        works = True
        try:
            await gateway.snapshot.refresh()
        except StoreError:
            works = False
        now = clock.now_ms()
        base = base_url(gateway)
        upstreams = upstream_states(gateway)
        data = {
            "version": __version__,
            "start_time": gateway.started_at // 1000,
            "uptime_seconds": max(0, now - gateway.started_at) // 1000,
            "system_name": gateway.settings.service_name,
            "server_address": base,
            "docs_link": "",
            "status": "up" if works and not gateway.draining and not _without_redis(gateway) else "degraded",
            "upstreams": upstreams,
        }
        return json_reply({"success": works, "message": "", "data": data})

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        if not _may_read_metrics(gateway):
            raise ApiError.of("unknown_url", method="GET", path="/metrics")
        return Response(gateway.metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")

    @blueprint.route("/api/hello", methods=["GET", "HEAD"])  # Claude Code looks here whether somebody is there
    @blueprint.route("/", methods=["GET", "HEAD"])
    async def root() -> Response:
        return json_reply({"object": "gateway", "name": gateway.settings.service_name, "base_url": f"{base_url(gateway)}/v1"})

    return blueprint


_SIGNS_OF_A_PROXY = ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip", "via")


def _may_read_metrics(gateway: Gateway) -> bool:
    """By token when one is set, else only from this machine and not through a proxy."""
    token = gateway.settings.metrics_token
    if token:
        key = presented_key(raw_headers()) or b""
        return hmac.compare_digest(key, token.encode())
    if any(name in request.headers for name in _SIGNS_OF_A_PROXY):
        return False
    client = request.scope.get("client")
    try:
        return client is not None and ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False
