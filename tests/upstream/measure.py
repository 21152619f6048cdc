"""Requests per second and CPU per request of every way to reach a provider, one core, 32 at once.

    taskset -c 0 python -m tests.upstream.measure [name ...]

The provider is a trivial one in a process of its own on the other core. Ways whose package is missing are left out.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import uvloop

from daemon.upstream import httpx_client
from daemon.upstream.send import Upstream, UpstreamRequest

SECONDS = 3.0
AT_ONCE = 32
PORT = 18181
BASE = f"http://127.0.0.1:{PORT}"
BODY = json.dumps({"model": "gpt-x", "messages": [{"role": "user", "content": "hello " * 30}]}).encode()
HEADERS = [(b"content-type", b"application/json"), (b"authorization", b"Bearer sk-x"), (b"accept", b"*/*")]
REPLY = json.dumps({"id": "1", "choices": [{"message": {"content": "Hello " * 60}}], "usage": {"prompt_tokens": 1}}).encode()
FRAME = b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(FRAME), FRAME)

Call = Callable[[str], Awaitable[int]]


class Provider(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, rest = self.data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        if not end or len(rest) < length:
            return
        self.data = rest[length:]
        if b"/stream" in head[:40]:
            asyncio.get_running_loop().create_task(self.stream())
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(REPLY), REPLY))

    async def stream(self) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            self.transport.write(CHUNK)
            await asyncio.sleep(0)
        self.transport.write(b"0\r\n\r\n")


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", PORT)
    await server.serve_forever()


def through_client(client: Any) -> Call:
    async def call(url: str) -> int:
        request = client.build_request("POST", url, headers=HEADERS, content=BODY)
        reply = await client.send(request, stream=True)
        size = sum([len(data) async for data in reply.aiter_raw()])
        await reply.aclose()
        return size

    return call


def through_transport(transport: Any) -> Call:
    urls: dict[str, httpx.URL] = {}

    async def call(url: str) -> int:
        parsed = urls.get(url) or urls.setdefault(url, httpx.URL(url))
        reply = await transport.handle_async_request(httpx.Request("POST", parsed, headers=HEADERS, content=BODY))
        assert isinstance(reply.stream, httpx.AsyncByteStream)
        size = sum([len(data) async for data in reply.stream])
        await reply.stream.aclose()
        return size

    return call


def through_send(upstream: Upstream | httpx_client.Provider) -> Call:
    async def call(url: str) -> int:
        reply = await upstream.send(UpstreamRequest("POST", url, HEADERS, BODY))
        size = sum([len(data) async for data in reply.chunks(every_chunk_is_progress=True)])
        await reply.aclose()
        return size

    return call


async def ways(stack: AsyncExitStack, wanted: list[str]) -> AsyncIterator[tuple[str, Call]]:
    installed = importlib.util.find_spec
    limits = {"max_connections": 100, "max_keepalive_connections": 100}
    if "httpx" in wanted:
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, limits=httpx.Limits(**limits)))
        yield "httpx", through_client(client)
    if "httpx2" in wanted and installed("httpx2"):
        import httpx2

        yield "httpx2", through_client(httpx2.AsyncClient(trust_env=False, limits=httpx2.Limits(**limits)))
    if installed("httpx_aiohttp"):
        from httpx_aiohttp import AiohttpTransport

        made = await stack.enter_async_context(AiohttpTransport(trust_env=False, limits=httpx.Limits(**limits)))
        if "httpx-aiohttp" in wanted:
            yield "httpx-aiohttp", through_client(httpx.AsyncClient(transport=made, trust_env=False))
        if "httpx-aiohttp direct" in wanted:
            yield "httpx-aiohttp direct", through_transport(made)
    upstream = Upstream()
    stack.push_async_callback(upstream.aclose)
    own = httpx_client.client(upstream)
    if "own client" in wanted:
        yield "own client", through_client(own)
    if "own transport direct" in wanted:
        yield "own transport direct", through_transport(own._transport)
    if "Provider.send" in wanted:
        yield "Provider.send", through_send(httpx_client.Provider(upstream))
    if "Upstream.send" in wanted:
        yield "Upstream.send", through_send(upstream)


ALL = [
    "httpx",
    "httpx2",
    "httpx-aiohttp",
    "httpx-aiohttp direct",
    "own client",
    "own transport direct",
    "Provider.send",
    "Upstream.send",
]


async def rate(call: Call, url: str, seconds: float) -> tuple[float, float]:
    """Calls per second, and microseconds of this process's CPU per call."""
    end, count = time.perf_counter() + seconds, 0

    async def customer() -> None:
        nonlocal count
        while time.perf_counter() < end:
            assert await call(url) > 100
            count += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(customer() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - started), (time.process_time() - cpu) / count * 1e6


async def main() -> None:
    async with AsyncExitStack() as stack:
        async for name, call in ways(stack, sys.argv[1:] or ALL):
            await rate(call, BASE + "/v1/x", 0.5)
            calls, cpu = await rate(call, BASE + "/v1/x", SECONDS)
            streams, stream_cpu = await rate(call, BASE + "/stream", SECONDS)
            print(
                f"{name:22} {calls:7.0f} req/s {cpu:6.0f} µs | {streams:6.0f} streams of 200/s {stream_cpu:6.0f} µs", flush=True
            )


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        os.sched_setaffinity(0, {1})
        uvloop.run(serve())
    else:
        os.sched_setaffinity(0, {0})
        logging.disable(logging.WARNING)
        provider = subprocess.Popen([sys.executable, "-m", "tests.upstream.measure", "--serve"])
        time.sleep(1.0)
        try:
            uvloop.run(main())
        finally:
            provider.kill()
