"""S4: streams: errors, bytes, length, disconnects, encodings (S4-19, S4-20, S4-28, S4-30)."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.support.gateway import ALIAS, ask
from tests.support.upstream import (
    Answer,
    Received,
    Reset,
    Stall,
    Until,
    Wait,
    chat_frames,
    chat_reply,
    chat_stream,
    chunk,
    error_reply,
    head,
    json_reply,
    sse,
    usage_of,
)
from tests.support.world import World, data_lines, error_of

EVENT_STREAM = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
BOTH = ("/v1/chat/completions", "/v1/openai/chat/completions")


def streaming(world: World, path: str = BOTH[0], **body: Any) -> Any:
    headers = world.gateway.headers(world.alice.key)
    return world.gateway.client.stream("POST", path, json=ask(stream=True, **body), headers=headers)


# ------------------------------------------------------------------------------------------------ S4-19


@pytest.mark.parametrize("path", BOTH)
def test_s4_19_before_the_first_byte_a_failure_is_a_status(world: World, path: str) -> None:
    failures: list[tuple[Answer, int, str]] = [
        (error_reply(500), 502, "upstream_error"),
        (error_reply(503), 502, "upstream_error"),
        ([Reset()], 502, "upstream_error"),
        ([head(200, EVENT_STREAM), Reset()], 502, "upstream_error"),
        (list(sse([])), 502, "upstream_error"),
        (
            error_reply(429, headers=[("Retry-After", "7")]),
            429,
            "upstream_rate_limited",
        ),  # the last: a credential rests after it
    ]
    for answer, status, code in failures:
        # One that is served, so that the provider is not taken for dead.
        assert world.gateway.chat(world.alice.key, path=path).status_code == 200
        world.openai.script(answer)
        reply = world.gateway.chat(world.alice.key, path=path, stream=True)
        error_of(reply, status, code)
        if status == 429:
            assert reply.headers["retry-after"] == "7"
        assert world.home.record_of(reply.headers["x-request-id"])["charged"] == "0"


@pytest.mark.parametrize("path", BOTH)
def test_s4_19_after_the_first_byte_it_is_an_event_and_the_end(world: World, path: str) -> None:
    frames = chat_frames(["Some words", " that were said"], done=False)
    body = b"".join(f"data: {json.dumps(frame)}\n\n".encode() for frame in frames[:3])
    world.openai.script([head(200, EVENT_STREAM) + chunk(body), Wait(0.05), Reset()])
    with streaming(world, path) as reply:
        assert reply.status_code == 200
        lines = data_lines(reply.read().decode())
    assert "[DONE]" not in lines
    last = json.loads(lines[-1])
    assert set(last) == {"error"}
    assert last["error"]["code"] == "upstream_error"
    assert [json.loads(line) for line in lines[:-1]] == frames[:3]
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["status"], record["estimated"], record["error_code"]) == ("error", True, "upstream_error")
    assert 0 < record["usage"]["output"] < 20
    assert float(record["charged"]) > 0


# ------------------------------------------------------------------------------------------------ S4-20

NASTY = "".join(
    [
        ": a comment, as keep-alive\n\n",
        'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini","choices":'
        '[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}], "unknown" : {"a": 1.0e0 } }\r\n\r\n',
        'event: message\nid: 7\nretry: 100\ndata: {"id":"1","choices":[{"index":0,"delta":{"content":"grüße ☃ 𝄞"}}]}\n\n',
        'data:{"id":"1","choices":[{"index":0,"delta":{"content":"no space"}}]}\n\n',
        'data: {"id":"1",\ndata: "choices":[{"index":0,"delta":{"content":"two lines"}}]}\n\n',
        "\n\n: ping\r\n\r\nx-unknown-field: 3\n\n",
        'data: {"id":"1","choices":[{"index":0,"delta":{"content":"\\u2028 \\ud83d\\ude00"},"finish_reason":"stop"}]}\n\n',
        'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n',
        "data: [DONE]\n\n",
    ]
).encode()


def in_pieces(payload: bytes) -> Answer:
    """Chunks of 1 to 7 bytes, each in a write of its own, cut anywhere (in the middle of a character, too)."""
    yield head(200, EVENT_STREAM)
    at, size = 0, 1
    while at < len(payload):
        yield chunk(payload[at : at + size])
        yield Wait(0)
        at, size = at + size, size % 7 + 1
    yield chunk(b"")


def test_s4_20_the_bytes_of_a_stream_are_not_touched(world: World) -> None:
    world.openai.always(list(in_pieces(NASTY)))
    for path, options in ((BOTH[1], {}), (BOTH[1], {"include_usage": True}), (BOTH[0], {"include_usage": True})):
        more = {"stream_options": options} if options else {}
        with streaming(world, path, **more) as reply:
            received = reply.read()
        assert hashlib.sha256(received).digest() == hashlib.sha256(NASTY).digest(), received
        record = world.home.record_of(reply.headers["x-request-id"])
        assert record["usage"] == {"input": 3, "output": 4}


def test_s4_20_nor_where_the_provider_sends_no_usage_chunk(world: World) -> None:
    silent = NASTY.replace(NASTY.split(b"\n\n")[-3] + b"\n\n", b"")
    assert b"usage" not in silent
    world.openai.always(list(in_pieces(silent)))
    with streaming(world) as reply:
        assert reply.read() == silent


def test_s4_20_an_alias_changes_the_model_and_nothing_else(world: World) -> None:
    world.openai.always(list(in_pieces(NASTY)))
    with streaming(world, model=ALIAS, stream_options={"include_usage": True}) as reply:
        assert reply.read() == NASTY.replace(b'"model":"gpt-4o-mini"', b'"model":"%s"' % ALIAS.encode())


# ------------------------------------------------------------------------------------------------ S4-28


def endless(request: Received) -> Answer:
    """Words for ever, twenty a second."""
    return sse(chat_frames(["word "] * 4000, usage_of(9, 4000)), delay_s=0.05)


def leave_after(world: World, events: int, **body: Any) -> str:
    """Read so many events of a stream, then close the connection; the request id."""
    with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
        headers = world.gateway.headers(world.alice.key)
        url = f"{world.gateway.url}/v1/chat/completions"
        with client.stream("POST", url, json=ask(stream=True, **body), headers=headers) as reply:
            seen = 0
            for line in reply.iter_lines():
                seen += line.startswith("data: ")
                if seen == events:
                    break
            return str(reply.headers["x-request-id"])


def held(world: World, user: str = "alice") -> str:
    return str(world.home.json("balances", "show", user)["held"])


def eventually_nothing_held(world: World, user: str = "alice") -> None:
    deadline = time.monotonic() + 3
    while held(world, user) != "0" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert held(world, user) == "0"


def test_s4_28_cancel_closes_upstream_and_bills_what_was_produced(world: World) -> None:
    world.openai.always(endless)
    request_id = leave_after(world, 3)
    left = time.monotonic()
    upstream = world.openai.requests[0]
    assert upstream.disconnected.wait(1.0), "the provider's connection stays open"
    assert upstream.closed_at is not None
    assert upstream.closed_at - left < 1.0
    record = world.home.record_of(request_id)
    assert (record["status"], record["estimated"]) == ("client_disconnected", True)
    assert 0 < record["usage"]["output"] <= 40
    assert float(record["charged"]) > 0
    eventually_nothing_held(world)


def test_s4_28_drain_reads_on_to_the_true_usage(world: World) -> None:
    model = world.model(provider=world.provider("--on-disconnect", "drain"))
    world.openai.script(chat_stream(["word "] * 20, usage_of(9, 20), delay_s=0.05))
    request_id = leave_after(world, 3, model=model)
    record = world.home.record_of(request_id)
    assert (record["status"], record["estimated"]) == ("client_disconnected", False)
    assert record["usage"] == {"input": 9, "output": 20}
    eventually_nothing_held(world)


def abandoned(world: World, model: str) -> str:
    """Post a request that is not streamed, wait until the provider has it, and leave."""
    request_id = world.name("left-early")
    before = len(world.openai.requests)
    with httpx.Client(trust_env=False, verify=False, timeout=10) as client, pytest.raises(httpx.ReadTimeout):
        client.post(
            f"{world.gateway.url}/v1/chat/completions",
            json=ask(model=model),
            headers=world.gateway.headers(world.alice.key) | {"X-Request-Id": request_id},
            timeout=httpx.Timeout(10, read=0.3),
        )
    world.openai.wait_for(before + 1)
    return request_id


def test_s4_28_a_client_that_leaves_a_plain_request_is_charged_and_upstream_closed(world: World) -> None:
    model = world.model()
    world.openai.script([Stall()])
    request_id = abandoned(world, model)
    assert world.openai.requests[0].disconnected.wait(1.0)
    record = world.home.record_of(request_id)
    assert (record["status"], record["estimated"]) == ("client_disconnected", True)
    assert float(record["charged"]) > 0
    eventually_nothing_held(world)


def test_s4_28_a_plain_request_is_drained_to_its_usage(world: World) -> None:
    model = world.model(provider=world.provider("--on-disconnect", "drain"))
    go_on = threading.Event()
    world.openai.script([Until(go_on), *chat_reply("late words", usage_of(12, 34))])
    request_id = abandoned(world, model)
    go_on.set()
    record = world.home.record_of(request_id)
    assert (record["status"], record["estimated"]) == ("client_disconnected", False)
    assert record["usage"] == {"input": 12, "output": 34}
    eventually_nothing_held(world)


# ------------------------------------------------------------------------------------------------ S4-30


def gzips_if_it_may(request: Received) -> Answer:
    """A server that compresses whenever the client says that it can read it."""
    plain = json.dumps({"choices": [{"message": {"content": "x" * 2000}}], "usage": usage_of(3, 4)}).encode()
    if "gzip" in (request.header("accept-encoding") or ""):
        return iter([head(200, [("Content-Type", "application/json"), ("Content-Encoding", "gzip")]) + gzip.compress(plain)])
    return json_reply(json.loads(plain))


@pytest.mark.parametrize("path", BOTH)
def test_s4_30_replies_come_uncompressed_and_whole(world: World, path: str) -> None:
    world.openai.always(gzips_if_it_may)
    reply = world.gateway.post(path, world.alice.key, ask(), headers={"Accept-Encoding": "gzip, br, zstd"})
    assert world.openai.requests[0].header("accept-encoding") == "identity"
    assert reply.status_code == 200
    assert "content-encoding" not in reply.headers
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.json()["choices"][0]["message"]["content"] == "x" * 2000
    assert world.home.record_of(reply.headers["x-request-id"])["usage"] == {"input": 3, "output": 4}
