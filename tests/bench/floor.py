"""The floor: the least that Quart + Hypercorn + httpx can do for a chat request. No keys, no billing, no limits.

`python -m tests.bench.floor --port N --upstream URL [--transport httpx|aiohttp]`. The aiohttp transport is httpx-aiohttp
behind the same httpx client: it shows how much of the floor is the transport.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import AsyncIterator

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]


def make_client(transport: str, base_url: str) -> httpx.AsyncClient:
    """An httpx client on one of the two transports."""
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    if transport == "httpx":
        return httpx.AsyncClient(base_url=base_url, limits=limits, timeout=60, trust_env=False)
    from httpx_aiohttp import AiohttpTransport

    return httpx.AsyncClient(base_url=base_url, transport=AiohttpTransport(limits=limits), timeout=60, trust_env=False)


def make_app(transport: str, base_url: str) -> Quart:
    """POST /v1/chat/completions is relayed; GET /health answers."""
    app = Quart(__name__)
    client: httpx.AsyncClient

    @app.before_serving
    async def start() -> None:
        nonlocal client
        client = make_client(transport, base_url)

    @app.get("/health")
    async def health() -> str:
        return "ok"

    @app.post("/v1/chat/completions")
    async def chat() -> Response:
        body = await request.get_data(as_text=False)
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        call = client.build_request("POST", "/v1/chat/completions", content=body, headers=headers)
        reply = await client.send(call, stream=True)
        content_type = reply.headers["content-type"]
        if not json.loads(body).get("stream"):
            return Response(await reply.aread(), reply.status_code, content_type=content_type)

        async def relay() -> AsyncIterator[bytes]:
            async for data in reply.aiter_raw():
                yield data

        response = Response(relay(), reply.status_code, content_type=content_type)
        response.timeout = None
        return response

    return app


async def _main(port: int, upstream: str, transport: str) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = None
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(make_app(transport, upstream), config, shutdown_trigger=stop.wait)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--transport", choices=["httpx", "aiohttp"], default="httpx")
    options = parser.parse_args()
    (uvloop or asyncio).run(_main(options.port, options.upstream, options.transport))
