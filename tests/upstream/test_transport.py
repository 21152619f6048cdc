"""When a connection is used again, and when it is not: the rules that keep one customer's bytes from another."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import random
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daemon.upstream import transport
from daemon.upstream.errors import UpstreamBroken, UpstreamError, UpstreamUnreachable
from daemon.upstream.send import Deadlines, Upstream, UpstreamRequest
from tests.support import upstream as scripted
from tests.support.upstream import Answer, Received, Reply, ScriptedUpstream
from tests.upstream.conftest import QUICK, chat, run_on

Run = Callable[..., Any]
AFTER_REST_S = 0.03

# Before a release, each test's share is a quarter and a half:
# GATEWAYCTL_TEST_HOSTILE=400000 GATEWAYCTL_TEST_CANCELS=200000 pytest tests/upstream/test_transport.py
HOSTILE = int(os.environ.get("GATEWAYCTL_TEST_HOSTILE", "5000"))
CANCELS = int(os.environ.get("GATEWAYCTL_TEST_CANCELS", "10000"))


async def ask(upstream: Upstream, request: UpstreamRequest) -> bytes:
    reply = await upstream.send(request)
    try:
        return await reply.read(1_000_000)
    finally:
        await reply.aclose()


# ---------------------------------------------------------------------------------------- idle connections


def test_surplus_that_comes_while_idle_closes_the_connection_and_ends_trust(up: ScriptedUpstream, run: Run) -> None:
    up.script(scripted.extra_bytes(scripted.json_reply({"a": 1}), after_s=0.05))

    async def test(upstream: Upstream) -> None:
        await ask(upstream, chat(up.url))
        assert upstream.idle == 1
        await asyncio.sleep(0.1)
        assert upstream.idle == 0
        await asyncio.sleep(0.02)
        assert up.open_connections == 0
        await ask(upstream, chat(up.url))
        assert (upstream.idle, up.connections) == (0, 2)

    run(test)


def test_surplus_that_waits_unread_is_seen_before_the_connection_is_used(up: ScriptedUpstream, run: Run) -> None:
    up.script(scripted.extra_bytes(scripted.json_reply({"a": 1}), after_s=0.05))

    async def test(upstream: Upstream) -> None:
        await ask(upstream, chat(up.url))
        await asyncio.sleep(0.02)
        time.sleep(0.1)  # noqa: ASYNC251  the loop reads nothing meanwhile
        assert b"Hello" in await ask(upstream, chat(up.url))
        assert up.connections == 2

    run(test)


def test_surplus_under_way_when_the_request_is_written_is_not_its_reply(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes lie in our kernel before the request leaves, unseen by the check: they acknowledge none of it."""
    monkeypatch.setattr(transport.Wire, "fit", lambda wire: wire.is_connected())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")
        await may_leak.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nLEAKED")
        await asyncio.sleep(1)
        writer.close()

    async def test(upstream: Upstream) -> None:
        global may_leak
        may_leak = asyncio.Event()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        request = UpstreamRequest("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", deadlines=QUICK)
        assert await ask(upstream, request) == b"mine"
        await asyncio.sleep(AFTER_REST_S)
        may_leak.set()
        wire = next(iter(upstream._connections._idle.values()))[0][0]
        while not wire._poll.poll(0):
            # Let only the server run: what it writes must not be read by us before we write.
            wire.transport.pause_reading()  # type: ignore[union-attr]
            await asyncio.sleep(0)
        wire.transport.resume_reading()  # type: ignore[union-attr]
        with pytest.raises(UpstreamBroken) as broken:
            await ask(upstream, request)
        assert broken.value.reason == "surplus"
        server.close()

    run(test)


may_leak: asyncio.Event


def test_a_connection_closed_by_the_provider_is_not_used(up: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        for wait in (asyncio.sleep(0.05), None):
            await ask(upstream, chat(up.url))
            await asyncio.sleep(AFTER_REST_S)
            up.drop_connections()
            if wait is not None:
                await wait
                assert upstream.idle == 0
            else:
                time.sleep(0.05)  # noqa: ASYNC251  FIN has come, the loop has not seen it
                assert upstream.idle == 1
            assert b"Hello" in await ask(upstream, chat(up.url))
            await asyncio.sleep(AFTER_REST_S)
        assert len(up.requests) == 4  # none was sent twice

    run(test)


def test_a_stale_connection_that_dies_under_the_request_is_not_retried(up: ScriptedUpstream, run: Run) -> None:
    up.script(scripted.json_reply({}), scripted.reset())

    async def test(upstream: Upstream) -> None:
        await ask(upstream, chat(up.url))
        await asyncio.sleep(AFTER_REST_S)
        with pytest.raises(UpstreamBroken) as broken:
            await ask(upstream, chat(up.url))
        assert broken.value.sent
        await asyncio.sleep(0.05)
        assert len(up.requests) == 2

    run(test)


def test_an_idle_connection_is_closed_after_its_time(up: ScriptedUpstream, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SWEEP_S", 0.05)

    async def test(upstream: Upstream) -> None:
        await ask(upstream, chat(up.url))
        await asyncio.sleep(0.1)
        assert up.open_connections == 1
        await asyncio.sleep(0.25)
        assert (upstream.idle, up.open_connections) == (0, 0)

    run(test, keepalive_s=0.2)


@pytest.mark.parametrize(
    ("promise", "connections"), [("timeout=1", 2), ("timeout=60, max=100", 1), ("max=5", 1), ("timeout=x", 1)]
)
def test_the_providers_keep_alive_promise_is_kept(up: ScriptedUpstream, run: Run, promise: str, connections: int) -> None:
    up.always(scripted.json_reply({}, headers=[("Keep-Alive", promise)]))

    async def test(upstream: Upstream) -> None:
        for _ in range(2):
            await ask(upstream, chat(up.url))
            await asyncio.sleep(AFTER_REST_S)
        assert up.connections == connections

    run(test)


def test_a_connection_rests_before_its_next_request(up: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        await ask(upstream, chat(up.url))
        await ask(upstream, chat(up.url))
        assert up.connections == 2
        await asyncio.sleep(AFTER_REST_S)
        for _ in range(2):
            await ask(upstream, chat(up.url))
        assert up.connections == 2

    run(test)


def test_no_more_connections_than_the_limit(up: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        for _ in range(5):
            await asyncio.gather(*(ask(upstream, chat(up.url)) for _ in range(20)))
            assert up.open_connections <= 4
        assert len(up.requests) == 100

    run(test, limit=4, wait_s=5)


def test_bytes_before_any_request_are_refused(run: Run) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 408 Timeout\r\nContent-Length: 6\r\n\r\nLEAKED")
        await asyncio.sleep(0.2)
        writer.close()

    async def test(upstream: Upstream) -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for _ in range(3):
            try:
                reply = await upstream.send(UpstreamRequest("GET", url, deadlines=QUICK))
            except UpstreamError:
                continue
            assert reply.status == 408  # it came after the request was written: it cannot be told from an answer
            await reply.aclose()
        assert upstream.in_flight == 0
        server.close()

    run(test)


def test_the_private_parts_of_aiohttp_that_are_relied_on_exist() -> None:
    connector = aiohttp.TCPConnector.__init__.__code__.co_names + aiohttp.BaseConnector.__init__.__code__.co_names
    assert "_factory" in connector
    for name in ("set_response_params", "read", "should_close", "connection_lost", "data_received", "_drain_helper"):
        assert hasattr(ResponseHandler, name)


# ------------------------------------------------------------------------------------------------- hostile


class Hostile:
    """Every reply holds the token of its request, and so does every surplus: a token in another reply is a leak."""

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        self.dice, self.kinds = random.Random(seed), kinds

    def __call__(self, request: Received) -> Answer:
        token = request.body.decode()
        good = Reply(200, [], f"<{token}>".encode())
        leak = scripted.head(200, [("Content-Length", str(len(token) + 2))]) + f"<{token}>".encode()
        kind = self.dice.choice(self.kinds)
        if kind == "chunked":
            return list(scripted.sse([f"<{token}>".encode()]))
        if kind == "split":
            return scripted.drip(good, 20)
        if kind == "together":
            return scripted.extra_bytes(good, leak)
        if kind == "half":
            return scripted.extra_bytes(good, leak[: self.dice.randrange(1, len(leak))])
        if kind == "newline":
            return scripted.extra_bytes(good, b"\r\n" + leak)
        if kind == "after-chunks":
            return scripted.extra_bytes(list(scripted.sse([f"<{token}>".encode()])), leak)
        if kind == "soon":
            return scripted.extra_bytes(good, leak, after_s=self.dice.choice((0.0, 0.001, 0.005)))
        if kind == "late":
            return scripted.extra_bytes(good, leak, after_s=self.dice.uniform(0.0, 0.2))
        if kind == "halves":
            cut = self.dice.randrange(1, len(leak))
            return [*scripted.extra_bytes(good, leak[:cut]), scripted.Later(0.005, leak[cut:])]
        if kind == "cut":
            return scripted.short_body(f"<{token}>".encode())
        if kind == "reset":
            return scripted.reset()
        return good


GOOD = ("good",) * 6 + ("chunked", "split")
AT_ONCE = ("together", "half", "newline", "after-chunks", "halves", "cut", "reset")
DELAYED = ("soon", "late")


@pytest.mark.parametrize("learns", [True, False], ids=["distrusts", "never-learns"])
def test_not_one_byte_of_a_request_in_another(loop_kind: str, learns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`never-learns` forgives every surplus at once, so that reuse goes on under attack. It leaves out the surplus that a
    provider writes at its leisure: what it writes between the arrival of the next request and reading it cannot be
    told from an answer (seen once in about 8,600 such replies); only distrust after the first one bounds that.
    """
    if not learns:
        monkeypatch.setattr(transport.Connections, "_distrust", lambda *_: None)
    seed = random.randrange(2**32)
    rounds = HOSTILE // 4
    outcomes: dict[str, int] = {}

    async def customer(number: int, upstream: Upstream, url: str) -> None:
        for turn in range(rounds // 32):
            token = f"{number}-{turn}-{random.getrandbits(64):x}"
            try:
                reply = await ask(upstream, chat(url, token.encode()))
            except UpstreamError as error:
                outcomes[error.reason] = outcomes.get(error.reason, 0) + 1
                continue
            assert reply == f"<{token}>".encode(), f"seed {seed}: {reply!r} is not the reply to {token}"
            outcomes["good"] = outcomes.get("good", 0) + 1
            if turn % 7 == 0:
                await asyncio.sleep(random.uniform(0, 0.03))

    async def main() -> None:
        with ScriptedUpstream(record=False) as up:
            up.always(Hostile(seed, GOOD * 40 + AT_ONCE + DELAYED if learns else GOOD * 8 + AT_ONCE))
            upstream = Upstream()
            await asyncio.gather(*(customer(number, upstream, up.url) for number in range(32)))
            assert upstream.in_flight == 0
            assert learns or up.connections < rounds / 2
            await upstream.aclose()
            print(f"{loop_kind} seed {seed}: {outcomes}, {up.connections} connections")

    run_on(loop_kind, main())
    assert outcomes["good"] > rounds / 2


# ------------------------------------------------------------------------------------------------ cancelled


def test_no_slot_is_lost_to_cancellation(loop_kind: str) -> None:
    """Calls cancelled at random instants, more of them at once than there is room; then all room is there."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    limit, total = 16, CANCELS // 2

    def answer(request: Received) -> Answer:
        kind = dice.random()
        if kind < 0.4:
            return scripted.json_reply({"ok": 1})
        if kind < 0.7:
            return scripted.chat_stream(["a"] * 3, delay_s=0.001)
        return [scripted.Wait(dice.uniform(0, 0.01)), *scripted.json_reply({"ok": 1})]

    async def call(upstream: Upstream, url: str) -> None:
        reply = await upstream.send(chat(url))
        try:
            await reply.read(100_000)
        finally:
            await reply.aclose()

    async def canceller(upstream: Upstream, url: str, count: int) -> None:
        for _ in range(count):
            task = asyncio.create_task(call(upstream, url))
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)
            if dice.random() < 0.7:
                await asyncio.sleep(dice.uniform(0, 0.004))
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, UpstreamUnreachable), error  # no room within the wait

    async def main() -> None:
        with ScriptedUpstream(record=False) as up:
            up.always(answer)
            upstream = Upstream(limit=limit, wait_s=0.5)
            await asyncio.gather(*(canceller(upstream, up.url, total // 40) for _ in range(40)))
            assert upstream.in_flight == 0, seed
            assert upstream._connections.busy_count == 0
            assert len(upstream._connections._connector._acquired) == upstream.idle
            up.always(scripted.stall())
            full = [asyncio.create_task(upstream.send(chat(up.url))) for _ in range(limit)]
            await asyncio.sleep(0.2)
            assert upstream.in_flight == limit  # every slot is there and no more
            with pytest.raises(UpstreamUnreachable):
                await upstream.send(chat(up.url))
            for task in full:
                task.cancel()
            await asyncio.gather(*full, return_exceptions=True)
            await asyncio.sleep(0.1)
            assert up.open_connections == upstream.idle
            await upstream.aclose()

    run_on(loop_kind, main())


@pytest.mark.parametrize("when", ["before the head", "in the body"])
def test_the_upstream_sees_a_cancelled_call_closed_within_100_ms(up: ScriptedUpstream, run: Run, when: str) -> None:
    up.always(scripted.stall() if when == "before the head" else scripted.stall_mid_body())

    async def test(upstream: Upstream) -> None:
        tasks = [asyncio.create_task(ask(upstream, chat(up.url))) for _ in range(200)]
        await up.arrived(200)
        await asyncio.sleep(0.05)
        cancelled_at = time.monotonic()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for request in up.requests:
            assert await asyncio.to_thread(request.disconnected.wait, 1)
        delays = sorted((request.closed_at or 0) - cancelled_at for request in up.requests)
        assert delays[197] < 0.1, delays[-5:]
        assert upstream.in_flight == 0

    run(test)


# --------------------------------------------------------------------------------------------------- memory


def test_a_customer_who_does_not_read_pins_little_memory(up: ScriptedUpstream, run: Run) -> None:
    up.always(lambda _: scripted.endless_line(total=16 * 1024 * 1024))

    async def test(upstream: Upstream) -> None:
        reply = await upstream.send(chat(up.url))
        await asyncio.sleep(0.3)
        body, wire = reply._body, reply._wire
        assert body is not None
        assert wire._reading_paused
        held = body._size + len(wire._last_bytes) + len(wire._head)
        assert held <= 192 * 1024, held
        size = 0
        async for data in reply.chunks(every_chunk_is_progress=True):
            assert len(data) <= 256 * 1024
            size += len(data)
        assert size == 16 * 1024 * 1024 + 6
        assert upstream.idle == 1

    run(test)


# ------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def secure(certificate: Path) -> Iterator[ScriptedUpstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ScriptedUpstream(ssl_context=context) as server:
        yield server


def test_an_unknown_certificate_is_refused(secure: ScriptedUpstream, run: Run) -> None:
    async def test(upstream: Upstream) -> None:
        with pytest.raises(UpstreamUnreachable) as failed:
            await ask(upstream, chat(secure.url))
        assert failed.value.reason == "tls"
        assert secure.requests == []

    run(test)


def test_plain_text_where_tls_was_expected(run: Run) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        await writer.drain()
        writer.close()

    async def test(upstream: Upstream) -> None:
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(UpstreamUnreachable):
            await upstream.send(UpstreamRequest("GET", url, deadlines=Deadlines(connect_s=2)))
        server.close()

    run(test)


def test_a_known_certificate_is_accepted_and_its_connection_used_again(
    secure: ScriptedUpstream, certificate: Path, loop_kind: str
) -> None:
    async def main() -> None:
        upstream = Upstream(tls=ssl.create_default_context(cafile=str(certificate)))
        for _ in range(3):
            assert b"Hello" in await ask(upstream, chat(secure.url))
            await asyncio.sleep(AFTER_REST_S)
        assert secure.connections == 1
        secure.script(scripted.extra_bytes(scripted.json_reply({}), after_s=0.02))
        await ask(upstream, chat(secure.url))
        await asyncio.sleep(0.06)
        assert upstream.idle == 0
        await upstream.aclose()

    run_on(loop_kind, main())
