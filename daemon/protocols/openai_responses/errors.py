"""The end of a stream of this API that broke while its events passed unread."""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.errors import ApiError
from daemon.protocols.openai_responses.frames import frame

__all__ = ["error_fields", "error_frames"]

_SEQUENCE: Final = re.compile(rb'"sequence_number": ?(\d{1,9})\b')


def error_fields(error: ApiError) -> dict[str, Any]:
    """Fields of an `error` event: in `error`, where SDKs look, and flat, as the documentation has them."""
    flat = {"code": error.code, "message": error.message, "param": error.param}
    return {**flat, "error": {"type": error.type, **flat}}


def error_frames(error: ApiError, passed: bytes) -> bytes:
    """An `error` event, at which SDKs raise, and response.failed, which Codex reads. `passed`: the last bytes that went by."""
    numbers = _SEQUENCE.findall(passed)
    sequence = int(numbers[-1]) + 1 if numbers else 0
    cause = {"code": error.code, "message": error.message}
    failed = {"object": "response", "status": "failed", "error": cause, "output": []}
    return frame("error", error_fields(error), sequence) + frame("response.failed", {"response": failed}, sequence + 1)
