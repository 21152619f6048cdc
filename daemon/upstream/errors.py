"""How an attempt fails. No text here ever holds a URL, a header or a key: they are shown and logged."""

from __future__ import annotations

from typing import ClassVar, Literal

Phase = Literal["connect", "first_byte", "idle", "total"]


class UpstreamError(Exception):
    """An attempt failed. `reason` is a short word for logs and metrics.

    `sent` False is a promise: the provider cannot have seen any of the request, another attempt costs nothing.
    """

    sent: ClassVar[bool] = True

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class UpstreamUnreachable(UpstreamError):
    """No connection: refused, unknown host, TLS, no time or no room to connect. May be retried."""

    sent = False


class UpstreamBroken(UpstreamError):
    """The provider broke off or spoke nonsense after it may have seen the request. Never retried by itself."""


class UpstreamTimeout(UpstreamError):
    """A deadline passed; `phase` says which."""

    phase: Phase

    def __init__(self, phase: Phase) -> None:
        super().__init__(_TIMEOUT_TEXTS[phase], reason=f"timeout_{phase}")
        self.phase = phase


class UpstreamConnectTimeout(UpstreamTimeout, UpstreamUnreachable):
    """Both: the deadline for a connection passed, so nothing was sent."""

    sent = False

    def __init__(self) -> None:
        super().__init__("connect")


_TIMEOUT_TEXTS: dict[Phase, str] = {
    "connect": "the provider did not accept a connection in time",
    "first_byte": "the provider did not begin its reply in time",
    "idle": "the provider stopped in the middle of its reply",
    "total": "the provider took too long for the whole reply",
}
