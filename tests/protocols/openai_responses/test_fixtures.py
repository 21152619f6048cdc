"""Recorded replies of real hosts: each decodes however it is cut, its usage is the true one, and what is encoded from it the
official SDK reads as the same.
"""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    Choice,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    Losses,
    Message,
    Role,
    Started,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.usage import Usage
from daemon.protocols.openai_responses import OpenAIResponses, reply_error
from tests.protocols.openai_responses import sdk

API = OpenAIResponses()
ROOT = Path(__file__).parents[4] / "shared" / "fixtures"
INDEX = ROOT / "index.json"
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_bytes())["fixtures"] if entry["api"] == "openai.responses"]
    if INDEX.exists()
    else []
)
pytestmark = pytest.mark.skipif(not ENTRIES, reason="the recorded fixtures (../shared/fixtures) are not on this machine")
STREAMS = [entry for entry in ENTRIES if entry["stream"]]
REQUESTS = [entry for entry in ENTRIES if entry["request_file"]]
# One of the recordings is a chat completion, whatever its name says; one is an HTTP error.
REPLIES = [entry for entry in ENTRIES if not entry["stream"] and entry["finish"] == "completed"]
OTHERS = [entry for entry in ENTRIES if not entry["stream"] and entry["finish"] != "completed"]
CHAT = Chat("asked-for", (Message(Role.USER, (Text("hi"),)),), stream=True)


def named(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def content(entry: dict[str, Any], which: str = "response_file") -> bytes:
    return (ROOT / entry[which]).read_bytes()


def decoded(chunks: list[bytes]) -> tuple[list[Event], Any]:
    decoder = API.decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.flush(), decoder


def is_true(usage: Usage | None, true: dict[str, Any] | None) -> bool:
    if usage is None or true is None:
        return usage is None and true is None
    meters = usage.meters
    written = meters.get("cache_write_5m", 0) + meters.get("cache_write_1h", 0)
    found = (
        usage.input_tokens,
        meters.get("cached_input", 0),
        written,
        usage.output_tokens,
        usage.reasoning,
        usage.total_tokens,
    )
    names = ("input_total", "cached_read", "cache_write", "output_total", "reasoning", "total_reported")
    return found == tuple(true[name] for name in names)


@pytest.mark.parametrize("entry", STREAMS, ids=named)
def test_a_stream_decodes_the_same_however_it_is_cut(entry: dict[str, Any]) -> None:
    whole = content(entry)
    events, decoder = decoded([whole])
    rng = random.Random(entry["name"])
    for size in (1, 3, 50, 900):
        cuts = [0]
        while cuts[-1] < len(whole):
            cuts.append(cuts[-1] + rng.randint(1, size))
        assert decoded([whole[start:end] for start, end in pairwise(cuts)])[0] == events
    assert decoder.garbage == 0
    assert isinstance(events[0], Started)
    assert is_true(decoder.usage, entry["usage_true"])
    if entry["finish"] == "failed":
        assert isinstance(events[-1], Failed)
        assert events[-1].code == "insufficient_quota"
        assert Ended() not in events
    else:
        assert isinstance(events[-3], Finished)
        assert events[-2:] == [UsageReported(decoder.usage), Ended()]


@pytest.mark.parametrize("entry", STREAMS, ids=named)
def test_the_last_event_repeats_what_the_stream_said(entry: dict[str, Any]) -> None:
    events, _ = decoded([content(entry)])
    last = content(entry).rpartition(b"data: ")[2].partition(b"\n")[0]
    if entry["finish"] == "failed":
        failed = reply_error(json.loads(last)["response"])
        assert failed is not None
        assert failed.code == "insufficient_quota"
        return
    reply = API.decode_reply(json.loads(last)["response"])
    (choice,) = reply.choices
    assert text_of(choice) == "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [(part.id, part.name, part.arguments) for part in choice.parts if isinstance(part, ToolCall)]
    assert calls == calls_of(events)
    assert [choice.finish] == [event.reason for event in events if isinstance(event, Finished)]


@pytest.mark.parametrize("entry", REPLIES, ids=named)
def test_a_reply_decodes_with_its_true_usage_and_the_sdk_reads_what_is_encoded_of_it(entry: dict[str, Any]) -> None:
    body = json.loads(content(entry))
    reply = API.decode_reply(body)
    assert is_true(reply.usage, entry["usage_true"])
    assert reply.usage == API.usage_of(body)
    assert reply.choices[0].finish in (Finish.STOP, Finish.TOOL_CALLS)
    shown = sdk.reply(API.encode_reply(reply, "asked-for", Losses()))
    assert shown.model == "asked-for"
    assert shown.output_text == text_of(reply.choices[0])
    assert [item.arguments for item in shown.output if item.type == "function_call"] == [
        part.arguments for part in reply.choices[0].parts if isinstance(part, ToolCall)
    ]
    assert shown.usage.input_tokens == entry["usage_true"]["input_total"]
    assert shown.usage.output_tokens == entry["usage_true"]["output_total"]


@pytest.mark.parametrize("entry", [entry for entry in STREAMS if entry["finish"] == "completed"], ids=named)
def test_the_sdk_reads_what_is_encoded_of_a_stream(entry: dict[str, Any]) -> None:
    events, decoder = decoded([content(entry)])
    encoder = API.encoder(model="asked-for", id="1", created=1, chat=CHAT)
    final, seen = sdk.stream(b"".join(encoder.feed([event]) for event in events) + encoder.finish(decoder.usage))
    assert final.status == "completed"
    assert final.model == "asked-for"
    assert final.output_text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert final.output_text == "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    assert [(i.call_id, i.name, i.arguments) for i in final.output if i.type == "function_call"] == calls_of(events)
    assert final.usage.total_tokens == entry["usage_true"]["total_reported"]


@pytest.mark.parametrize("entry", OTHERS, ids=named)
def test_what_is_no_response_is_a_value_error(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no response"):
        API.decode_reply(json.loads(content(entry)))


@pytest.mark.parametrize("entry", REQUESTS, ids=named)
def test_a_recorded_request_goes_through_the_canonical_conversation_unchanged(entry: dict[str, Any]) -> None:
    body = json.loads(content(entry, "request_file"))
    if any(word in str(body.get("tools", "")) for word in ("file_search", "mcp")) or body.get("background"):
        pytest.skip("refused, as test_request says")
    chat = API.decode_request(body)
    losses = Losses()
    again = API.decode_request(API.encode_request(chat, chat.model, losses))
    assert losses.names == []
    tools = [tool.strict is True for tool in chat.tools]
    assert [tool.strict for tool in again.tools] == tools
    assert again.messages == chat.messages
    assert (again.reasoning, again.include_encrypted, again.stream) == (chat.reasoning, chat.include_encrypted, chat.stream)


def text_of(choice: Choice) -> str:
    return "".join(part.text for part in choice.parts if isinstance(part, Text))


def calls_of(events: list[Event]) -> list[tuple[str, str, str]]:
    found: dict[int, tuple[str, str, str]] = {}
    for event in events:
        if isinstance(event, ToolCallStarted):
            found[event.index] = (event.id, event.name, "")
        elif isinstance(event, ToolCallDelta):
            call_id, name, arguments = found[event.index]
            found[event.index] = (call_id, name, arguments + event.arguments)
    return list(found.values())
