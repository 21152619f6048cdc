"""The provider's connections behind an httpx.AsyncClient: for model lists and probes, where comfort beats microseconds.

The way of a customer's request is `Upstream.send`: 87 µs of CPU, where httpx's request and response objects around
it make 146 and its client 334 (tests/upstream/measure.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx

from daemon.upstream.errors import UpstreamBroken, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from daemon.upstream.send import Deadlines, Upstream, UpstreamReply, UpstreamRequest


def client(upstream: Upstream, deadlines: Deadlines = Deadlines()) -> httpx.AsyncClient:
    """A client that sends through `upstream`. It follows no redirects, keeps no cookies, asks no environment.

    httpx's own timeouts are not used; `deadlines` are. Closing the client leaves the upstream open.
    """
    return httpx.AsyncClient(
        transport=UpstreamTransport(upstream, deadlines), trust_env=False, follow_redirects=False, timeout=None
    )


class UpstreamTransport(httpx.AsyncBaseTransport):
    """Maps httpx's requests, replies and exceptions to ours."""

    def __init__(self, upstream: Upstream, deadlines: Deadlines) -> None:
        self._upstream, self._deadlines = upstream, deadlines

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        headers = [header for header in request.headers.raw if header[0].lower() not in (b"user-agent", b"cookie")]
        message = UpstreamRequest(request.method, str(request.url), headers, None, self._deadlines)
        body = await request.aread()
        try:
            reply = await self._upstream.send(replace(message, body=body) if body else message)
        except UpstreamError as error:
            raise _as_httpx(error, request) from None
        return httpx.Response(reply.status, headers=list(reply.headers), stream=_Body(reply, request), request=request)


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
