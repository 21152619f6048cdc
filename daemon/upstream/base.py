"""What the relay asks of a way to a provider. HTTP providers and the demo provider both are one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from daemon.upstream.send import Body, Deadlines, SizedBody, UpstreamRequest

__all__ = ["Body", "Deadlines", "SizedBody", "Upstream", "UpstreamReply", "UpstreamRequest"]


class UpstreamReply(Protocol):
    """A reply whose head has arrived. Must be closed."""

    status: int
    headers: list[tuple[bytes, bytes]]

    async def read(self, max_bytes: int) -> bytes:
        """The whole body; UpstreamBroken when it is larger."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """What has arrived, as it arrives."""
        ...

    def progress(self) -> None:
        """The caller saw something that counts as progress: the idle deadline starts anew."""
        ...

    async def aclose(self) -> None:
        """Give the connection back if the reply was read to its end, else close it."""
        ...


class Upstream(Protocol):
    """The way to one provider."""

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """One attempt. UpstreamUnreachable (nothing was sent), UpstreamBroken, UpstreamTimeout."""
        ...

    async def aclose(self) -> None: ...
