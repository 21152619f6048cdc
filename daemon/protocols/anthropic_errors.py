"""Errors in the form that /messages routes use."""

from __future__ import annotations

import json

from daemon.domain.errors import ApiError

__all__ = ["anthropic_error_body", "anthropic_error_frame"]


def anthropic_error_body(error: ApiError, request_id: str) -> bytes:
    """{"type":"error","error":{"type","message","code"},"request_id"}"""
    fields = {"type": error.type, "message": error.message, "code": error.code}
    wrapped = {"type": "error", "error": fields, "request_id": request_id}
    return json.dumps(wrapped, separators=(",", ":")).encode()


def anthropic_error_frame(error: ApiError, request_id: str) -> bytes:
    """The `event: error` that ends a stream after its first byte."""
    return b"event: error\ndata: " + anthropic_error_body(error, request_id) + b"\n\n"
