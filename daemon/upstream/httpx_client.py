"""httpx upstream: its request, reply and transport interface, over connections of our own (daemon.upstream.send).

`Provider` is the way of a customer's request: one httpx.Request through one transport, without httpx's client around it
(redirects, cookies, authentication and the environment are nothing we want, and cost 190 µs a call). `client` is the
whole httpx.AsyncClient over the same connections, for model lists and probes, where comfort beats microseconds.
Figures: tests/upstream/measure.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import lru_cache

import httpx

from daemon.upstream.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from daemon.upstream.send import Body, Deadlines, SizedBody, Upstream, UpstreamReply, UpstreamRequest

# Extensions of a request that our transport understands, and of a reply that it gives.
DEADLINES, ON_SENDING, REPLY, ADDRESS = "deadlines", "on_sending", "reply", "address"


class Provider:
    """The way to one provider, as the relay uses it (daemon.upstream.base.Upstream)."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport = UpstreamTransport(upstream)

    async def send(self, request: UpstreamRequest) -> UpstreamReply:
        """One attempt. The caller owes the reply an `aclose()`. Raises UpstreamError's kinds."""
        message = httpx.Request(
            request.method,
            _parsed(request.url),
            headers=list(request.headers),
            stream=_stream(request.body),
            extensions={DEADLINES: request.deadlines, ON_SENDING: request.on_sending, ADDRESS: request.url},
        )
        try:
            response = await self._transport.handle_async_request(message)
        except httpx.TransportError as error:
            if isinstance(error.__cause__, UpstreamError):
                raise error.__cause__ from None
            raise
        reply: UpstreamReply = response.extensions[REPLY]
        return reply

    async def aclose(self, grace_s: float = 0.0) -> None:
        """Let running requests end for `grace_s`, then close the connections."""
        await self._upstream.aclose(grace_s)


def client(upstream: Upstream, deadlines: Deadlines = Deadlines()) -> httpx.AsyncClient:
    """A client that sends through `upstream`. It follows no redirects, keeps no cookies, asks no environment.

    httpx's own timeouts are not used; `deadlines` are. Closing the client leaves the upstream open.
    """
    return httpx.AsyncClient(
        transport=UpstreamTransport(upstream, deadlines), trust_env=False, follow_redirects=False, timeout=None
    )


class UpstreamTransport(httpx.AsyncBaseTransport):
    """Maps httpx's requests, replies and exceptions to ours."""

    def __init__(self, upstream: Upstream, deadlines: Deadlines | None = None) -> None:
        self._upstream = upstream
        self._deadlines = deadlines or Deadlines()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        headers = request.headers.raw
        address = request.extensions.get(ADDRESS)
        if address is None:  # built by httpx's client, which adds headers of its own
            address = str(request.url)
            headers = [header for header in headers if header[0].lower() not in (b"user-agent", b"cookie")]
        body: Body
        if isinstance(request.stream, httpx.ByteStream):
            body = await request.aread() or None
        elif isinstance(request.stream, _Sized):
            body = request.stream.body
        else:
            body = request.stream.__aiter__()
        message = UpstreamRequest(
            request.method,
            address,
            headers,
            body,
            request.extensions.get(DEADLINES, self._deadlines),
            request.extensions.get(ON_SENDING),
        )
        try:
            reply = await self._upstream.send(message)
        except UpstreamError as error:
            raise _as_httpx(error, request) from error
        return httpx.Response(
            reply.status,
            headers=reply.headers,
            stream=_Body(reply, request),
            request=request,
            extensions={REPLY: reply},
        )


@lru_cache(1024)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


class _Chunked(httpx.AsyncByteStream):
    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body


class _Sized(httpx.AsyncByteStream):
    def __init__(self, body: SizedBody) -> None:
        self.body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.body.chunks()


def _stream(body: Body) -> httpx.AsyncByteStream:
    if body is None or isinstance(body, bytes):
        return httpx.ByteStream(body or b"")
    return _Sized(body) if isinstance(body, SizedBody) else _Chunked(body)


class _Body(httpx.AsyncByteStream):
    def __init__(self, reply: UpstreamReply, request: httpx.Request) -> None:
        self._reply, self._request = reply, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for data in self._reply.chunks(every_chunk_is_progress=True):
                yield data
        except UpstreamError as error:
            raise _as_httpx(error, self._request) from None

    async def aclose(self) -> None:
        await self._reply.aclose()


def _as_httpx(error: UpstreamError, request: httpx.Request) -> httpx.TransportError:
    if isinstance(error, UpstreamUnreachable):
        kind = httpx.ConnectTimeout if isinstance(error, UpstreamTimeout) else httpx.ConnectError
        return kind(str(error), request=request)
    if isinstance(error, UpstreamTimeout):
        return httpx.ReadTimeout(str(error), request=request)
    assert isinstance(error, UpstreamBroken)
    return httpx.RemoteProtocolError(str(error), request=request)
