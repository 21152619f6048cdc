"""Recorded replies of real hosts: the usage read is the true one, however the bytes are cut; requests decode."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.chat import Chat, Ended, Event, Finished, Losses, Message, Role, Started, Text, TextDelta
from daemon.domain.errors import ApiError
from daemon.domain.strict_json import decode_object
from daemon.domain.usage import Usage
from daemon.protocols.gemini import (
    Gemini,
    StreamAdapter,
    count_request,
    read,
    read_error,
    rewrite_reply_model,
    set_output_limit,
)

ROOT = Path(__file__).parents[4] / "shared" / "fixtures"
INDEX = ROOT / "index.json"
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_bytes())["fixtures"] if entry["api"].startswith("gemini.")]
    if INDEX.exists()
    else []
)
pytestmark = pytest.mark.skipif(not ENTRIES, reason="the recorded fixtures (../shared/fixtures) are not on this machine")
API = Gemini()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)


def named(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def content(entry: dict[str, Any], which: str = "response_file") -> bytes:
    return (ROOT / entry[which]).read_bytes()


def check(usage: Usage | None, true: dict[str, Any]) -> None:
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (true["input_total"], true["output_total"])
    assert (usage.meters.get("cached_input", 0), usage.reasoning) == (true["cached_read"], true["reasoning"])
    assert usage.total_tokens == true["total_reported"]


def without_hosted(usage: Usage | None) -> Usage:
    """Calls of hosted tools cannot be told to a client."""
    assert usage is not None
    return replace(usage, meters={name: count for name, count in usage.meters.items() if "/" not in name})


def chunkings(stream: bytes) -> list[list[bytes]]:
    dice = random.Random(len(stream))
    found = [[stream], [stream[at : at + 1] for at in range(len(stream))]]
    for _ in range(4):
        cuts = sorted(dice.randrange(len(stream)) for _ in range(dice.randrange(1, 30)))
        found.append([stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)])
    return found


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry["stream"]], ids=named)
def test_a_recorded_stream_tells_its_true_usage(entry: dict[str, Any]) -> None:
    stream = content(entry)
    seen: list[list[Event]] = []
    for pieces in chunkings(stream):
        decoder = API.decoder()
        seen.append([event for piece in pieces for event in decoder.feed(piece)] + decoder.flush())
        check(decoder.usage, entry["usage_true"])
        assert (decoder.garbage, decoder.usage_invalid) == (0, "")
        adapter = StreamAdapter("other")
        passed = b"".join(map(adapter.feed, pieces)) + adapter.flush()
        assert passed.replace(b'"other"', b'"%b"' % model_of(stream)) == stream
    assert all(events == seen[0] for events in seen)
    for kind in (Started, Finished, Ended):
        assert sum(isinstance(event, kind) for event in seen[0]) == 1

    for sse in (True, False):
        encoder = Gemini(sse).encoder(model="m", id="x", created=1, chat=CHAT)
        written = encoder.feed(seen[0]) + encoder.finish(None)
        again = API.decoder()
        events = again.feed(written) + again.flush()
        assert again.usage == without_hosted(decoder.usage)
        assert texts(events) == texts(seen[0])


def model_of(stream: bytes) -> bytes:
    return stream.partition(b'"modelVersion"')[2].split(b'"')[1]


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if not entry["stream"]], ids=named)
def test_a_recorded_reply_tells_its_true_usage(entry: dict[str, Any]) -> None:
    raw = content(entry)
    body = json.loads(raw)
    if entry["status"] != 200:
        with pytest.raises(ValueError, match="no candidates"):
            API.decode_reply(body)
        failed, error = read_error(body), body["error"]
        assert (failed.message, failed.type, failed.code) == (error["message"], error["status"], str(error["code"]))
        return
    reply = API.decode_reply(body)
    check(reply.usage, entry["usage_true"])
    check(API.usage_of(body), entry["usage_true"])
    assert API.decode_reply(API.encode_reply(reply, reply.model, Losses())) == replace(reply, usage=without_hosted(reply.usage))
    assert json.loads(rewrite_reply_model(raw, "other")) == {**body, "modelVersion": "other"}


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry["request_file"]], ids=named)
def test_a_recorded_request_survives_both_ways(entry: dict[str, Any]) -> None:
    raw = content(entry, "request_file")
    body = decode_object(raw)
    count_request(body)
    ask = read({**body, "model": "m", "stream": entry["stream"]}, len(raw))
    assert ask.stream is entry["stream"]
    assert ask.unbounded == ()
    assert set(ask.hosted) == ({"web_fetch"} if any("urlContext" in tool for tool in body.get("tools", ())) else set())
    limited = decode_object(set_output_limit(raw, body, 3))
    assert limited == {**body, "generationConfig": {**body.get("generationConfig", {}), "maxOutputTokens": 3}}
    try:
        chat = API.decode_request({**body, "model": "m"})
    except ApiError as error:
        assert error.param in ("tools[0].urlContext", "generationConfig.responseModalities", "contents[0].role")  # noqa: PT017
        return
    again = API.decode_request({**API.encode_request(chat, "gemini-3-pro", Losses()), "model": "m"})
    assert again.messages == chat.messages
    assert (again.max_output, again.stop, again.tools, again.reasoning) == (
        chat.max_output,
        chat.stop,
        tuple(chat.tools),
        chat.reasoning,
    )
