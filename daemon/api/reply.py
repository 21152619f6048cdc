"""Quart replies: JSON from plain values, errors in their envelope, and the caller of a request."""

from __future__ import annotations

import json
from typing import Any

from quart import Response, request

from daemon.api.auth import Caller, authenticate, presented_key
from daemon.api.limits import counted
from daemon.api.listing import Shape, shape_of
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway
from daemon.protocols import dialects


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`value` as compact UTF-8 JSON."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(body, status, headers, content_type="application/json")


def error_reply(error: ApiError) -> Response:
    """The error in the envelope of what was asked for."""
    request_id = request.scope.get("state", {}).get("request_id", "")
    shape = asked_shape()
    envelope = dialects.envelope_of(request.path) if shape is Shape.OPENAI else shape.value
    status, head, body = dialects.error_reply(error, envelope, request_id)
    headers = {name.decode(): value.decode() for name, value in head if name != b"content-type"}
    return Response(body, status, headers, content_type="application/json")


def raw_headers() -> list[tuple[bytes, bytes]]:
    """The request's headers as the server got them (names in lower case)."""
    return list(request.scope["headers"])


def asked_shape() -> Shape:
    """Whose API the client of this request speaks."""
    return shape_of(request.path, raw_headers())


async def caller_of(gateway: Gateway) -> Caller:
    """The caller of this request, read from the database now; 401 or 403. The request counts against the key's limits (429)."""
    caller = await authenticate(gateway, raw_headers(), fresh=True)
    if caller.identity.limited:
        headers, exceeded = await counted(gateway, caller.identity)
        request.scope["state"]["limit_headers"] += headers
        if exceeded is not None:
            raise exceeded
    return caller


async def optional_caller(gateway: Gateway) -> Caller | None:
    """The caller, or None when no key was sent. A bad key is 401, never silently nobody."""
    if presented_key(raw_headers()) is None:
        return None
    return await caller_of(gateway)


async def audience(gateway: Gateway) -> Caller | None:
    """Whom a list is for: the caller, or nobody where the setting allows that; 401 where not. The catalogue is fresh."""
    caller = await optional_caller(gateway)
    if caller is None and not gateway.settings.list_models_anonymously:
        raise ApiError.of("missing_api_key")
    await gateway.snapshot.refresh()
    return caller
