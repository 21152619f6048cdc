"""Errors in Google's form: a body, the last frame of a stream, and what a provider's says."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Failed
from daemon.domain.errors import ApiError
from daemon.protocols.gemini.values import json_bytes

__all__ = ["STATUSES", "error_body", "error_frame", "read_error", "status_of"]

# HTTP status -> the word for it (google.rpc.Code)
STATUSES: Final[dict[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    426: "UNIMPLEMENTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
TYPES: Final = "type.googleapis.com/google.rpc."
DOMAIN: Final = "gatewayctl"


def status_of(error: ApiError) -> str:
    """The word for the error's HTTP status."""
    return STATUSES.get(error.http_status, "INTERNAL" if error.http_status >= 500 else "INVALID_ARGUMENT")


def error_body(error: ApiError) -> bytes:
    """{"error":{"code","message","status","details"}}; the details say our code, the field at fault, and how long to wait."""
    details: list[dict[str, Any]] = [{"@type": TYPES + "ErrorInfo", "reason": error.code.upper(), "domain": DOMAIN}]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": TYPES + "BadRequest", "fieldViolations": [violation]})
    if wait := error.headers.get("Retry-After"):
        details.append({"@type": TYPES + "RetryInfo", "retryDelay": f"{wait}s"})
    fields = {"code": error.http_status, "message": error.message, "status": status_of(error), "details": details}
    return json_bytes({"error": fields})


def error_frame(error: ApiError, *, sse: bool = True, first: bool = False) -> bytes:
    """What ends a stream that broke: SDKs raise on it. In an array it is the last element; `first`: nothing was sent before."""
    body = error_body(error)
    if sse:
        return b"data: " + body + b"\r\n\r\n"
    return (b"[" if first else b",\r\n") + body + b"\n]\n"


def read_error(body: object) -> Failed:
    """{"error":{"code","message","status"}}, alone or in a list; empty strings for what it lacks."""
    if type(body) is list and body:
        body = body[0]
    error = body.get("error") if type(body) is dict else None
    if type(error) is str:
        return Failed(error)
    if type(error) is not dict:
        return Failed("")
    message, status, code = error.get("message"), error.get("status"), error.get("code")
    return Failed(
        message if type(message) is str else "",
        status if type(status) is str else "",
        str(code) if type(code) in (int, str) else "",
    )
