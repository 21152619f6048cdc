"""One attempt at one provider: the request out, the reply in, deadlines kept, every failure one of three kinds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import ssl
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import EofStream, StreamReader

from daemon.upstream.errors import (
    Phase,
    UpstreamBroken,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from daemon.upstream.transport import Connections, Origin, Wire, split_url

MAX_INTERIM_REPLIES = 8
NEVER = float("inf")
USER_AGENT = b"gatewayctl"


@dataclass(frozen=True, slots=True)
class SizedBody:
    """A body of known length that is not in memory. `chunks` begins anew at each call, so a request can be sent again."""

    length: int
    chunks: Callable[[], AsyncGenerator[bytes, None]]


Body = bytes | SizedBody | AsyncIterator[bytes] | None

_HEADERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*")
_METHOD = re.compile(r"[A-Z]{1,20}")
# Written here and only here, whatever the caller's list says.
_FRAMING = frozenset(
    (b"host", b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect",
     b"content-length", b"transfer-encoding", b"accept-encoding")
)  # fmt: skip
_KEEP_ALIVE_SECONDS = re.compile(rb"timeout\s*=\s*(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `first_byte_s` runs from the last byte of the request to the end of the reply's head; `idle_s`
    between two signs of progress while we wait for the provider; `total_s` over everything."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 1800.0


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """`url` absolute and percent-encoded, sent as it is. `headers` go out in this order after Host; framing
    headers among them are replaced. A body that is an iterator is sent chunked, any other with its length. `on_sending` is
    called when there is a connection, right before the first byte goes out: from then on the provider may have seen the
    request."""

    method: str
    url: str
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: Body = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    on_sending: Callable[[], None] | None = None


class Upstream:
    """One provider: its connections and how many requests may run at once. Build it inside the running loop.

    `limit` requests run at once, the next ones wait `wait_s` for room. `keepalive_s` is how long an unused
    connection is kept: shorter than most providers' own limit, so that we are the ones who close.
    """

    def __init__(
        self,
        *,
        limit: int = 512,
        keepalive_s: float = 15.0,
        wait_s: float = 1.0,
        tls: ssl.SSLContext | None = None,
        version: str = "",
    ) -> None:
        self._connections = Connections(limit=limit, keepalive_s=keepalive_s, tls=tls)
        self._room = asyncio.Semaphore(limit)
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._agent = USER_AGENT + (b"/" + version.encode("ascii") if version else b"")
        self._closed = False
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.in_flight = 0

    @property
    def idle(self) -> int:
        """Open connections that wait for a request."""
        return self._connections.idle_count

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """Send one request and wait for the head of its reply. The caller owes the reply an `aclose()`.

        Raises UpstreamUnreachable, UpstreamBroken, UpstreamTimeout; ValueError for a request that no provider
        could be sent. Whatever a body's iterator raises comes through. May be cancelled at any instant.
        """
        origin, target = split_url(request.url)
        head = _head(request, origin, target, self._agent)
        started_at = self._loop.time()
        await self._enter()
        try:
            wire = await self._connect(origin, request.deadlines)
        except BaseException:
            self._leave()
            raise
        reply = UpstreamReply(self, origin, wire, request.deadlines, started_at)
        try:
            await reply._exchange(request.method, head, request.body, request.on_sending)
        except BaseException:
            reply._end(reusable=False)
            raise
        return reply

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Refuse new requests, let the running ones end for `grace_s`, then cut them."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._quiet.wait()
        await self._connections.aclose()

    async def _enter(self) -> None:
        if self._room.locked():
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._room.acquire()
            except TimeoutError:
                raise UpstreamUnreachable("the provider has too many requests running", reason="busy") from None
        else:
            await self._room.acquire()
        self.in_flight += 1
        self._quiet.clear()

    def _leave(self) -> None:
        self._room.release()
        self.in_flight -= 1
        if not self.in_flight:
            self._quiet.set()

    async def _connect(self, origin: Origin, deadlines: Deadlines) -> Wire:
        if self._closed:
            raise UpstreamUnreachable("the provider was switched off", reason="closed")
        try:
            return await self._connections.take(origin, min(deadlines.connect_s, deadlines.total_s))
        except TimeoutError:
            raise UpstreamConnectTimeout() from None
        # `from None`: these exceptions carry the host.
        except aiohttp.ClientConnectorDNSError:
            raise UpstreamUnreachable("the provider's name could not be resolved", reason="dns") from None
        except (aiohttp.ClientSSLError, ssl.SSLError, ssl.CertificateError):
            raise UpstreamUnreachable("no secure connection to the provider", reason="tls") from None
        except (aiohttp.ClientError, OSError) as error:
            code = errno.errorcode.get(getattr(error, "errno", None) or 0, "connect").lower()
            raise UpstreamUnreachable("the provider refused the connection", reason=code) from None


class UpstreamReply:
    """A reply whose head has come. `status`; `headers` raw, as sent. Read it once, then `aclose()` it.

    Idle time is counted only while somebody waits in `chunks()` or `read()`: a slow customer is not a slow provider.
    """

    status: int
    headers: list[tuple[bytes, bytes]]

    def __init__(self, upstream: Upstream, origin: Origin, wire: Wire, deadlines: Deadlines, started_at: float) -> None:
        self._upstream, self._origin, self._wire = upstream, origin, wire
        self._deadlines = deadlines
        self._clock = _Clock(upstream._loop, started_at + deadlines.total_s, weakref.ref(self))
        self._failure: BaseException | None = None
        self._message: RawResponseMessage | None = None
        self._body: StreamReader | None = None
        self._ended = self._complete = self._upload_cut = False

    async def chunks(self, *, every_chunk_is_progress: bool = False) -> AsyncGenerator[bytes, None]:
        """The body as it comes, what has arrived in one piece. The caller calls `progress()` when a piece was
        one (comment lines of an event stream are not), or says that every piece is."""
        while data := await self._next():
            if every_chunk_is_progress:
                self.progress()
            yield data

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. UpstreamBroken when it is longer, or when bytes follow it (its length was a lie)."""
        pieces: list[bytes] = []
        size = 0
        while data := await self._next():
            self.progress()
            size += len(data)
            if size > max_bytes:
                self._end(reusable=False)
                raise UpstreamBroken("the provider's reply is too large", reason="too_large")
            pieces.append(data)
        if self._wire.surplus:
            raise UpstreamBroken("the provider sent more than it announced", reason="surplus")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def progress(self) -> None:
        """Something of worth has come: idle time starts anew."""
        self._clock.restart()

    async def aclose(self) -> None:
        """Done with it. Before its end this closes the connection at once. Any number of times."""
        self._end(reusable=False)

    def __del__(self) -> None:
        # Forgotten by its caller: the slot must not be lost with it.
        if not self._ended and not self._upstream._loop.is_closed():
            self._end(reusable=False)

    # -- the exchange

    async def _exchange(self, method: str, head: bytes, body: Body, on_sending: Callable[[], None] | None) -> None:
        wire, clock = self._wire, self._clock
        if wire.transport is None or wire.transport.is_closing():
            raise UpstreamUnreachable("the provider closed the connection at once", reason="closed")
        wire.begin(method)
        upload: asyncio.Task[None] | None = None
        clock.start("first_byte", self._deadlines.first_byte_s)
        if on_sending is not None:
            on_sending()
        try:
            if body is None or isinstance(body, bytes):
                wire.transport.write(head + body if body else head)
            else:
                wire.transport.write(head)
                upload = asyncio.create_task(self._upload(body), name="upstream upload")
            message, self._body = await self._reply_head()
        except (aiohttp.ClientError, HttpProcessingError, OSError, EofStream) as error:
            self._raise(error)
        except BaseException:
            self._end(reusable=False)
            raise
        finally:
            if upload is not None:
                self._upload_cut = not upload.done()
                upload.cancel()
                await asyncio.wait((upload,))
        clock.stop()
        self._message, self.status, self.headers = message, message.code, list(message.raw_headers)
        _refuse_unreadable(message)
        clock.start("idle", self._deadlines.idle_s)
        clock.pause()

    async def _reply_head(self) -> tuple[RawResponseMessage, StreamReader]:
        for _ in range(MAX_INTERIM_REPLIES):
            message, body = await self._wire.reply_head()
            if message.code >= 200:
                if not self._wire.head_measured:
                    raise UpstreamBroken("the provider's reply is not proper HTTP", reason="framing")
                return message, body
            if message.code == 101:
                break
        raise UpstreamBroken("the provider sent no final reply", reason="interim")

    async def _upload(self, body: SizedBody | AsyncIterator[bytes]) -> None:
        """Send a body. The provider's clock stands while we wait for the body itself."""
        try:
            self._clock.pause()
            await (self._send_sized(body) if isinstance(body, SizedBody) else self._send_chunked(body))
            self._clock.resume()
            self._clock.restart()
        except aiohttp.ClientConnectionError:
            self._wire.fail()  # the reply's reader reports it
        except Exception as error:  # of the caller's body: comes out of send()
            self._failure = self._failure or error
            self._wire.fail()

    async def _send_chunked(self, body: AsyncIterator[bytes]) -> None:
        async for piece in body:
            if piece and not await self._send_piece(b"%x\r\n%b\r\n" % (len(piece), piece)):
                return
        self._write(b"0\r\n\r\n")

    async def _send_sized(self, body: SizedBody) -> None:
        left = body.length
        async with contextlib.aclosing(body.chunks()) as pieces:
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    raise ValueError("a body is longer than its length")
                if left == 0:
                    self._write(piece)  # the last one: whoever answers it has had all
                    return
                if not await self._send_piece(piece):
                    return
        raise ValueError("a body is shorter than its length")

    async def _send_piece(self, data: bytes) -> bool:
        """False when the connection is gone."""
        self._clock.resume()
        if not self._write(data):
            return False
        await self._wire.drain()
        self._clock.restart()
        self._clock.pause()
        return True

    def _write(self, data: bytes) -> bool:
        if self._wire.transport is None:
            return False
        self._wire.transport.write(data)
        return True

    async def _next(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end, when the connection has been given back."""
        if self._failure is not None:
            raise self._failure
        if self._ended or self._body is None:
            if self._complete:
                return b""
            raise UpstreamBroken("the reply was closed before its end", reason="closed")
        self._clock.resume()
        try:
            data = await self._body.readany()
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            self._raise(error)
        except BaseException:  # cancelled
            self._end(reusable=False)
            raise
        self._clock.pause()
        if not data:
            self._complete = True
            self._end(reusable=self._wire.proven_complete() and not self._upload_cut)
        return data

    def _raise(self, error: BaseException) -> NoReturn:
        """Turn a failure of the connection into ours. `from None`: the cause may quote what the provider sent."""
        self._end(reusable=False)
        if self._failure is None:
            self._failure = _broken(error, self._wire.surplus)
        raise self._failure from None

    def _expired(self, phase: Phase) -> None:
        self._failure = UpstreamTimeout(phase)
        self._wire.fail()  # wakes whoever waits

    def _end(self, *, reusable: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._clock.stop()
        keepalive_s = _promised_keepalive_s(self._message) if reusable and self._message is not None else None
        self._upstream._connections.give(self._origin, self._wire, reusable=reusable, keepalive_s=keepalive_s)
        self._upstream._leave()


class _Clock:
    """One phase's deadline beside the total one, on one timer: moved by assignment, looked at when it rings."""

    __slots__ = (
        "_handle",
        "_loop",
        "_paused_at",
        "_phase",
        "_phase_at",
        "_phase_s",
        "_reply",
        "_rings_at",
        "_total_at",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, total_at: float, reply: weakref.ref[UpstreamReply]) -> None:
        self._loop, self._total_at = loop, total_at
        self._reply = reply  # weak: a forgotten reply must not live on in the loop's timers
        self._handle: asyncio.TimerHandle | None = None
        self._phase: Phase = "total"
        self._phase_s = self._phase_at = self._rings_at = NEVER
        self._paused_at: float | None = None

    def start(self, phase: Phase, seconds: float) -> None:
        self._phase, self._phase_s, self._paused_at = phase, seconds, None
        self._phase_at = self._loop.time() + seconds
        self._arm()

    def restart(self) -> None:
        """The phase begins anew."""
        now = self._loop.time()
        self._phase_at = now + self._phase_s
        if self._paused_at is not None:
            self._paused_at = now

    def pause(self) -> None:
        """The phase's time stands still; the total goes on."""
        if self._paused_at is None:
            self._paused_at = self._loop.time()

    def resume(self) -> None:
        if self._paused_at is not None:
            self._phase_at += self._loop.time() - self._paused_at
            self._paused_at = None
            if self._due() < self._rings_at:
                self._arm()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._rings_at = NEVER

    def _due(self) -> float:
        return self._total_at if self._paused_at is not None else min(self._phase_at, self._total_at)

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._rings_at = self._due()
        self._handle = self._loop.call_at(self._rings_at, self._ring)

    def _ring(self) -> None:
        now = self._loop.time() + 0.001  # timers may ring a little early
        if now < self._due():
            self._arm()
            return
        self.stop()
        if (reply := self._reply()) is not None:
            reply._expired("total" if now >= self._total_at else self._phase)


def _broken(error: BaseException, surplus: bool) -> UpstreamError:
    if surplus:
        return UpstreamBroken("the provider sent a reply that nobody asked for", reason="surplus")
    if isinstance(error, HttpProcessingError):
        return UpstreamBroken("the provider's reply is not proper HTTP", reason="framing")
    if isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == errno.ECONNRESET:
        return UpstreamBroken("the provider reset the connection", reason="reset")
    return UpstreamBroken("the provider closed the connection before its reply was complete", reason="disconnect")


def _refuse_unreadable(message: RawResponseMessage) -> None:
    for name, value in message.raw_headers:
        if name.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UpstreamBroken("the provider compressed its reply although asked not to", reason="encoding")


def _promised_keepalive_s(message: RawResponseMessage) -> float | None:
    """`Keep-Alive: timeout=5` of the reply, less one second for the way; None without one."""
    value = message.headers.get("Keep-Alive")
    found = _KEEP_ALIVE_SECONDS.search(value.encode("latin-1", "replace")) if value else None
    return max(0.0, int(found.group(1)) - 1.0) if found else None


def _head(request: UpstreamRequest, origin: Origin, target: bytes, agent: bytes) -> bytes:
    """Request line and headers. ValueError for a method, name or value that could end its line."""
    if not _METHOD.fullmatch(request.method):
        raise ValueError("not a request method")
    lines, has_agent = [], False
    for name, value in request.headers:
        lowered = name.lower()
        if lowered in _FRAMING:
            continue
        has_agent = has_agent or lowered == b"user-agent"
        lines.append(b"%b: %b\r\n" % (name, value))
    if not has_agent:
        lines.append(b"User-Agent: %b\r\n" % agent)
    body = request.body
    if isinstance(body, bytes | SizedBody):
        lines.append(b"Content-Length: %d\r\n" % (len(body) if isinstance(body, bytes) else body.length))
    elif body is not None:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif request.method in ("POST", "PUT", "PATCH"):
        lines.append(b"Content-Length: 0\r\n")
    block = b"".join(lines)
    if not _HEADERS.fullmatch(block) or block.count(b"\n") != len(lines):
        raise ValueError("a header that must not be sent")
    return b"%b%b\r\n" % (_request_line(request.method, target, origin.host_header), block)


@lru_cache(maxsize=4096)
def _request_line(method: str, target: bytes, host: str) -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: %b\r\nAccept-Encoding: identity\r\n" % (
        method.encode("ascii"), target, host.encode("ascii"))  # fmt: skip
