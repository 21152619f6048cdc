"""Recorded replies of real hosts through the codec: usage is the true one, the SDK reads what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from daemon.domain.chat import Choice, Ended, Failed, Losses, Refusal, Started, Text, Thinking, ToolCall
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import HABITS, OpenAIChat
from daemon.protocols.openai_chat.usage import reply_text
from tests.support.chat_codec import cuts, decoded, encoded, summary

ROOT = Path(__file__).parents[4] / "shared" / "fixtures"
INDEX = ROOT / "index.json"
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_bytes())["fixtures"] if entry["api"] == "openai.chat"] if INDEX.exists() else []
)
pytestmark = pytest.mark.skipif(not ENTRIES, reason="the recorded fixtures (../shared/fixtures) are not on this machine")
REPLIES = [entry for entry in ENTRIES if not entry["stream"] and entry["status"] == 200]
ERRORS = [entry for entry in ENTRIES if not entry["stream"] and entry["status"] != 200]
STREAMS = [entry for entry in ENTRIES if entry["stream"]]
REQUESTS = [entry for entry in ENTRIES if entry["request_file"]]
PROTOCOL = OpenAIChat()


def named(entry: dict[str, Any]) -> str:
    return str(entry["name"])


def content(entry: dict[str, Any], which: str = "response_file") -> bytes:
    return (ROOT / entry[which]).read_bytes()


def check(usage: Usage | None, true: dict[str, Any]) -> None:
    assert usage is not None
    assert {
        "input_total": usage.input_tokens,
        "cached_read": usage.meters.get("cached_input", 0),
        "cache_write": usage.meters.get("cache_write_5m", 0),
        "output_total": usage.output_tokens,
        "reasoning": usage.reasoning,
    } == {name: true[name] for name in ("input_total", "cached_read", "cache_write", "output_total", "reasoning")}


def sdk(body: bytes, kind: str) -> openai.OpenAI:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers={"content-type": kind}, content=body))
    return openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9/v1", http_client=httpx.Client(transport=transport))


def words(choice: Choice) -> str:
    """As reply_text counts them."""
    groups = (Thinking, Text, Refusal)
    texts = ["".join(part.text for part in choice.parts if isinstance(part, kind)) for kind in groups]
    texts += [part.name + part.arguments for part in choice.parts if isinstance(part, ToolCall)]
    return "\n".join(text for text in texts if text)


@pytest.mark.parametrize("entry", REPLIES, ids=named)
def test_a_reply_keeps_its_words_and_usage(entry: dict[str, Any]) -> None:
    body = json.loads(content(entry))
    reply = PROTOCOL.decode_reply(body)
    check(reply.usage, entry["usage_true"])
    assert "\n".join(words(choice) for choice in reply.choices) == reply_text(body)
    assert all(part.id for choice in reply.choices for part in choice.parts if isinstance(part, ToolCall))
    written = PROTOCOL.encode_reply(reply, "shown", Losses())
    assert PROTOCOL.decode_reply(written).choices == reply.choices
    check(PROTOCOL.usage_of(written), entry["usage_true"])
    read: Any = sdk(json.dumps(written).encode(), "application/json").chat.completions.create(model="m", messages=[])
    assert read.choices[0].finish_reason == body["choices"][0]["finish_reason"]
    assert (read.choices[0].message.content or "") == (body["choices"][0]["message"].get("content") or "")


@pytest.mark.parametrize("entry", ERRORS, ids=named)
def test_an_error_is_no_reply(entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PROTOCOL.decode_reply(json.loads(content(entry)))


@pytest.mark.parametrize("entry", STREAMS, ids=named)
def test_a_stream_keeps_its_words_and_usage_in_any_chunking(entry: dict[str, Any]) -> None:
    stream = content(entry)
    first, _ = decoded([stream])
    for chunks in cuts(stream):
        events, decoder = decoded(chunks)
        assert events == first
        check(decoder.usage, entry["usage_true"])
        assert decoder.garbage == 0
    assert sum(isinstance(event, Started) for event in first) == 1
    broken = any(isinstance(event, Failed) for event in first)
    assert broken == ("midstream_error" in entry["features"])
    assert isinstance(first[-1], Failed if broken else Ended)


@pytest.mark.parametrize("entry", [entry for entry in STREAMS if "midstream_error" not in entry["features"]], ids=named)
def test_the_sdk_reads_what_a_stream_becomes(entry: dict[str, Any]) -> None:
    events, decoder = decoded([content(entry)])
    said = summary(events)
    out = encoded(events, usage=decoder.usage)
    back = summary(decoded([out])[0])
    for number, choice in back.items():
        assert [note["url"] for note in choice.pop("notes")] == [note["url"] for note in said[number].pop("notes")]
    assert back == said
    with sdk(out, "text/event-stream").chat.completions.stream(model="m", messages=[]) as stream:
        for _ in stream:
            pass
        final: Any = stream.get_final_completion()
    assert len(final.choices) == len(said)
    for number, choice in enumerate(final.choices):
        assert choice.message.content == said[number]["text"]
        calls = [[call.id, call.function.name, call.function.arguments] for call in choice.message.tool_calls or []]
        assert calls == [[id, name, text] for id, name, _, _, text in said[number]["calls"].values()]
    assert final.usage.prompt_tokens == entry["usage_true"]["input_total"]
    assert final.usage.completion_tokens == entry["usage_true"]["output_total"]


@pytest.mark.parametrize("entry", REQUESTS, ids=named)
def test_a_request_is_decoded_and_encoded(entry: dict[str, Any]) -> None:
    body = json.loads(content(entry, "request_file"))
    try:
        chat = PROTOCOL.decode_request(body)
    except ApiError as error:
        pytest.fail(error.message)
    assert chat.model == body["model"]
    again = OpenAIChat(HABITS["openrouter"]).encode_request(chat, chat.model, Losses())
    assert PROTOCOL.decode_request(again).messages == chat.messages
