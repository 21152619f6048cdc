"""The document: each route of the URL map with its line of the table, and the components that these name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from quart import Blueprint, Response, current_app

from daemon.api.openapi import bodies, errors, replies
from daemon.api.openapi.operations import NONE, OPERATIONS, OPTIONAL, Operation
from daemon.api.openapi.parts import COUNT, TEXT, USD, Schema, array, ref
from daemon.gateway import Gateway
from db import __version__

# Served in front of the URL map.
FRONT = tuple(("/v1/<provider:slug>/<path:endpoint>", method) for method in ("GET", "PUT", "PATCH", "DELETE"))
NAMES = {"slug": "provider", "name": "model", "endpoint": "endpoint"}  # a variable of a rule → how it is shown
PATH = {
    "provider": "The slug of a provider.",
    "model": "Any name of a model; `#` is written `%23`. It may hold slashes.",
    "endpoint": "The provider's own path below its base URL. It may hold slashes.",
}
DESCRIPTION = """\
Every path also answers under `/api`, `/ai`, `/api/v1` and `/ai/v1`, and with a doubled version (`/v1/v1/…`). Every request may
send `X-Request-Id`, every reply has it. OPTIONS is answered for every path, HEAD wherever GET is.
"""
LICENSE = {"name": "MIT", "identifier": "MIT"}
SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "As OpenAI's clients and newer Anthropic ones send the key.",
    },
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients send it."},
    "xGoogApiKey": {"type": "apiKey", "in": "header", "name": "x-goog-api-key", "description": "As Google's clients send it."},
}
TAGS = {
    "openai": "OpenAI's APIs", "anthropic": "Anthropic's API", "gemini": "Google's API", "models": "What is offered",
    "providers": "A provider's own endpoints", "account": "The calling key", "gateway": "The gateway itself",
}  # fmt: skip
LIMIT: Schema = COUNT | {"maximum": 1000}
PARAMETERS: dict[str, tuple[str, str, Schema]] = {
    "feature": ("query", "Only models with this feature; may be repeated.", array(TEXT)),
    "modality": ("query", "Only models that take or give this; may be repeated.", array(TEXT)),
    "type": ("query", "Only models of this type.", TEXT),
    "limit": ("query", "Anthropic's shape: models of a page.", LIMIT),
    "after_id": ("query", "Anthropic's shape: begin behind this id.", TEXT),
    "before_id": ("query", "Anthropic's shape: end before this id.", TEXT),
    "pageSize": ("query", "Gemini's shape: models of a page.", LIMIT),
    "pageToken": ("query", "Gemini's shape: `nextPageToken` of the page before.", TEXT),
    "alt": ("query", "`sse` for an event stream, else the stream is one JSON array.", TEXT),
    "anthropic-version": ("header", "A version of Anthropic's API. On lists of models it asks for Anthropic's shape.", TEXT),
    "anthropic-beta": ("header", "Betas, comma-separated; they reach providers of the same dialect.", TEXT),
    "x-goog-api-client": ("header", "On lists of models it asks for Gemini's shape.", TEXT),
}
REPLY_HEADERS: dict[str, tuple[str, Schema]] = {
    "X-Gateway-Model": ("The id of the model that served.", TEXT),
    "X-Gateway-Provider": ("The slug of the provider that served.", TEXT),
    "X-Gateway-Cost": ("What was charged; not on streams.", USD),
    "X-Gateway-Max-Tokens": ("The output limit, when the balance lowered it.", COUNT),
    "X-Gateway-Dropped": ("What a translation left out.", TEXT),
}
REQUEST_ID = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}
_SCHEMA = re.compile(r'"#/components/schemas/(\w+)"')
_VARIABLE = re.compile(r"<(?:[a-z]+:)?([a-z]+)>")


def document(rules: Iterable[tuple[str, str]], *, title: str, server: str) -> dict[str, Any]:
    """OpenAPI 3.1 for these (rule, method). `server`: the base URL, "/" for the one that the document came from.

    HEAD of a path that has GET is left out unless it has a line of its own; a route without a line is told by its path alone.
    """
    paths: dict[str, dict[str, Any]] = {}
    used: set[tuple[str, int]] = set()
    for rule, method in sorted({*rules, *FRONT}):
        known = OPERATIONS.get((method, rule))
        if method == "OPTIONS" or (method == "HEAD" and known is None):
            continue
        path = _VARIABLE.sub(lambda found: f"{{{NAMES.get(found[1], found[1])}}}", rule)
        shown = _operation(known) if known else {"responses": {"default": {"description": "Not described."}}}
        if known:
            used |= {(known.envelope, status) for status in known.errors}
        names = [NAMES.get(name, name) for name in _VARIABLE.findall(rule)]
        item = paths.setdefault(path, {"parameters": [_in_path(name) for name in names]} if names else {})
        item[method.lower()] = shown
    answers = errors.responses(used)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "description": DESCRIPTION, "license": LICENSE},
        "servers": [{"url": server}],
        "security": [{name: []} for name in SECURITY],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas([paths, answers]),
            "responses": answers,
            "parameters": {name: _parameter(name) for name in PARAMETERS},
            "headers": _headers(),
            "securitySchemes": SECURITY,
        },
    }  # fmt: skip


def _operation(known: Operation) -> dict[str, Any]:
    shown: dict[str, Any] = {"operationId": known.id, "tags": [known.tag], "summary": known.summary}
    if known.key == NONE:
        shown["security"] = []
    elif known.key == OPTIONAL:
        shown["security"] = [{}, *({name: []} for name in SECURITY)]
    if parameters := [*known.query, *known.headers]:
        shown["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in parameters]
    if known.bodies:
        shown["requestBody"] = {"required": True, "content": _content(known.bodies)}
    headers = dict(REQUEST_ID)
    if known.costs:
        headers |= {name: {"$ref": f"#/components/headers/{name}"} for name in REPLY_HEADERS}
    good: dict[str, Any] = {"description": known.summary, "headers": headers}
    if known.replies:
        good["content"] = _content(known.replies)
    shown["responses"] = {"200": good}
    for status in known.errors:
        shown["responses"][str(status)] = {"$ref": f"#/components/responses/{errors.name_of(known.envelope, status)}"}
    return shown


def _schemas(users: Any) -> dict[str, Schema]:
    """Those that are referred to, directly or by others."""
    every = {**bodies.SCHEMAS, **replies.SCHEMAS, **errors.SCHEMAS}
    found: dict[str, Schema] = {}
    looked_at = [users]
    while looked_at:
        for name in _SCHEMA.findall(json.dumps(looked_at.pop())):
            if name not in found:
                found[name] = every[name]
                looked_at.append(every[name])
    return {name: found[name] for name in sorted(found)}


def _content(types: Any) -> dict[str, Any]:
    return {kind: {"schema": ref(name)} if name else {} for kind, name in types.items()}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": PATH[name], "schema": TEXT}


def _parameter(name: str) -> dict[str, Any]:
    place, text, schema = PARAMETERS[name]
    return {"name": name, "in": place, "description": text, "schema": schema}


def _headers() -> dict[str, Any]:
    told = {"X-Request-Id": ("The id of the request, the client's own or a new one.", TEXT), **REPLY_HEADERS}
    return {name: {"description": text, "schema": schema} for name, (text, schema) in told.items()}


def make_blueprint(gateway: Gateway) -> Blueprint:
    """The route, bound to a gateway. The document does not change while a worker lives, so it is made once."""
    blueprint = Blueprint("openapi", __name__)
    made: list[bytes] = []

    @blueprint.get("/openapi.json")
    async def openapi() -> Response:
        if not made:
            rules = [(rule.rule, method) for rule in current_app.url_map.iter_rules() for method in rule.methods or ()]
            server = gateway.settings.public_base_url.rstrip("/") or "/"
            shown = document(rules, title=gateway.settings.service_name, server=server)
            made.append(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode())
        return Response(made[0], content_type="application/json")

    return blueprint
