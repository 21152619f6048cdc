"""Sound passes as it comes: paid for before its last byte, never held whole, and broken off where the provider broke off."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.upstream import Close, Reset, Step, Until, Wait, chunk, head, json_reply, sse
from tests.support.world import World, error_of

TEXT = "The words that are said."
SOUND = random.Random(7).randbytes(90_000)
MIB = 1024 * 1024


def speaker(world: World, *prices: str) -> str:
    """A fresh model of speech at these prices."""
    name = world.name("speaker")
    options = [option for price in prices for option in ("--price", price)]
    world.home.ok("models", "add", name, "--provider", "openai", "--type", "audio", *options, "--group", "g1")
    return name


def sound(*pieces: bytes, kind: str = "audio/mpeg", end: bool = True) -> Iterator[Step]:
    """A chunked reply of these pieces."""
    yield head(200, [("Content-Type", kind), ("Transfer-Encoding", "chunked")])
    for piece in pieces:
        yield chunk(piece)
    if end:
        yield chunk(b"")


def body_of(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": TEXT, "voice": "alloy", "speed": 1.5, **fields}


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/openai/audio/speech"])
@pytest.mark.parametrize("kind", ["audio/mpeg", "Audio/PCM; rate=24000", "application/octet-stream", "binary/x"])
def test_the_same_bytes_arrive_and_characters_are_billed(world: World, path: str, kind: str) -> None:
    model = speaker(world, "character=0.00001")
    world.openai.script(list(sound(SOUND[:100], SOUND[100:], kind=kind)))
    reply = world.gateway.post(path, world.alice.key, body_of(model, response_format="mp3"))
    assert (reply.status_code, reply.headers["content-type"], reply.content) == (200, kind, SOUND)
    assert world.openai.requests[0].json == body_of(model, response_format="mp3")
    [record] = world.home.usage("--request-id", reply.headers["x-request-id"])  # it is there with the last byte
    assert (record["usage"], record["charged"], record["estimated"]) == ({"character": len(TEXT)}, "0.00024", False)
    assert (record["status"], record["ttft_ms"] is not None) == ("ok", True)


def test_the_first_bytes_come_before_the_last_are_made(world: World) -> None:
    model, rest = speaker(world, "character=0.00001"), threading.Event()
    start, first, second, end = sound(SOUND[:1000], SOUND[1000:])
    world.openai.script([start, first, Until(rest), second, end])
    headers = world.gateway.headers(world.alice.key)
    with world.gateway.client.stream("POST", "/v1/audio/speech", json=body_of(model), headers=headers) as reply:
        pieces = reply.iter_raw()
        got = b""
        while len(got) < 999:  # all but the byte that may be the last
            got += next(pieces)
        assert world.home.json("balances", "show", "alice")["held"] != "0"
        rest.set()
        assert got + b"".join(pieces) == SOUND


def test_tokens_that_nobody_told_are_estimated(world: World) -> None:
    model = speaker(world, "input=0.6", "audio_output=12")
    world.openai.script(list(sound(SOUND)))
    reply = world.gateway.post("/v1/audio/speech", world.alice.key, body_of(model))
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["usage"], record["estimated"]) == ({"input": 6, "audio_output": 36}, True)


BROKEN: dict[str, list[Step]] = {
    "reset": [*sound(SOUND, end=False), Wait(0.05), Reset()],
    "closed": [*sound(SOUND, end=False), Close()],
    "shorter than it said": [head(200, [("Content-Type", "audio/mpeg"), ("Content-Length", "99000")]) + SOUND, Close()],
}


def collect(reply: httpx.Response, into: bytearray) -> None:
    for piece in reply.iter_raw():
        into += piece


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/openai/audio/speech"])
@pytest.mark.parametrize("how", BROKEN)
def test_sound_that_breaks_off_is_never_whole(world: World, path: str, how: str) -> None:
    model = speaker(world, "character=0.00001")
    world.openai.script(BROKEN[how])
    got = bytearray()
    headers = world.gateway.headers(world.alice.key)
    with world.gateway.client.stream("POST", path, json=body_of(model), headers=headers) as reply:
        assert reply.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            collect(reply, got)
    assert SOUND.startswith(got)
    assert 0 < len(got) < len(SOUND)
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["status"], record["error_code"], record["charged"]) == ("error", "upstream_error", "0.00024")
    assert world.home.json("balances", "show", "alice")["held"] == "0"


def test_no_sound_at_all_costs_nothing(world: World) -> None:
    model = speaker(world, "character=0.00001")
    world.openai.script(list(sound()), [*sound(end=False), Close()], json_reply({"error": {"message": "no voice"}}))
    for _ in range(3):
        reply = world.gateway.post("/v1/audio/speech", world.alice.key, body_of(model))
        error_of(reply, 502, "upstream_error")
        assert world.home.record_of(reply.headers["x-request-id"])["charged"] == "0"


def test_a_client_that_leaves_pays_for_what_it_asked(world: World) -> None:
    model = speaker(world, "character=0.00001")
    start, first, *_ = sound(SOUND)
    world.openai.script([start, first, Wait(5)])
    headers = world.gateway.headers(world.alice.key)
    with world.gateway.client.stream("POST", "/v1/audio/speech", json=body_of(model), headers=headers) as reply:
        next(reply.iter_raw())
    assert world.openai.requests[0].disconnected.wait(2)
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["status"], record["charged"]) == ("client_disconnected", "0.00024")


def test_sound_of_an_endpoint_that_nobody_knows_passes_too(world: World) -> None:
    model = speaker(world, "request=0.01")
    world.openai.script(list(sound(SOUND[:100], SOUND[100:])), BROKEN["closed"])
    reply = world.gateway.post("/v1/openai/sound-generation", world.alice.key, {"model": model, "text": "rain"})
    assert (reply.content, world.home.record_of(reply.headers["x-request-id"])["charged"]) == (SOUND, "0.01")
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        world.gateway.post("/v1/openai/sound-generation", world.alice.key, {"model": model, "text": "rain"})


def events(*, end: bool = True, usage: bool = True) -> list[Any]:
    deltas = [{"type": "speech.audio.delta", "audio": base64.b64encode(SOUND[at : at + 30_000]).decode()} for at in (0, 30_000)]
    told = {"usage": {"input_tokens": 6, "output_tokens": 40, "total_tokens": 46}} if usage else {}
    return [*deltas, *([{"type": "speech.audio.done", **told}] if end else [])]


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/openai/audio/speech"])
def test_sound_in_events(world: World, path: str) -> None:
    model = speaker(world, "input=0.6", "audio_output=12")
    world.openai.script(list(sse(events(), split=5000)))
    reply = world.gateway.post(path, world.alice.key, body_of(model, stream_format="sse"))
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.count("speech.audio.delta") == 2
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["usage"], record["estimated"], record["stream"]) == ({"input": 6, "audio_output": 40}, False, True)


def test_events_that_end_too_early_end_with_an_error(world: World) -> None:
    model = speaker(world, "character=0.00001")
    world.openai.script(list(sse(events(end=False))))
    reply = world.gateway.post("/v1/audio/speech", world.alice.key, body_of(model, stream_format="sse"))
    assert '"code":"upstream_error"' in reply.text.splitlines()[-2]
    assert world.home.record_of(reply.headers["x-request-id"])["status"] == "error"


def resident(world: World) -> int:
    """Bytes of memory of the daemon now."""
    [pid] = world.gateway.workers()
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_long_sound_is_not_held(world: World) -> None:
    model = speaker(world, "character=0.00001")
    piece, times = SOUND[:65_536], 1600  # 100 MB
    world.openai.script(lambda request: sound(*(piece for _ in range(times))))
    before = most = resident(world)
    size = 0
    headers = world.gateway.headers(world.alice.key)
    with world.gateway.client.stream("POST", "/v1/audio/speech", json=body_of(model), headers=headers) as reply:
        for number, got in enumerate(reply.iter_raw()):
            size += len(got)
            if number % 50 == 0:
                most = max(most, resident(world))
    assert size == len(piece) * times
    assert most - before < 16 * MIB
