"""Errors in the form of this API: the last event of a stream, and what a provider's body says."""

from __future__ import annotations

from typing import Any

from daemon.domain.chat import Failed
from daemon.domain.errors import ApiError
from daemon.protocols.anthropic_messages.values import compact

__all__ = ["error_frame", "read_error"]


def error_frame(error: ApiError) -> bytes:
    """The `event: error` at which SDKs raise. No message_stop follows."""
    fields = {"type": error.type, "message": error.message, "code": error.code}
    return b"event: error\ndata: %b\n\n" % compact({"type": "error", "error": fields}).encode("utf-8", "replace")


def read_error(body: dict[str, Any]) -> Failed:
    """{"type":"error","error":{"type","message"}}, a reply's body or an event's data; empty strings for what it lacks."""
    error = body.get("error")
    if type(error) is str:
        return Failed(error)
    if type(error) is not dict:
        error = body
    message, kind = error.get("message"), error.get("type")
    return Failed(message if type(message) is str else "", kind if type(kind) is str and error is not body else "")
