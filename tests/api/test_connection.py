"""The client's connection, byte by byte: what is spoken on it, and when it is closed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, make_home

BODY = b'{"model":"x","messages":[{"role":"user","content":"hi"}]}'


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = make_home(Path(tmp_path_factory.mktemp("connection")) / "home")
    with home.start() as running:
        yield running
    home.close()


def exchange(gateway: Gateway, *pieces: bytes, timeout_s: float = 3.0) -> bytes:
    """Send the pieces; everything that comes back until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout_s) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
        except TimeoutError:
            received += b"<open>"
        return received


def test_an_upgrade_to_http2_is_not_taken(gateway: Gateway) -> None:
    asked = (
        b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    )
    reply = exchange(gateway, asked)
    assert reply.startswith(b"HTTP/1.1 200"), reply
    assert b'"healthy"' in reply


def test_the_preface_of_http2_opens_no_second_protocol(gateway: Gateway) -> None:
    reply = exchange(gateway, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    assert not reply.startswith(b"\x00"), reply  # no HTTP/2 frame
    assert b" 200" not in reply.split(b"\r\n", 1)[0]


def test_two_lengths_are_refused_and_the_connection_closed(gateway: Gateway) -> None:
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n"
    asked = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + smuggled
    )
    reply = exchange(gateway, asked)
    assert reply.startswith(b"HTTP/1.1 400"), reply
    assert reply.count(b"HTTP/1.1 ") == 1, "what came behind must not be answered"
    assert not reply.endswith(b"<open>"), "the connection stays open"


@pytest.mark.parametrize("path", ["/v1/models%00", "/v1\\models", "/v1/openai/%00/x"])
def test_paths_that_servers_read_differently_are_unknown(gateway: Gateway, path: str) -> None:
    reply = exchange(gateway, f"GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n".encode())
    assert reply.split(b"\r\n", 1)[0].split()[1] in (b"400", b"404"), reply
    assert b"unknown_url" in reply


def test_a_head_without_end_is_cut(gateway: Gateway) -> None:
    reply = exchange(gateway, b"GET /health HTTP/1.1\r\nHost: g\r\nX-Long: " + b"a" * 200_000)
    assert b" 431 " in reply or b" 400 " in reply, reply[:100]
    assert not reply.endswith(b"<open>")


def test_requests_follow_each_other_on_one_connection(gateway: Gateway) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: g\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"
    reply = exchange(gateway, one + one, last)
    assert reply.count(b"HTTP/1.1 200") == 3


def test_a_post_without_a_key_leaves_the_connection_usable(gateway: Gateway) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    reply = exchange(gateway, head + BODY, b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 401")
    assert b"HTTP/1.1 200" in reply, "the second request was not answered"


@pytest.mark.parametrize("path", [b"/nowhere", b"/health", b"/v1/models", b"/v1/embeddings"])
def test_a_refusal_arrives_though_the_body_was_not_wanted(gateway: Gateway, path: bytes) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    pieces = [b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 64
    reply = exchange(gateway, head, *pieces, b"0\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    assert reply.split()[1] in (b"401", b"404", b"405"), reply
    assert b"HTTP/1.1 200" in reply, "the second request was not answered"


KEY, VERSION = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"Sec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize("handshake", [VERSION + KEY, VERSION, KEY, b"", b"Sec-WebSocket-Version: 8\r\n" + KEY])
@pytest.mark.parametrize(
    "path", [b"/v1/responses", b"/api/v1/responses", b"/v1/openai/responses", b"/v1/messages", b"/nowhere"]
)
def test_every_websocket_is_answered_426(gateway: Gateway, path: bytes, handshake: bytes) -> None:
    asked = b"GET %s HTTP/1.1\r\nHost: g\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n%s\r\n"
    head, _, body = exchange(gateway, asked % (path, handshake), timeout_s=0.5).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 426 "), head
    assert b"\r\nx-request-id: " in head
    assert json.loads(body.removesuffix(b"<open>"))["error"]["code"] == "upgrade_required"


def test_a_post_that_offers_a_websocket_is_a_post(gateway: Gateway) -> None:
    asked = (
        b"POST /v1/responses HTTP/1.1\r\nHost: g\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n"
        + VERSION + KEY + b"\r\n{}"
    )  # fmt: skip
    assert b"missing_api_key" in exchange(gateway, asked, timeout_s=0.5)


@pytest.mark.parametrize("path", [b"/", b"/api/hello", b"//", b"/api/hello/"])
def test_a_probe_needs_no_key_and_gets_no_body(gateway: Gateway, path: bytes) -> None:
    reply = exchange(gateway, b"HEAD %s HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n" % path)
    assert reply.startswith(b"HTTP/1.1 200 "), reply
    assert reply.endswith(b"\r\n\r\n")
    found = exchange(gateway, b"GET %s HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n" % path)
    assert b'"base_url":"http://g/v1"' in found
