"""Error replies, one component for each envelope and status, made from the error catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from daemon.api.openapi.parts import ANY_OBJECT, COUNT, TEXT, Schema, array, constant, either, nullable, ref, whole
from daemon.domain.errors import CATALOGUE

# Envelope → the schema of its errors.
ENVELOPES = {"openai": "OpenAIError", "anthropic": "AnthropicError", "gemini": "GoogleError", "asked": "AnyError"}

SCHEMAS: dict[str, Schema] = {
    "OpenAIError": whole(
        {"error": whole({"message": TEXT, "type": TEXT, "param": nullable(TEXT), "code": nullable(TEXT)})},
        "`code` is stable: the list is in docs/errors.md.",
    ),
    "AnthropicError": whole(
        {
            "type": constant("error"),
            "error": whole({"type": TEXT, "message": TEXT, "code": TEXT}),
            "request_id": TEXT,
        }
    ),
    "GoogleError": whole(
        {"error": whole({"code": COUNT, "message": TEXT, "status": TEXT, "details": array(ANY_OBJECT)})},
        "`details` holds our code as the `reason` of an ErrorInfo.",
    ),
    "AnyError": either(ref("OpenAIError"), ref("AnthropicError"), ref("GoogleError")),
}
HEADERS = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "The scheme of the key.", "schema": TEXT},
    "x-should-retry": {"description": "Whether trying again can help.", "schema": TEXT},
    "Allow": {"description": "The methods that are allowed.", "schema": TEXT},
}


def _codes(status: int) -> dict[str, Any]:
    return {code: spec for code, spec in CATALOGUE.items() if spec.status == status}


def name_of(envelope: str, status: int) -> str:
    """The component of a status in an envelope."""
    return f"{ENVELOPES[envelope]}{status}"


def responses(used: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """The components of these (envelope, status)."""
    found = {}
    for envelope, status in sorted(set(used)):
        codes = _codes(status)
        headers = {name: HEADERS[name] for spec in codes.values() for name in spec.headers}
        if any(spec.retry_after_s is not None for spec in codes.values()) or status == 429:
            headers["Retry-After"] = HEADERS["Retry-After"]
        if status == 405:
            headers["Allow"] = HEADERS["Allow"]
        shown: dict[str, Any] = {
            "description": "; ".join(f"{code}: {spec.cause}" for code, spec in codes.items()),
            "content": {"application/json": {"schema": ref(ENVELOPES[envelope])}},
        }
        if headers:
            shown["headers"] = headers
        found[name_of(envelope, status)] = shown
    return found
