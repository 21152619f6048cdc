"""One attempt against every misbehaviour: which of the three failures it is, and what became of the connection."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from daemon.upstream.errors import UpstreamBroken, UpstreamConnectTimeout, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from daemon.upstream.httpx_client import Provider
from daemon.upstream.send import Deadlines, SizedBody, Upstream, UpstreamRequest
from tests.support import upstream as scripted
from tests.support.upstream import ScriptedUpstream
from tests.upstream.conftest import QUICK, chat

Run = Callable[..., Any]
AFTER_REST_S = 0.03


async def ask(upstream: Upstream, request: UpstreamRequest) -> bytes:
    reply = await upstream.send(request)
    try:
        return await reply.read(1_000_000)
    finally:
        await reply.aclose()


async def stream(upstream: Upstream, request: UpstreamRequest) -> bytes:
    reply = await upstream.send(request)
    try:
        return b"".join([data async for data in reply.chunks(every_chunk_is_progress=True)])
    finally:
        await reply.aclose()


# ------------------------------------------------------------------------------------------ what is sent


def test_the_request_goes_out_exactly_as_asked(up: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        headers = [(b"X-One", b"1"), (b"content-type", b"application/json"), (b"Accept-Encoding", b"gzip"),
                   (b"Content-Length", b"99"), (b"Transfer-Encoding", b"chunked"), (b"Host", b"evil"),
                   (b"Connection", b"close"),
                   (b"X-Latin", b"caf\xe9")]  # fmt: skip
        await ask(upstream, UpstreamRequest("POST", up.url + "/a%2Fb/%7Ec?q=%20x&q=2&empty=", headers, b'{"a":1}', QUICK))
        seen = up.requests[0]
        assert seen.target == "/a%2Fb/%7Ec?q=%20x&q=2&empty="
        assert seen.body == b'{"a":1}'
        assert seen.raw_headers == [
            (b"Host", f"127.0.0.1:{up.port}".encode()),
            (b"Accept-Encoding", b"identity"),
            (b"X-One", b"1"),
            (b"content-type", b"application/json"),
            (b"X-Latin", b"caf\xe9"),
            (b"User-Agent", b"gatewayctl/1.2"),
            (b"Content-Length", b"7"),
        ]

    run(test, version="1.2")


def test_the_customers_user_agent_is_kept(up: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        await ask(upstream, UpstreamRequest("GET", up.url, [(b"user-agent", b"mine")], None, QUICK))
        assert up.requests[0].raw_headers[-1] == (b"user-agent", b"mine")

    run(test)


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [("GET", None, None), ("DELETE", None, None), ("POST", None, "0"), ("POST", b"", "0"), ("POST", b"abc", "3")],
)
def test_content_length(up: ScriptedUpstream, run: Run, method: str, body: bytes | None, framing: str | None) -> None:
    async def test(upstream: Upstream) -> None:
        await ask(upstream, UpstreamRequest(method, up.url + "/x", [], body, QUICK))
        assert up.requests[0].header("content-length") == framing
        assert up.requests[0].header("transfer-encoding") is None

    run(test)


def test_a_body_that_is_an_iterator_is_sent_chunked(up: ScriptedUpstream, run: Run) -> None:
    async def body() -> AsyncIterator[bytes]:
        for number in range(50):
            yield b"%d," % number * 5000
            await asyncio.sleep(0)
        yield b""

    async def test(upstream: Upstream) -> None:
        await ask(upstream, UpstreamRequest("POST", up.url + "/x", [], body(), QUICK))
        assert up.requests[0].body == b"".join(b"%d," % number * 5000 for number in range(50))
        assert up.requests[0].header("content-length") is None
        assert upstream.idle == 1

    run(test)


def sized(*pieces: bytes, length: int | None = None) -> SizedBody:
    async def chunks() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            yield piece
            await asyncio.sleep(0)

    return SizedBody(sum(map(len, pieces)) if length is None else length, chunks)


@pytest.mark.parametrize("way", ["itself", "through httpx"])
def test_a_body_of_known_length_is_sent_with_it_and_can_be_sent_again(up: ScriptedUpstream, run: Run, way: str) -> None:
    pieces = [b"%d," % number * 5000 for number in range(50)]
    body = sized(*pieces)

    async def test(upstream: Upstream) -> None:
        sender = upstream if way == "itself" else Provider(upstream)
        for number in range(3):
            reply = await sender.send(UpstreamRequest("POST", up.url + "/x", [], body, QUICK))
            await reply.read(1000)
            assert up.requests[number].body == b"".join(pieces)
            assert up.requests[number].header("content-length") == str(body.length)
            assert up.requests[number].header("transfer-encoding") is None
            await asyncio.sleep(AFTER_REST_S)
        assert (upstream.idle, up.connections) == (1, 1)

    run(test)


@pytest.mark.parametrize("length", [5, 20])
def test_a_body_of_another_length_than_it_says_is_not_passed_off_as_whole(up: ScriptedUpstream, run: Run, length: int) -> None:
    async def test(upstream: Upstream) -> None:
        with pytest.raises(ValueError, match="than its length"):
            await upstream.send(UpstreamRequest("POST", up.url + "/x", [], sized(b"1234", b"567890", length=length), QUICK))
        assert (upstream.in_flight, upstream.idle) == (0, 0)
        assert up.requests == []

    run(test)


def test_what_a_bodys_iterator_raises_comes_out_and_the_connection_is_closed(up: ScriptedUpstream, run: Run) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("the customer left")

    async def test(upstream: Upstream) -> None:
        with pytest.raises(LookupError, match="the customer left"):
            await upstream.send(UpstreamRequest("POST", up.url + "/x", [], body(), QUICK))
        assert (upstream.in_flight, upstream.idle) == (0, 0)

    run(test)


def test_a_reply_before_the_end_of_the_upload_ends_the_upload(run: Run) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5000)
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig")
        await asyncio.sleep(1)
        writer.close()

    async def test(upstream: Upstream) -> None:
        server = await asyncio.start_server(early, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        reply = await upstream.send(UpstreamRequest("POST", url, [], body(), QUICK))
        assert (reply.status, await reply.read(10)) == (413, b"big")
        assert (upstream.in_flight, upstream.idle) == (0, 0)
        server.close()

    run(test)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET\r\nX: y"},
        {"method": "get"},
        {"url": "https://user:pass@host/"},
        {"url": "http://host/a b"},
        {"url": "http://host/\r\n"},
        {"url": "ftp://host/"},
        {"url": "/relative"},
        {"url": "http:///x"},
        {"headers": [(b"x", b"a\r\nInjected: 1")]},
        {"headers": [(b"x", b"a\nInjected: 1")]},
        {"headers": [(b"x\r\nInjected: 1\r\ny", b"a")]},
        {"headers": [(b"x: 1\r\ny", b"a")]},
        {"headers": [(b"x y", b"a")]},
        {"headers": [(b"", b"a")]},
        {"headers": [(b"x", b"\x00")]},
    ],
)
def test_a_request_that_could_split_itself_is_never_sent(up: ScriptedUpstream, run: Run, change: dict[str, Any]) -> None:
    async def test(upstream: Upstream) -> None:
        with pytest.raises(ValueError) as refused:
            await upstream.send(replace(UpstreamRequest("GET", up.url, (), None, QUICK), **change))
        assert "pass" not in str(refused.value)
        assert (upstream.in_flight, up.connections) == (0, 0)

    run(test)


# -------------------------------------------------------------------------------------------- good replies


@pytest.mark.parametrize(
    "answer",
    [
        scripted.json_reply({"a": 1}),
        scripted.drip(scripted.json_reply({"a": 1})),
        list(scripted.sse([b'{"a": ', b"1}"])),
        list(scripted.sse([b'{"a": ', b"1}"], split=0)),
        list(scripted.sse([b'{"a": ', b"1}"], split=1)),
        [b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", *scripted.json_reply({"a": 1})],
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + scripted.head(200, [("Content-Length", "8")]) + b'{"a": 1}'],
    ],
    ids=["whole", "dripped", "chunked", "chunked-split", "chunked-bytes", "early-hints", "interim-together"],
)
def test_a_good_reply_is_read_and_its_connection_used_again(up: ScriptedUpstream, run: Run, answer: Any) -> None:
    up.always(answer)

    async def test(upstream: Upstream) -> None:
        for number in range(3):
            assert json.loads(await (ask if number else stream)(upstream, chat(up.url))) == {"a": 1}
            assert (upstream.in_flight, upstream.idle) == (0, 1)
            await asyncio.sleep(AFTER_REST_S)
        assert up.connections == 1

    run(test)


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("HEAD", scripted.head(200, [("Content-Length", "5")]), b""),
        ("GET", scripted.head(204, []), b""),
        ("GET", scripted.head(304, []), b""),
        ("GET", scripted.head(200, [("Content-Length", "0")]), b""),
        ("GET", scripted.head(302, [("Location", "http://127.0.0.1:1/"), ("Content-Length", "2")]) + b"no", b"no"),
    ],
)
def test_replies_without_a_body_and_redirects_as_they_are(
    up: ScriptedUpstream, run: Run, method: str, answer: bytes, body: bytes
) -> None:
    up.always([answer])

    async def test(upstream: Upstream) -> None:
        for _ in range(2):
            assert await ask(upstream, UpstreamRequest(method, up.url + "/x", [], None, QUICK)) == body
            await asyncio.sleep(AFTER_REST_S)
        assert up.connections == 1

    run(test)


@pytest.mark.parametrize(
    "answer",
    [
        [scripted.head(200, []) + b'{"a":1}', scripted.Close()],
        [b'HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}', scripted.Close()],
        [scripted.head(200, [("Content-Length", "7"), ("Connection", "close")]) + b'{"a":1}'],
    ],
    ids=["until-eof", "http-1.0", "connection-close"],
)
def test_a_reply_that_ends_its_connection_is_whole(up: ScriptedUpstream, run: Run, answer: Any) -> None:
    up.always(answer)

    async def test(upstream: Upstream) -> None:
        for _ in range(2):
            assert await ask(upstream, chat(up.url)) == b'{"a":1}'
            assert upstream.idle == 0
        assert up.connections == 2

    run(test)


def test_status_and_raw_headers(up: ScriptedUpstream, run: Run) -> None:
    up.always(scripted.Reply(418, [("X-A", "1"), ("x-a", "2"), ("Set-Cookie", "a=b")], b"tea"))

    async def test(upstream: Upstream) -> None:
        for _ in range(2):
            reply = await upstream.send(chat(up.url))
            assert reply.status == 418
            assert reply.headers == [(b"X-A", b"1"), (b"x-a", b"2"), (b"Set-Cookie", b"a=b"), (b"Content-Length", b"3")]
            assert await reply.read(3) == b"tea"
            assert await reply.read(3) == b""
        assert all(request.header("cookie") is None for request in up.requests)

    run(test)


def test_chunks_give_what_has_arrived_in_one_piece(up: ScriptedUpstream, run: Run) -> None:
    up.always(scripted.chat_stream(["x"] * 200, None))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url))
        pieces = [data async for data in reply.chunks(every_chunk_is_progress=True)]
        assert len(pieces) < 10
        assert b"".join(pieces).count(b"\n\n") == 203

    run(test)


# --------------------------------------------------------------------------------------------- bad replies

STREAM = [b"data: 1\n\n", b"data: 2\n\n"]

BROKEN: dict[str, Any] = {
    "reset": scripted.reset(),
    "hang up": scripted.hang_up(),
    "half a head": [b"HTTP/1.1 200 OK\r\nContent-", scripted.Close()],
    "reset mid-stream": scripted.cut_stream(STREAM),
    "FIN mid-stream": scripted.cut_stream(STREAM, scripted.Close()),
    "short body": scripted.short_body(),
    "not HTTP": [b"SSH-2.0-OpenSSH_9\r\n"],
    "bare line feeds": [b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"],
    "gzip": scripted.gzip_reply({"a": 1}),
    "br": scripted.Reply(200, [("content-encoding", "br")], b"x"),
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}   "],
    "length and chunked": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    "negative length": [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"],
    "bad chunk size": [scripted.head(200, [("Transfer-Encoding", "chunked")]) + b"2\r\n{}\r\nzz\r\n"],
    "bad chunk size later": [
        scripted.head(200, [("Transfer-Encoding", "chunked")]) + b"2\r\n{}\r\n",
        scripted.Wait(0.05),
        b"zz\r\n",
        scripted.Stall(),
    ],
    "chunk longer than said": [scripted.head(200, [("Transfer-Encoding", "chunked")]) + b"2\r\n{}xx\r\n0\r\n\r\n"],
    "giant header": scripted.giant_header(),
    "many headers": scripted.Reply(200, [(f"X-{n}", "1") for n in range(500)], b"{}"),
    "endless head": lambda _: (b"X: " + b"y" * 1000 + b"\r\n" for _ in iter(int, 1)),
    "long status line": [b"HTTP/1.1 200 " + b"x" * 20_000 + b"\r\n\r\n"],
    "switching protocols": [b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"],
    "interim for ever": lambda _: (b"HTTP/1.1 102 Wait\r\n\r\n" for _ in iter(int, 1)),
    "surplus with the reply": scripted.extra_bytes(scripted.json_reply({"a": 1})),
    "surplus garbage": scripted.extra_bytes(scripted.json_reply({"a": 1}), b"garbage"),
    "surplus newline": scripted.extra_bytes(scripted.json_reply({"a": 1}), b"\r\n"),
    "surplus half head": scripted.extra_bytes(scripted.json_reply({"a": 1}), b"HTTP/1.1 200 OK\r\nX"),
    "surplus after chunks": scripted.extra_bytes(list(scripted.sse([b"{}"]))),
    "surplus newline after chunks": scripted.extra_bytes(list(scripted.sse([b"{}"])), b"\r\n"),
    "too large": scripted.Reply(200, [], b"x" * 1_000_001),
    "too large, chunked": lambda _: scripted.endless_line(total=3_000_000),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(up: ScriptedUpstream, run: Run, name: str) -> None:
    up.script(BROKEN[name])

    async def test(upstream: Upstream) -> None:
        started = time.monotonic()
        with pytest.raises(UpstreamBroken) as broken:
            await ask(upstream, chat(up.url, b'{"secret": "sk-customer"}'))
        assert time.monotonic() - started < 1
        assert broken.value.sent
        assert_says_nothing(broken.value, up)
        assert (upstream.in_flight, upstream.idle) == (0, 0)
        assert len(up.requests) == 1
        assert b"Hello" in await ask(upstream, chat(up.url))  # the next one is served

    run(test)


def assert_says_nothing(error: UpstreamError, up: ScriptedUpstream) -> None:
    said = f"{error} {error!r} {error.reason}"
    assert "127.0.0.1" not in said
    assert str(up.port) not in said
    assert "sk-" not in said
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


@pytest.mark.parametrize("name", ["surplus with the reply", "surplus garbage", "surplus half head", "surplus after chunks"])
def test_after_a_surplus_no_connection_to_the_provider_is_used_twice(up: ScriptedUpstream, run: Run, name: str) -> None:
    async def test(upstream: Upstream) -> None:
        await asyncio.gather(*(ask(upstream, chat(up.url)) for _ in range(5)))
        assert upstream.idle == 5
        await asyncio.sleep(AFTER_REST_S)
        up.script(BROKEN[name])
        with pytest.raises(UpstreamBroken):
            await ask(upstream, chat(up.url))
        assert upstream.idle == 0
        for _ in range(3):
            await ask(upstream, chat(up.url))
            await asyncio.sleep(AFTER_REST_S)
            assert upstream.idle == 0
        assert len({request.connection for request in up.requests[-3:]}) == 3

    run(test)


def test_a_stream_with_a_surplus_is_delivered_but_its_connection_closed(up: ScriptedUpstream, run: Run) -> None:
    up.script(scripted.extra_bytes(scripted.chat_stream(["a"]), b"HTTP/1.1 200 OK\r\nX"))

    async def test(upstream: Upstream) -> None:
        assert (await stream(upstream, chat(up.url))).endswith(b"data: [DONE]\n\n")
        assert upstream.idle == 0

    run(test)


# --------------------------------------------------------------------------------------------- unreachable


def test_unreachable(run: Run, up: ScriptedUpstream) -> None:
    async def test(upstream: Upstream) -> None:
        for url, reason in [
            (scripted.closed_port_url(), "econnrefused"),
            ("http://no-such-host.invalid", "dns"),
            ("http://127.1:80", "connect"),
        ]:
            with pytest.raises(UpstreamUnreachable) as failed:
                await upstream.send(chat(url, deadlines=Deadlines(connect_s=5, total_s=10)))
            assert not failed.value.sent
            assert failed.value.reason == reason
            assert "invalid" not in str(failed.value)
            assert_says_nothing(failed.value, up)
            assert upstream.in_flight == 0
        assert up.requests == []

    run(test)


def test_connect_timeout_is_both_unreachable_and_a_timeout(run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"  # never answers the TLS hello
        started = time.monotonic()
        with pytest.raises(UpstreamConnectTimeout) as failed:
            await upstream.send(UpstreamRequest("GET", url, deadlines=Deadlines(connect_s=0.2)))
        assert 0.15 < time.monotonic() - started < 0.6
        assert isinstance(failed.value, UpstreamTimeout)
        assert isinstance(failed.value, UpstreamUnreachable)
        assert (failed.value.phase, failed.value.sent) == ("connect", False)
        assert upstream.in_flight == 0
        silent.close()

    run(test)


def test_a_full_provider_is_unreachable_after_the_wait(up: ScriptedUpstream, run: Run) -> None:
    up.always(scripted.stall())

    async def test(upstream: Upstream) -> None:
        running = [asyncio.create_task(upstream.send(chat(up.url))) for _ in range(2)]
        await up.arrived(2)
        with pytest.raises(UpstreamUnreachable) as failed:
            await upstream.send(chat(up.url))
        assert failed.value.reason == "busy"
        assert upstream.in_flight == 2
        waiting = asyncio.create_task(upstream.send(chat(up.url)))
        await asyncio.sleep(0.01)
        running[0].cancel()
        await up.arrived(3)  # the freed place is taken
        for task in (running[1], waiting):
            task.cancel()
        await asyncio.gather(*running, waiting, return_exceptions=True)
        assert upstream.in_flight == 0

    run(test, limit=2, wait_s=0.1)


def test_a_closed_upstream_refuses(up: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        up.always(scripted.chat_stream(["a"] * 3, delay_s=0.05))
        reply = await upstream.send(chat(up.url))
        closing = asyncio.create_task(upstream.aclose(grace_s=5))
        await asyncio.sleep(0)
        with pytest.raises(UpstreamUnreachable):
            await upstream.send(chat(up.url))
        assert b"[DONE]" in await reply.read(10_000)  # within the grace, a running reply ends
        await closing
        assert (upstream.in_flight, upstream.idle) == (0, 0)

    run(test)


# ----------------------------------------------------------------------------------------------- deadlines


def deadlines(**changed: float) -> Deadlines:
    return Deadlines(**({"connect_s": 2.0, "first_byte_s": 5.0, "idle_s": 5.0, "total_s": 5.0} | changed))


SILENT_HALF = scripted.stall_mid_body()

TIMEOUTS: dict[str, tuple[Any, Deadlines, str]] = {
    "stall before headers": (scripted.stall(), deadlines(first_byte_s=0.2), "first_byte"),
    "half a head": ([b"HTTP/1.1 200 OK\r\nA", scripted.Stall()], deadlines(first_byte_s=0.2), "first_byte"),
    "head dripped": (scripted.drip(scripted.json_reply({}), 1, 0.05), deadlines(first_byte_s=0.2), "first_byte"),
    "interim then nothing": ([b"HTTP/1.1 102 P\r\n\r\n", scripted.Stall()], deadlines(first_byte_s=0.2), "first_byte"),
    "stall mid-body": (SILENT_HALF, deadlines(idle_s=0.2), "idle"),
    "idle shorter than first byte": (SILENT_HALF, deadlines(first_byte_s=0.9, idle_s=0.2), "idle"),
    "first byte shorter than idle": (SILENT_HALF, deadlines(first_byte_s=0.05, idle_s=0.2), "idle"),
    "drip for ever": (lambda _: scripted.comments_only(0.02), deadlines(total_s=0.2), "total"),
    "total before headers": (scripted.stall(), deadlines(total_s=0.2), "total"),
    "total mid-body": (SILENT_HALF, deadlines(total_s=0.2), "total"),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeout(up: ScriptedUpstream, run: Run, name: str) -> None:
    answer, limits, phase = TIMEOUTS[name]
    up.always(answer)

    async def test(upstream: Upstream) -> None:
        started = time.monotonic()
        with pytest.raises(UpstreamTimeout) as failed:
            await ask(upstream, chat(up.url, deadlines=limits))
        assert 0.18 < time.monotonic() - started < 0.5
        assert (failed.value.phase, failed.value.sent) == (phase, True)
        assert_says_nothing(failed.value, up)
        assert (upstream.in_flight, upstream.idle) == (0, 0)
        await asyncio.sleep(0.1)
        assert up.requests[0].disconnected.is_set()
        assert len(up.requests) == 1

    run(test)


def test_comments_are_no_progress_unless_the_caller_says_so(up: ScriptedUpstream, run: Run) -> None:
    up.always(lambda _: scripted.comments_only(0.02, times=30))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url, deadlines=deadlines(idle_s=0.2)))
        with pytest.raises(UpstreamTimeout) as failed:
            async for _ in reply.chunks():
                pass
        assert failed.value.phase == "idle"
        reply = await upstream.send(chat(up.url, deadlines=deadlines(idle_s=0.2)))
        async for _ in reply.chunks():
            reply.progress()

    run(test)


def test_a_slow_customer_is_not_a_slow_provider(up: ScriptedUpstream, run: Run) -> None:
    up.always(scripted.chat_stream(["a"] * 4, delay_s=0.1))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url, deadlines=deadlines(idle_s=0.25)))
        got = b""
        async for data in reply.chunks(every_chunk_is_progress=True):
            got += data
            await asyncio.sleep(0.3)
        assert b"[DONE]" in got

    run(test)


def test_the_total_deadline_runs_while_the_customer_is_slow(up: ScriptedUpstream, run: Run) -> None:
    up.always(scripted.chat_stream(["a"] * 20, delay_s=0.02))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url, deadlines=deadlines(total_s=0.3)))
        chunks = reply.chunks(every_chunk_is_progress=True)
        await anext(chunks)
        await asyncio.sleep(0.5)
        assert up.requests[0].disconnected.is_set()
        with pytest.raises(UpstreamTimeout) as failed:
            await anext(chunks)
        assert failed.value.phase == "total"
        assert upstream.in_flight == 1  # until its owner closes it
        await reply.aclose()
        assert upstream.in_flight == 0

    run(test)


def test_a_slow_upload_is_not_a_slow_provider(up: ScriptedUpstream, run: Run) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield b"x"

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(UpstreamRequest("POST", up.url + "/x", [], body(), deadlines(first_byte_s=0.25)))
        await reply.read(1000)
        assert up.requests[0].body == b"xxxx"

    run(test)


def test_a_provider_that_does_not_take_the_upload(run: Run) -> None:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    async def test(upstream: Upstream) -> None:
        silent = await asyncio.start_server(lambda *_: asyncio.sleep(3), "127.0.0.1", 0, limit=1)
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/"
        with pytest.raises(UpstreamTimeout) as failed:
            await upstream.send(UpstreamRequest("POST", url, [], body(), deadlines(first_byte_s=0.3)))
        assert failed.value.phase == "first_byte"
        assert upstream.in_flight == 0
        silent.close()

    run(test)


# ------------------------------------------------------------------------------------- ends before the end


def test_closing_before_the_end_closes_the_connection_at_once(up: ScriptedUpstream, run: Run) -> None:
    up.always(lambda _: scripted.comments_only(0.01))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url))
        async for _ in reply.chunks():
            break
        await reply.aclose()
        await reply.aclose()
        closed_at = time.monotonic()
        assert (upstream.in_flight, upstream.idle) == (0, 0)
        await asyncio.to_thread(up.requests[0].disconnected.wait, 1)
        assert up.requests[0].closed_at is not None
        assert up.requests[0].closed_at - closed_at < 0.1
        with pytest.raises(UpstreamBroken):
            await reply.read(10)

    run(test)


def test_closing_from_another_task_wakes_the_reader(up: ScriptedUpstream, run: Run) -> None:
    up.always(SILENT_HALF)

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url))
        reading = asyncio.create_task(reply.read(1000))
        await asyncio.sleep(0.05)
        await reply.aclose()
        with pytest.raises(UpstreamBroken):
            await asyncio.wait_for(reading, 1)
        assert upstream.in_flight == 0

    run(test)


def test_a_cancelled_reader_gives_its_slot_back_without_being_closed(up: ScriptedUpstream, run: Run) -> None:
    up.always(SILENT_HALF)

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url))
        reading = asyncio.create_task(reply.read(1000))
        await asyncio.sleep(0.05)
        reading.cancel()
        await asyncio.wait((reading,))
        assert upstream.in_flight == 0
        assert reply.status == 200

    run(test)


def test_a_cancelled_upload_closes_the_connection_before_it_waits_for_the_body(up: ScriptedUpstream, run: Run) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            left_slots.append(upstream_in_flight())

    left_slots: list[int] = []
    upstream_in_flight: Callable[[], int] = lambda: -1  # noqa: E731

    async def test(upstream: Upstream) -> None:
        nonlocal upstream_in_flight
        upstream_in_flight = lambda: upstream.in_flight  # noqa: E731
        sending = asyncio.create_task(upstream.send(UpstreamRequest("POST", up.url + "/x", [], body(), QUICK)))
        await asyncio.sleep(0.05)
        sending.cancel()
        await asyncio.wait((sending,))
        assert left_slots == [0]

    run(test)


def test_a_forgotten_reply_gives_its_slot_back(up: ScriptedUpstream, run: Run) -> None:
    up.always(lambda _: scripted.comments_only(0.01))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url))
        async for _ in reply.chunks():
            break
        assert upstream.in_flight == 1
        del reply
        gc.collect()
        await asyncio.sleep(0.05)
        assert upstream.in_flight == 0
        assert up.requests[0].disconnected.is_set()

    run(test)
