"""Fixtures: a scripted upstream, and a way to run a coroutine on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from daemon.upstream.send import Deadlines, Upstream, UpstreamRequest
from tests.support.upstream import ScriptedUpstream

T = TypeVar("T")
Run = Callable[[Callable[[Upstream], Awaitable[T]]], T]

QUICK = Deadlines(connect_s=2.0, first_byte_s=5.0, idle_s=5.0, total_s=10.0)


def chat(
    up_url: str, body: bytes = b"{}", *, path: str = "/v1/chat/completions", deadlines: Deadlines = QUICK
) -> UpstreamRequest:
    return UpstreamRequest("POST", up_url + path, [(b"content-type", b"application/json")], body, deadlines)


@pytest.fixture
def up() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def run_on(kind: str, main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if kind == "uvloop" else None) as runner:
        return runner.run(main)


@pytest.fixture
def run(loop_kind: str) -> Callable[..., Any]:
    """run(test, **options): await test(Upstream(**options)) on a fresh loop and close the upstream after it."""

    def run_test(test: Callable[[Upstream], Awaitable[T]], **options: Any) -> T:
        async def main() -> T:
            upstream = Upstream(**options)
            try:
                return await asyncio.wait_for(test(upstream), 120)
            finally:
                await upstream.aclose()

        return run_on(loop_kind, main())

    return run_test
