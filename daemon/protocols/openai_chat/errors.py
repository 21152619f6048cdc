"""Errors in the OpenAI envelope, as a body and as the last event of a stream that breaks."""

from __future__ import annotations

import json

from daemon.domain.errors import ApiError

__all__ = ["error_body", "error_frame"]


def error_body(error: ApiError) -> bytes:
    """{"error":{"message","type","param","code"}}"""
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return json.dumps({"error": fields}, separators=(",", ":")).encode()


def error_frame(error: ApiError) -> bytes:
    """The event that ends a stream after its first byte: both official SDKs raise on it. No [DONE] follows."""
    return b"data: " + error_body(error) + b"\n\n"
