"""GET /v1/models, /v1/models/<id>, /v1/<provider>/models, /v1/provider: what is offered, to everybody or to a key's owner."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from quart import Blueprint, Response, request

from daemon.api.auth import Caller
from daemon.api.billable import UNIFIED
from daemon.api.listing import ENTRIES, names, page, visible
from daemon.api.reply import asked_shape, audience, json_reply
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from db import __version__
from db.snapshot import StoredModel

VARY = "Authorization, X-Api-Key, X-Goog-Api-Key, X-Goog-Api-Client, Anthropic-Version"
MOST_ON_THE_LOOP = 50  # models; a longer list is made on a thread, as nobody else should wait for it
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
CAPABILITIES = {"tools": "tools", "json_mode": "json_mode", "structured_outputs": "json_mode", "streaming": "streaming"}
TYPE_CAPABILITIES = {"chat": "chat", "embedding": "embeddings", "image": "images", "audio": "audio", "rerank": "rerank"}
PATH_CAPABILITIES = {"/v1/responses": "responses", "/v1/messages": "messages"}
# Served whatever the models are.
ALWAYS = ("/v1/models", "/v1beta/models", "/v1/provider", "/v1/key", "/v1/credits", "/v1/usage")


def _headers(caller: Caller | None) -> dict[str, str]:
    headers = {"Vary": VARY}
    if caller is not None:
        headers["Cache-Control"] = "no-store"
    return headers


def make_blueprint(gateway: Gateway) -> Blueprint:
    """The routes, bound to a gateway."""
    blueprint = Blueprint("models", __name__)

    def listing(models: list[StoredModel], caller: Caller | None) -> Response:
        catalog, shape = gateway.snapshot.catalog, asked_shape()
        hash_ids = gateway.settings.list_hash_ids
        found = [
            (model, name) for model in models if _wanted(model) for name in names(catalog, model, shape, hash_ids=hash_ids)
        ]
        shown = page(shape, found, request.args.to_dict(), lambda one: ENTRIES[shape](catalog, *one, caller))
        return json_reply(shown, headers=_headers(caller))

    async def listed(models: list[StoredModel], caller: Caller | None) -> Response:
        if len(models) <= MOST_ON_THE_LOOP:
            return listing(models, caller)
        return await asyncio.to_thread(listing, models, caller)

    def one(name: str, caller: Caller | None, slug: str | None) -> Response:
        catalog = gateway.snapshot.catalog
        provider = catalog.provider_by_slug.get(slug) if slug else None
        found = catalog.for_provider(provider, name) if provider else catalog.resolve(name)
        if found is None or found.model not in visible(catalog, caller):
            error = ApiError.of("model_not_found", model=name, param="model")
            if name.lower() in catalog.provider_names:
                error.message += " If the id is of the form Provider#Model, encode `#` as `%23` in a URL."
            raise error
        return json_reply(ENTRIES[asked_shape()](catalog, found.model, name, caller), headers=_headers(caller))

    @blueprint.get("/v1/models")
    @blueprint.get("/v1beta/models")
    async def list_models() -> Response:
        caller = await audience(gateway)
        return await listed(visible(gateway.snapshot.catalog, caller), caller)

    @blueprint.get("/v1/models/<path:name>")
    @blueprint.get("/v1beta/models/<path:name>")
    async def get_model(name: str) -> Response:
        return one(name, await audience(gateway), None)

    @blueprint.get("/v1/<slug>/models")
    @blueprint.get("/v1/<slug>/v1beta/models")
    async def list_provider_models(slug: str) -> Response:
        caller = await audience(gateway)
        catalog = gateway.snapshot.catalog
        provider = catalog.provider_by_slug.get(slug)
        if provider is None:
            raise ApiError.of("unknown_provider", method="GET", path=request.path, provider=slug)
        served = [
            model
            for model in visible(catalog, caller)
            if any(deployment.provider_id == provider.stored.id for deployment in model.deployments)
        ]
        return await listed(served, caller)

    @blueprint.get("/v1/<slug>/models/<path:name>")
    @blueprint.get("/v1/<slug>/v1beta/models/<path:name>")
    async def get_provider_model(slug: str, name: str) -> Response:
        caller = await audience(gateway)
        if slug not in gateway.snapshot.catalog.provider_by_slug:
            raise ApiError.of("unknown_provider", method="GET", path=request.path, provider=slug)
        return one(name, caller, slug)

    @blueprint.get("/v1/provider")
    async def provider_information() -> Response:
        await gateway.snapshot.refresh()
        return json_reply(describe(gateway, base_url(gateway)))

    return blueprint


def _wanted(model: StoredModel) -> bool:
    """The filters of the query: ?feature=tools&modality=image&type=chat."""
    args = request.args
    if any(feature not in model.features for feature in args.getlist("feature")):
        return False
    if any(m not in model.input_modalities + model.output_modalities for m in args.getlist("modality")):
        return False
    return "type" not in args or args["type"] == model.type


def base_url(gateway: Gateway) -> str:
    """The URL by which clients reach this gateway: as configured, else as this client did (a trusted proxy says how)."""
    configured = gateway.settings.public_base_url.rstrip("/")
    if configured:
        return configured
    scheme, host = request.scheme, request.host
    peer = request.scope.get("client")
    if peer is not None and peer[0] in gateway.settings.trusted_proxies:
        scheme = request.headers.get("X-Forwarded-Proto", scheme)
        host = request.headers.get("X-Forwarded-Host", host)
    if scheme not in ("http", "https") or not _HOST.fullmatch(host):
        return ""
    return f"{scheme}://{host}"


def describe(gateway: Gateway, base: str) -> dict[str, Any]:
    """What the gateway as a whole offers, computed from the models that are enabled and public."""
    models = visible(gateway.snapshot.catalog, None)
    capabilities = {TYPE_CAPABILITIES[model.type] for model in models if model.type in TYPE_CAPABILITIES}
    capabilities |= {CAPABILITIES[f] for model in models for f in model.features if f in CAPABILITIES}
    types = {model.type for model in models}
    served = [path for path, endpoint in UNIFIED.items() if not types.isdisjoint(endpoint.model_types)]
    capabilities |= {PATH_CAPABILITIES[path] for path in served if path in PATH_CAPABILITIES}
    return {
        "object": "provider",
        "id": gateway.settings.service_name,
        "name": gateway.settings.service_name,
        "description": "One base URL and one key for every model.",
        "version": __version__,
        "base_url": f"{base}/v1",
        "endpoints": [*served, *ALWAYS],
        "capabilities": sorted(capabilities),
        "modalities": {
            "input": sorted({m for model in models for m in model.input_modalities}),
            "output": sorted({m for model in models for m in model.output_modalities}),
        },
        "model_count": len(models),
        "docs_url": None,
        "pricing_url": None,
        "status_url": f"{base}/api/status",
        "auth": {"type": "bearer"},
        "rate_limits": {
            "requests_per_minute": None,
            "headers": [],
        },
    }
