"""Watch bytes that are no events pass: sound, files. What they cost is known from the request."""

from __future__ import annotations

from typing import Any

from daemon.domain.usage import Usage

__all__ = ["LastByte", "UnreadReader"]


class UnreadReader:
    """Same attributes as the readers of streams; it only sees that something came."""

    __slots__ = ("delivered", "error", "events", "finish_reasons")

    done = False
    early_usage = False
    garbage = 0
    delivered_chars = 0
    usage: Usage | None = None

    def __init__(self) -> None:
        self.delivered = False
        self.error: dict[str, Any] | None = None
        self.events = 0
        self.finish_reasons: dict[int, str] = {}

    def feed(self, chunk: bytes) -> None:
        """Some bytes."""
        self.delivered = True
        self.events += 1

    def flush(self) -> None:
        """The end."""

    def estimate_text(self) -> str:
        """Nothing that could be counted."""
        return ""


class LastByte:
    """Passes bytes on, but keeps the last one until they are over: so that what is whole is paid for."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that go on for this chunk."""
        if not chunk:
            return b""
        out = self._kept + chunk[:-1]
        self._kept = chunk[-1:]
        return out

    def flush(self) -> bytes:
        """The last byte."""
        kept, self._kept = self._kept, b""
        return kept
