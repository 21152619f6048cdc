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
from daemon.protocols.anthropic_messages import AnthropicMessages, count_request, read_error

ROOT = Path(__file__).parents[4] / "shared" / "fixtures"
INDEX = ROOT / "index.json"
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_bytes())["fixtures"] if entry["api"] == "anthropic.messages"]
    if INDEX.exists()
    else []
)
pytestmark = pytest.mark.skipif(not ENTRIES, reason="the recorded fixtures (../shared/fixtures) are not on this machine")
API = AnthropicMessages()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)


def named(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def content(entry: dict[str, Any], which: str = "response_file") -> bytes:
    return (ROOT / entry[which]).read_bytes()


def check(usage: Usage | None, true: dict[str, Any]) -> None:
    assert usage is not None
    if (total := true.get("sum_over_iterations")) is not None:
        expected = {
            "input": total["input_tokens"],
            "cached": total["cache_read_input_tokens"],
            "written": total["cache_creation_input_tokens"],
            "output": total["output_tokens"],
        }
    else:
        expected = {
            "input": true["input_uncached"],
            "cached": true["cached_read"],
            "written": true["cache_write"],
            "output": true["output_total"],
        }
        assert usage.input_tokens == true["input_total"]
    meters = usage.meters
    assert {
        "input": meters["input"],
        "cached": meters.get("cached_input", 0),
        "written": meters.get("cache_write_5m", 0) + meters.get("cache_write_1h", 0),
        "output": usage.output_tokens,
    } == expected
    assert meters.get("cache_write_1h", 0) == true.get("cache_write_1h", 0)
    assert usage.reasoning == true["reasoning"]


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
        assert decoder.garbage == 0
        assert decoder.usage_invalid == ""
    assert all(events == seen[0] for events in seen)
    assert sum(isinstance(event, Started) for event in seen[0]) == 1
    assert sum(isinstance(event, Finished) for event in seen[0]) == 1
    assert sum(isinstance(event, Ended) for event in seen[0]) == 1

    encoder = API.encoder(model="m", id="x", created=1, chat=CHAT)
    written = encoder.feed(seen[0]) + encoder.finish(None)
    again = API.decoder()
    events = again.feed(written) + again.flush()
    assert tokens(again.usage) == tokens(decoder.usage)
    assert texts(events) == texts(seen[0])


def tokens(usage: Usage | None) -> dict[str, int] | None:
    """Without calls of hosted tools, which a translation never asks for, so that nothing of them is written."""
    return usage and {key: count for key, count in usage.meters.items() if not key.startswith("hosted_call")}


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if not entry["stream"]], ids=named)
def test_a_recorded_reply_tells_its_true_usage(entry: dict[str, Any]) -> None:
    body = json.loads(content(entry))
    if entry["status"] != 200:
        with pytest.raises(ValueError, match="not a message"):
            API.decode_reply(body)
        failed = read_error(body)
        assert (failed.message, failed.type) == (body["error"]["message"], body["error"]["type"])
        return
    reply = API.decode_reply(body)
    check(reply.usage, entry["usage_true"])
    check(API.usage_of(body), entry["usage_true"])
    again = API.encode_reply(reply, reply.model, Losses())
    assert replace(API.decode_reply(again), usage=None) == replace(reply, usage=None)
    assert tokens(API.usage_of(again)) == tokens(reply.usage)
    assert [block for block in again["content"] if block["type"] == "text"] == [
        block for block in body["content"] if block["type"] == "text"
    ]


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry["request_file"]], ids=named)
def test_a_recorded_request_survives_both_ways(entry: dict[str, Any]) -> None:
    body = decode_object(content(entry, "request_file"))
    count_request(body)
    if any(tool.get("type", "custom") != "custom" for tool in body.get("tools") or ()):
        with pytest.raises(ApiError, match="web_fetch_20250910"):
            API.decode_request(body)
        return
    chat = API.decode_request(body)
    inline = AnthropicMessages(inline_system=True)
    again = inline.decode_request(inline.encode_request(chat, chat.model, Losses()))
    assert again.messages == chat.messages
    assert (again.max_output, again.stop, again.tools, again.user) == (chat.max_output, chat.stop, chat.tools, chat.user)
