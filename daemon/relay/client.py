"""The client's side of one exchange: the reply's head once, then chunks, each with a deadline for slow readers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from daemon.relay.call import ClientGone
from daemon.watchdog import Watchdog

Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

SLOW_CLIENT_S = 30.0
REQUEST_IDS = frozenset((b"x-request-id", b"request-id"))


class Client:
    """Writes a reply through ASGI. `gone` is set when the client left: then writing does nothing."""

    def __init__(self, send: Send, common_headers: Headers, watchdog: Watchdog) -> None:
        self._send = send
        self._common = common_headers
        self._watchdog = watchdog
        self.started = False
        self.finished = False
        self.gone = False
        self.stuck = False  # something was given to the connection and not taken by it
        self.close_after = False
        self.status: int | None = None

    def rename(self, request_id: str) -> None:
        """The request got another id than the one it came with."""
        self._common = [(n, request_id.encode() if n in REQUEST_IDS else v) for n, v in self._common]

    def tell(self, headers: Headers) -> None:
        """Headers that the reply will have, whatever it is."""
        if headers:
            self._common = [*self._common, *headers]

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Head and body at once."""
        if self.gone or self.started:
            return
        self.started = self.finished = True
        self.status = status
        head = [*self._common, *headers, (b"content-length", b"%d" % len(body))]
        await self._guarded({"type": "http.response.start", "status": status, "headers": head})
        await self._guarded({"type": "http.response.body", "body": body, "more_body": False})

    async def start(self, status: int, headers: Headers) -> None:
        """The head of a streamed reply."""
        if self.gone:
            return
        self.started = True
        self.status = status
        await self._guarded({"type": "http.response.start", "status": status, "headers": [*self._common, *headers]})

    async def write(self, chunk: bytes) -> None:
        """A part of a streamed reply."""
        if chunk and not self.gone:
            await self._guarded({"type": "http.response.body", "body": chunk, "more_body": True})

    async def finish(self, chunk: bytes = b"") -> None:
        """The last part of a streamed reply."""
        if self.gone or self.finished:
            return
        self.finished = True
        await self._guarded({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _guarded(self, message: dict[str, Any]) -> None:
        self.stuck = True
        try:
            with self._watchdog.wait(SLOW_CLIENT_S):
                await self._send(message)
            self.stuck = False
        except TimeoutError:
            self.gone = True
            raise ClientGone("the client reads too slowly") from None
        except (ConnectionError, OSError) as error:
            self.gone = True
            raise ClientGone("the client left") from error
