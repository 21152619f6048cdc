"""Forms with files: read for their price, sent on byte for byte, never held, and gone afterwards."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.upstream import Received, Stall, chunk, closed_port_url, error_reply, head, json_reply, sse
from tests.support.world import World, error_of

MIB = 1024 * 1024
BOUNDARY = "a-boundary-of-ours"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
SMALL, LARGE = random.Random(3).randbytes(20_000), random.Random(4).randbytes(3 * MIB)


def model_of(world: World, kind: str, *prices: str, upstream: str | None = None, provider: str = "openai") -> str:
    name = world.name(kind)
    options = [option for price in prices for option in ("--price", price)]
    named = ("--upstream", upstream) if upstream else ()
    world.home.ok("models", "add", name, "--provider", provider, "--type", kind, *options, *named, "--group", "g1")
    return name


def part(name: str, value: bytes | str, file: str | None = None) -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{file}"\r\nContent-Type: audio/mpeg' if file else "")
    data = value if isinstance(value, bytes) else value.encode()
    return f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def send(world: World, body: bytes, *, path: str = "/v1/audio/transcriptions", key: str | None = None) -> httpx.Response:
    return world.gateway.post(path, key or world.alice.key, body, headers=FORM)


def heard(seconds: int = 9) -> Any:
    return json_reply({"text": "Hello.", "usage": {"type": "duration", "seconds": seconds}})


def spools(world: World) -> int:
    """Temporary files that the daemon has open; they have no name."""
    [pid] = world.gateway.workers()
    links = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    return sum("(deleted)" in str(link) for link in links)


def none_left(world: World) -> bool:
    deadline = time.monotonic() + 3
    while spools(world) and time.monotonic() < deadline:
        time.sleep(0.02)
    return spools(world) == 0


@pytest.mark.parametrize(
    "path", ["/v1/audio/transcriptions", "/v1/openai/audio/transcriptions", "/v1/openai/audio/translations"]
)
@pytest.mark.parametrize("sound", [SMALL, LARGE], ids=["small", "large"])
def test_a_form_reaches_the_provider_byte_for_byte(world: World, path: str, sound: bytes) -> None:
    model = model_of(world, "audio", "second=0.0001")
    world.openai.script(heard())
    body = form(part("file", sound, "a.mp3"), part("unknown", "größe"), part("model", model), part("language", "de"))
    reply = send(world, body, path=path)
    assert (reply.status_code, reply.json()["text"]) == (200, "Hello.")
    [request] = world.openai.requests
    assert request.path == "/v1/audio/" + path.rpartition("/")[2]
    assert request.body == body
    assert request.header("content-type") == FORM["Content-Type"]
    assert request.header("content-length") == str(len(body))
    assert request.header("transfer-encoding") is None
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["usage"], record["charged"], record["estimated"]) == ({"second": 9}, "0.0009", False)
    assert none_left(world)


@pytest.mark.parametrize("sound", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("first", [True, False], ids=["model first", "model last"])
def test_only_the_bytes_of_the_models_name_change(world: World, sound: bytes, first: bool) -> None:
    model = model_of(world, "audio", "second=0.0001", upstream="whisper-large-of-theirs")
    world.openai.script(heard())
    file = part("file", sound, "a.mp3")
    parts = [part("model", "NAME"), file] if first else [file, part("model", "NAME")]
    sent = form(*parts)
    reply = send(world, sent.replace(b"NAME", model.encode(), 1))
    assert reply.status_code == 200
    assert world.openai.requests[0].body == sent.replace(b"NAME", b"whisper-large-of-theirs", 1)


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/openai/images/edits"])
def test_an_edit_as_a_form_and_as_json(world: World, path: str) -> None:
    model = model_of(world, "image", "image=0.04")
    fields = {"prompt": "a hat", "n": "2", "size": "1024x1024", "quality": "high", "background": "auto"}
    named = [part("model", model), *(part(name, value) for name, value in fields.items())]
    body = form(*named, part("image[]", LARGE, "a.png"), part("image[]", SMALL, "b.png"), part("mask", SMALL, "m.png"))
    as_json = json.dumps({"model": model, "prompt": "a hat", "n": 2, "images": [{"image_url": "data:image/png;base64,AAAA"}]})
    world.openai.always(json_reply({"created": 1, "data": [{"b64_json": "AAAA"}, {"b64_json": "AAAA"}]}))
    for content, headers in ((body, FORM), (as_json.encode(), {"Content-Type": "application/json"})):
        reply = world.gateway.post(path, world.alice.key, content, headers=headers)
        assert (reply.status_code, reply.headers["x-gateway-cost"]) == (200, "0.08")
        assert world.openai.requests[-1].body == content


def test_an_edit_is_held_for_by_its_images(world: World) -> None:
    model = model_of(world, "image", "image_input=100")
    body = form(part("model", model), part("prompt", "x"), *(part("image[]", b"x", "a.png") for _ in range(3)))
    error_of(send(world, body, path="/v1/images/edits", key=world.person(balance="2.45").key), 402, "insufficient_balance")
    world.openai.script(json_reply({"data": [{}], "usage": {"input_tokens": 9, "output_tokens": 0}}))
    assert send(world, body, path="/v1/images/edits", key=world.person(balance="2.47").key).status_code == 200


SRT = "1\n00:00:00,000 --> 00:01:02,500\nHello there\n"


@pytest.mark.parametrize(
    ("kind", "text", "seconds"), [("text", "Hello there, how are you today?\n", 3), ("srt", SRT, 63), ("vtt", "WEBVTT\n", 1)]
)
def test_a_reply_that_is_text(world: World, kind: str, text: str, seconds: int) -> None:
    model = model_of(world, "audio", "second=0.0001")
    plain = [head(200, [("Content-Type", "text/plain; charset=utf-8"), ("Transfer-Encoding", "chunked")])]
    world.openai.script([*plain, chunk(text.encode()), chunk(b"")])
    reply = send(world, form(part("model", model), part("response_format", kind), part("file", SMALL * 5, "a.mp3")))
    assert (reply.status_code, reply.text, reply.headers["content-type"]) == (200, text, "text/plain; charset=utf-8")
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["usage"]["second"], record["estimated"]) == (seconds, True)
    assert record["charged"] == reply.headers["x-gateway-cost"] == f"{seconds / 10_000:.4f}".rstrip("0")


def test_text_where_json_was_asked_for_is_an_error(world: World) -> None:
    model = model_of(world, "audio", "second=0.0001")
    world.openai.script([head(200, [("Content-Type", "text/html"), ("Content-Length", "5")]) + b"<html"])
    reply = send(world, form(part("model", model), part("file", SMALL, "a.mp3")))
    error_of(reply, 502, "upstream_error")
    assert world.home.record_of(reply.headers["x-request-id"])["charged"] == "0"


def test_seconds_where_tokens_are_sold_are_completed(world: World) -> None:
    model = model_of(world, "audio", "audio_input=6", "input=2.5", "output=10")
    world.openai.script(json_reply({"text": "Hello there.", "duration": 7.5}))
    reply = send(world, form(part("model", model), part("response_format", "verbose_json"), part("file", SMALL, "a.mp3")))
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["estimated"], record["usage"]["audio_input"], record["usage"]["output"]) == (True, 10, 3)


@pytest.mark.parametrize("sound", [SMALL, LARGE], ids=["small", "large"])
def test_a_transcription_in_events(world: World, sound: bytes) -> None:
    model = model_of(world, "audio", "audio_input=6", "input=2.5", "output=10")
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 4, "input_token_details": {"audio_tokens": 10}}
    frames: list[Any] = [{"type": "transcript.text.delta", "delta": text} for text in ("Hel", "lo.")]
    frames.append({"type": "transcript.text.done", "text": "Hello.", "usage": usage})
    world.openai.script(list(sse(frames, split=0)))
    reply = send(world, form(part("model", model), part("stream", "true"), part("file", sound, "a.mp3")))
    assert reply.text == "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames)
    [record] = world.home.usage("--request-id", reply.headers["x-request-id"])
    assert record["usage"] == {"input": 4, "audio_input": 10, "output": 4}
    assert (record["estimated"], record["stream"], record["status"]) == (False, True, "ok")


def test_sound_sold_by_the_second_takes_no_tokens_of_a_minute(world: World) -> None:
    by_second, by_token = model_of(world, "audio", "second=0.0001"), model_of(world, "audio", "audio_input=6")
    key = world.home.key("alice", "--tpm", "1000")
    body = form(part("model", "NAME"), part("file", LARGE, "a.mp3"))
    world.openai.always(json_reply({"text": "x", "usage": {"type": "tokens", "input_tokens": 900, "output_tokens": 9}}))
    for model, statuses in ((by_second, [200, 200]), (by_token, [200, 429])):
        for status in statuses:
            assert send(world, body.replace(b"NAME", model.encode()), key=key).status_code == status


MALFORMED = {
    "two models": form(part("model", "cheap"), part("model", "dear"), part("file", SMALL, "a.mp3")),
    "no model": form(part("file", SMALL, "a.mp3")),
    "no file": form(part("model", "MODEL")),
    "another spelling": form(part("Model", "MODEL"), part("model", "MODEL"), part("file", SMALL, "a.mp3")),
    "sound from elsewhere": form(part("model", "MODEL"), part("url", "https://example.invalid/a.mp3")),
    "no end": form(part("model", "MODEL"), part("file", SMALL, "a.mp3"))[:-40],
    "no form": b"model=x",
    "nothing": b"",
    "json": b"{}",
}


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/openai/audio/transcriptions"])
@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_form_is_400_and_holds_nothing(world: World, kind: str, path: str) -> None:
    model = model_of(world, "audio", "second=0.0001")
    user = world.person()
    reply = send(world, MALFORMED[kind].replace(b"MODEL", model.encode()), path=path, key=user.key)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
    assert reply.json()["error"]["param"]
    [record] = world.home.usage("--user", user.name)
    assert (record["status"], record["http_status"]) == ("refused", 400)
    assert (world.home.balance(user.name), world.openai.requests) == ("5", [])
    assert none_left(world)


def test_json_where_a_form_is_needed_is_400(world: World) -> None:
    body = {"model": model_of(world, "audio", "second=0.0001"), "file": "AAAA"}
    assert (
        error_of(world.gateway.post("/v1/audio/transcriptions", world.alice.key, body), 400, "invalid_value")["param"] == "file"
    )
    assert world.openai.requests == []


def test_a_form_above_the_limit_is_413(world: World) -> None:
    model = model_of(world, "audio", "second=0.0001")
    body = form(part("model", model), part("file", bytes(64 * MIB), "a.mp3"))
    error_of(send(world, body), 413, "payload_too_large")  # by its length
    pieces = (body[at : at + MIB] for at in range(0, len(body), MIB))
    headers = world.gateway.headers(world.alice.key) | FORM
    try:
        reply = world.gateway.client.post("/v1/audio/transcriptions", content=pieces, headers=headers)  # by its bytes
    except httpx.WriteError:
        pass  # refused before all was sent
    else:
        error_of(reply, 413, "payload_too_large")
    assert none_left(world)
    assert world.openai.requests == []


def test_another_attempt_sends_the_whole_form_again(world: World) -> None:
    for sound in (SMALL, LARGE):
        slug = world.provider(secret="sk-first-credential")
        world.home.ok("credentials", "add", slug, "--from-env", "S", "--name", "second", env={"S": "sk-second-credential"})
        model = model_of(world, "audio", "second=0.0001", upstream="theirs", provider=slug)
        world.openai.script(error_reply(401, "no"), heard())
        reply = send(world, form(part("file", sound, "a.mp3"), part("model", model)))
        assert reply.status_code == 200
        first, second = world.openai.requests[-2:]
        assert first.body == second.body == form(part("file", sound, "a.mp3"), part("model", "theirs"))
    dead = model_of(world, "audio", "second=0.0001", provider=world.provider(url=closed_port_url()))
    error_of(send(world, form(part("file", LARGE, "a.mp3"), part("model", dead))), 502, "upstream_error")
    assert none_left(world)


@contextmanager
def hasty_provider(answer: bytes, *, reads: bool) -> Iterator[str]:
    """A server that answers when it has read the head of a request; `reads`: it takes the rest of it then. Its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            got = b""
            while b"\r\n\r\n" not in got:
                got += connection.recv(65536)
            connection.sendall(answer)
            connection.settimeout(2)
            try:
                while reads and connection.recv(65536):
                    pass
                time.sleep(0.3)
            except OSError:
                pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(5)


@pytest.mark.parametrize("reads", [True, False], ids=["and reads on", "and does not read"])
def test_a_provider_that_answers_before_it_has_all(world: World, reads: bool) -> None:
    body = b'{"error":{"message":"Maximum content size limit exceeded","type":"invalid_request_error"}}'
    answer = head(413, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]) + body
    with hasty_provider(answer, reads=reads) as url:
        model = model_of(world, "audio", "second=0.0001", provider=world.provider(url=url))
        began = time.monotonic()
        reply = send(world, form(part("model", model), part("file", bytes(8 * MIB), "a.mp3")))
        assert time.monotonic() - began < 5
    assert (reply.status_code, reply.json()["error"]["message"]) == (413, "Maximum content size limit exceeded")
    assert world.home.record_of(reply.headers["x-request-id"])["charged"] == "0"
    assert none_left(world)


def test_a_client_that_leaves_takes_its_file_with_it(world: World) -> None:
    model = model_of(world, "audio", "second=0.0001")
    world.openai.always([Stall()])
    body = form(part("model", model), part("file", LARGE, "a.mp3"))
    request = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.alice.key}\r\n"
    request += f"Content-Type: {FORM['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    for sent in (body[: 2 * MIB], body):
        with socket.create_connection(("127.0.0.1", world.gateway.port)) as connection:
            connection.sendall(request.encode() + sent)
            deadline = time.monotonic() + 5
            while not spools(world) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert spools(world) == 1
            if sent == body:
                world.openai.wait_for(1)
        assert none_left(world)
    assert world.openai.requests[0].disconnected.wait(2)
    assert world.home.json("balances", "show", "alice")["held"] == "0"


def resident(world: World) -> int:
    """Bytes of memory of the daemon now."""
    [pid] = world.gateway.workers()
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_twenty_uploads_of_20_mb_at_once_stay_on_disk(world: World) -> None:
    model = model_of(world, "audio", "second=0.0000001", upstream="theirs")
    size, count = 20_000_000, 20
    seen: list[int] = []

    def answer(request: Received) -> Any:
        seen.append(len(request.body))
        return heard()

    world.openai.always(answer)
    start, rest = form(part("model", model), part("file", b"|", "a.mp3")).split(b"|")
    pieces = [bytes(MIB) for _ in range(size // MIB)]
    headers = world.gateway.headers(world.alice.key) | FORM
    together = threading.Barrier(count)

    def upload(_: int) -> int:
        def content() -> Iterator[bytes]:
            yield start
            for number, piece in enumerate(pieces):
                if number == len(pieces) // 2:
                    together.wait(60)  # all are half way at the same moment
                yield piece
            yield rest

        with httpx.Client(trust_env=False, timeout=120) as client:
            url = f"{world.gateway.url}/v1/audio/transcriptions"
            return client.post(url, content=content(), headers=headers).status_code

    before = most = resident(world)
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(upload, number) for number in range(count)]
        while not all(one.done() for one in running):
            most = max(most, resident(world))
            time.sleep(0.01)
        assert [one.result() for one in running] == [200] * count
    expected = len(start) + len(b"".join(pieces)) + len(rest) + len("theirs") - len(model)
    assert seen == [expected] * count
    print(f"memory: {(most - before) / MIB:.1f} MiB more than before")
    assert most - before < 64 * MIB
    assert none_left(world)
