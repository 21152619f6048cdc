"""Connections to providers: aiohttp's connector opens them, its parser reads them, the pool here decides on reuse.

A connection is used again only when the last reply is proven to have ended exactly where the received bytes end.
An upstream that sends more than it announced would otherwise have its surplus read by the next customer:

    surplus came with the reply             the byte count or the end of the last chunk is off -> closed
    surplus comes while it idles            `data_received` with no reply awaited -> closed
    surplus (or FIN) waits in the kernel    a poll of the socket before reuse -> another connection is taken
    surplus was under way when we wrote     its segment does not acknowledge our request -> the reply is refused
    ... any of these, once                  the provider gets one request per connection for DISTRUST_S

What is left: a surplus that the provider itself writes after our next request has reached its kernel and before it
reads it. HTTP/1.1 cannot tell that from an answer; distrust after the first surplus is what bounds it.

What is used of aiohttp beyond its documented interface (checked at connect, see tests/upstream/test_transport.py):
`TCPConnector._factory`, `ResponseHandler.set_response_params/read/should_close`, `StreamReader`.
"""

from __future__ import annotations

import asyncio
import functools
import re
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import certifi
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

MAX_HEAD_BYTES = 64 * 1024
MAX_LINE_BYTES = 8 * 1024
MAX_FIELD_BYTES = 32 * 1024
MAX_FIELDS = 128
BUFFER_BYTES = 32 * 1024  # a reply is paused above twice this and resumed below it
RECEIVE_BUFFER_BYTES = 64 * 1024  # of the kernel; Linux doubles it. Bounds what one read can add to the above
REST_S = 0.01  # surplus bytes mostly trail the reply closely: look before the next request
DISTRUST_S = 600.0
SWEEP_S = 1.0
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
TCP_INFO_BYTES_ACKED = 120  # offset of tcpi_bytes_acked in struct tcp_info, Linux 4.1

_TARGET = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads. `host_header` as it goes on the wire."""

    scheme: str
    host_header: str


@functools.lru_cache(maxsize=4096)
def split_url(url: str) -> tuple[Origin, bytes]:
    """An absolute http(s) URL as origin and request target. ValueError (without the URL in it) when unfit."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an upstream URL must be absolute, http or https")
    if "@" in parts.netloc or not _TARGET.fullmatch(url):
        raise ValueError("an upstream URL must not hold user information, spaces or control characters")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Origin(parts.scheme, parts.netloc.lower()), target.encode("ascii")


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The system's certificates and certifi's, verified, HTTP/1.1. Reads files: call it off the loop first."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


class Wire(ResponseHandler):
    """One connection. Between `begin` and `end` it awaits one reply; any byte outside of that closes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.busy = False
        self.uses = 0
        self.expires_at = self.rested_at = 0.0
        self.surplus = False
        self.lease: Any = None  # aiohttp's Connection, which its connector wants back
        self.on_idle_loss: Callable[[Wire, bool], None] | None = None
        self._socket: Any = None
        self._poll: Any = None
        self._acked_before = -1
        self._reply: tuple[RawResponseMessage, StreamReader] | None = None
        self._head = b""
        self._body_bytes = -1  # received after the head; -1 while the head is incomplete
        self._last_bytes = b""

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # sets TCP_NODELAY
        self._socket = transport.get_extra_info("socket")
        self._poll = select.poll()
        self._poll.register(self._socket.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if data:  # without: aiohttp's way to go on after a pause
            if not self.busy:
                self._lost_idle(stray=True)
                return
            if self._body_bytes >= 0:
                self._body_bytes += len(data)
            elif not self._take_head(data):
                self.fail()
                return
            self._last_bytes = data[-5:] if len(data) >= 5 else (self._last_bytes + data)[-5:]
        super().data_received(data)
        if self._exception is not None:
            self._fail_body(self._exception)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._fail_body(aiohttp.ClientPayloadError())
        if not self.busy:
            self._lost_idle(stray=False)

    def _take_head(self, data: bytes) -> bool:
        """Count up to the end of the head. False: nobody asked for these bytes, or they are too many."""
        if not self._head and not self._is_answer():
            self.surplus = True
            return False
        self._head += data
        while (end := self._head.find(HEAD_END)) >= 0:
            rest = self._head[end + len(HEAD_END) :]
            if self._head[9:10] != b"1":  # else an interim head: the real one follows
                self._body_bytes = len(rest)
                self._head = b""
                return end <= MAX_HEAD_BYTES
            self._head = rest
        return len(self._head) <= MAX_HEAD_BYTES

    def _is_answer(self) -> bool:
        """Has the peer's kernel got any of our request? Bytes it sent before that answer another one."""
        return self._acked_before < 0 or self._bytes_acked() > self._acked_before

    def _bytes_acked(self) -> int:
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES_ACKED + 8)
        except (AttributeError, OSError):
            return 2**63
        if len(info) < TCP_INFO_BYTES_ACKED + 8:
            return 2**63
        return int(struct.unpack_from("=Q", info, TCP_INFO_BYTES_ACKED)[0])

    def _fail_body(self, error: BaseException) -> None:
        # aiohttp 3.14 leaves the reader of a body waiting when a chunk header is nonsense.
        if self._reply is not None:
            body = self._reply[1]
            if not body.is_eof() and body.exception() is None:
                body.set_exception(error)

    def _lost_idle(self, stray: bool) -> None:
        if self.on_idle_loss is not None:
            self.on_idle_loss(self, stray)
        self.drop()

    # -- what the pool calls

    def fit(self) -> bool:
        """May this idle connection carry another request: open, and nothing (not even FIN) waits to be read."""
        return self.is_connected() and not self.should_close and not self._poll.poll(0)

    def begin(self, method: str) -> None:
        """Await one reply to `method`, which is about to be written."""
        self._acked_before = self._bytes_acked() if self.uses else -1
        self.busy = True
        self.uses += 1
        self._reply, self._head, self._body_bytes, self._last_bytes = None, b"", -1, b""
        self.set_response_params(
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
        )

    async def reply_head(self) -> tuple[RawResponseMessage, StreamReader]:
        """The next head on the wire, interim ones included, and the reader of its body."""
        self._reply = await self.read()
        return self._reply

    @property
    def head_measured(self) -> bool:
        """False for a head that aiohttp's lenient parser took for complete and we did not (bare line feeds)."""
        return self._body_bytes >= 0

    async def drain(self) -> None:
        """Wait until the kernel takes more. Raises aiohttp.ClientConnectionError when the connection is lost."""
        await self._drain_helper()

    def proven_complete(self) -> bool:
        """The reply ended exactly with the last byte received. Sets `surplus` when there were more."""
        assert self._reply is not None
        message, body = self._reply
        if not body.is_eof():
            return False
        if message.chunked and body is not EMPTY_PAYLOAD:
            exact = self._last_bytes == LAST_CHUNK
        else:
            exact = self._body_bytes == (0 if body is EMPTY_PAYLOAD else body.total_bytes)
        self.surplus = self.surplus or not exact
        return not self.surplus and not self.should_close and self.is_connected()

    @property
    def suspect(self) -> bool:
        """The peer's framing cannot be relied on."""
        return self.surplus or isinstance(self._exception, HttpProcessingError)

    def fail(self) -> None:
        """Break the connection now; whoever awaits the reply is woken with an error."""
        if self.transport is not None:
            self.transport.abort()

    def drop(self) -> None:
        """Break the connection and give it back to the connector. Any number of times."""
        self.fail()
        if self.lease is not None:
            lease, self.lease = self.lease, None
            lease.close()


class Connections:
    """The connections of one provider. Built and used inside one running loop."""

    def __init__(self, *, limit: int, keepalive_s: float, tls: ssl.SSLContext | None) -> None:
        self.limit, self.keepalive_s = limit, keepalive_s
        self._loop = asyncio.get_running_loop()
        # limit=0: the caller's semaphore bounds us. aiohttp's own queue loses a wake-up to a cancelled waiter.
        self._connector = aiohttp.TCPConnector(
            limit=0, force_close=True, ssl=tls or tls_context(), resolver=aiohttp.ThreadedResolver(),
            ttl_dns_cache=10, socket_factory=_open_socket)  # fmt: skip
        self._connector._factory = functools.partial(Wire, self._loop)  # type: ignore[assignment]
        self._templates: dict[Origin, ClientRequest] = {}
        self._idle: dict[Origin, tuple[deque[Wire], list[Wire]]] = {}  # resting (oldest first), rested (newest last)
        self._distrusted_until: dict[Origin, float] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self.idle_count = 0
        self.busy_count = 0

    async def take(self, origin: Origin, connect_s: float) -> Wire:
        """An idle connection or a new one. Raises what aiohttp raises when there is none to be had."""
        wire = self._take_idle(origin)
        self.busy_count += 1  # one that is being opened counts
        if wire is not None:
            return wire
        try:
            timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=float("inf"))
            lease = await self._connector.connect(self._template(origin), [], timeout)
        except BaseException:
            self.busy_count -= 1
            raise
        wire = lease.protocol  # type: ignore[assignment]
        if not isinstance(wire, Wire):
            raise RuntimeError("this version of aiohttp does not use the connector's protocol factory")
        wire.lease = lease
        wire.on_idle_loss = functools.partial(self._idle_lost, origin)
        return wire

    def give(self, origin: Origin, wire: Wire, *, reusable: bool, keepalive_s: float | None = None) -> None:
        """The end of a request on this connection, however it ended."""
        self.busy_count -= 1
        wire.busy = False
        if wire.suspect:
            self._distrust(origin)
        now = self._loop.time()
        if not reusable or self._connector.closed or now < self._distrusted_until.get(origin, 0.0):
            wire.drop()
            return
        wire.rested_at = now + REST_S
        wire.expires_at = now + min(self.keepalive_s, self.keepalive_s if keepalive_s is None else keepalive_s)
        self._idle.setdefault(origin, (deque(), []))[0].append(wire)
        self.idle_count += 1
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    async def aclose(self) -> None:
        """Close every connection, those in use too, and open no more."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for origin in list(self._idle):
            self._drop_idle(origin)
        await self._connector.close()

    # -- idle connections

    def _take_idle(self, origin: Origin) -> Wire | None:
        resting, rested = self._idle.get(origin, ((), ()))
        if not (resting or rested):
            return None
        assert isinstance(resting, deque)
        assert isinstance(rested, list)
        now = self._loop.time()
        while resting and resting[0].rested_at <= now:
            rested.append(resting.popleft())
        while rested or (resting and self.idle_count + self.busy_count >= self.limit):
            wire = rested.pop() if rested else resting.popleft()
            self.idle_count -= 1
            wire.busy = True  # from here on a byte that comes is seen by fit() or counted
            if now < wire.expires_at and wire.fit():
                return wire
            wire.drop()
        return None

    def _idle_lost(self, origin: Origin, wire: Wire, stray: bool) -> None:
        for group in self._idle.get(origin, ()):
            if wire in group:
                group.remove(wire)
                self.idle_count -= 1
        if stray:
            self._distrust(origin)

    def _distrust(self, origin: Origin) -> None:
        self._distrusted_until[origin] = self._loop.time() + DISTRUST_S
        self._drop_idle(origin)

    def _drop_idle(self, origin: Origin) -> None:
        for group in self._idle.pop(origin, ()):
            for wire in group:
                self.idle_count -= 1
                wire.on_idle_loss = None
                wire.drop()

    def _sweep(self) -> None:
        now, self._sweeper = self._loop.time(), None
        for groups in self._idle.values():
            for wire in [wire for group in groups for wire in group if wire.expires_at <= now]:
                (groups[0] if wire in groups[0] else groups[1]).remove(wire)
                self.idle_count -= 1
                wire.drop()
        if self.idle_count:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    def _template(self, origin: Origin) -> ClientRequest:
        """What the connector wants to know of a request: host, port, TLS. Nothing of it is ever written."""
        if origin not in self._templates:
            url = yarl.URL(f"{origin.scheme}://{origin.host_header}/")
            self._templates[origin] = ClientRequest("GET", url, loop=self._loop)
        return self._templates[origin]


def _open_socket(address: Sequence[Any]) -> socket.socket:
    family, kind, protocol = address[:3]
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    # Before connect, for the window scale. Without it one read may bring 256 KB that a slow client then pins.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    return opened
