"""The same connections behind httpx: what it sends, and what our failures become there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from daemon.upstream import httpx_client
from daemon.upstream.send import Deadlines, Upstream
from tests.support import upstream as scripted
from tests.support.upstream import ScriptedUpstream

Run = Callable[..., Any]
SHORT = Deadlines(connect_s=1.0, first_byte_s=0.2, idle_s=0.2, total_s=2.0)


def test_a_request_and_its_reply(up: ScriptedUpstream, run: Run) -> None:
    up.script(scripted.Reply(302, [("Set-Cookie", "a=b"), ("Location", "/elsewhere")], b"moved"))

    async def test(upstream: Upstream) -> None:
        async with httpx_client.client(upstream) as client:
            first = await client.get(up.url + "/a%2Fb?q=1")
            second = await client.post(up.url + "/echo", json={"a": 1})
        assert (first.status_code, first.text) == (302, "moved")
        assert second.json()["bytes"] == len(up.requests[1].body) > 0
        assert [request.target for request in up.requests] == ["/a%2Fb?q=1", "/echo"]
        assert up.requests[1].header("cookie") is None
        assert up.requests[1].header("user-agent") == "gatewayctl/1"
        assert up.requests[1].header("accept-encoding") == "identity"
        assert upstream.in_flight == 0

    run(test, version="1")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (scripted.stall(), httpx.ReadTimeout),
        (scripted.stall_mid_body(), httpx.ReadTimeout),
        (scripted.reset(), httpx.RemoteProtocolError),
        (scripted.short_body(), httpx.RemoteProtocolError),
        (scripted.gzip_reply({}), httpx.RemoteProtocolError),
    ],
)
def test_failures(up: ScriptedUpstream, run: Run, answer: Any, error: type[Exception]) -> None:
    up.always(answer)

    async def test(upstream: Upstream) -> None:
        async with httpx_client.client(upstream, SHORT) as client:
            with pytest.raises(error) as failed:
                await client.get(up.url)
        assert "127.0.0.1" not in str(failed.value)
        assert upstream.in_flight == 0

    run(test)


def test_no_connection(run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        async with httpx_client.client(upstream, SHORT) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(scripted.closed_port_url())

    run(test)
