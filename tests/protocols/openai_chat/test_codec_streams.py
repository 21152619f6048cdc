"""Streams: habits of hosts as events, and events as chunks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    Media,
    MediaAdded,
    MediaKind,
    Pinged,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import OpenAIChat
from tests.support.chat_codec import ASKED, cuts, decoded, encoded, summary

HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "up"}
START = Started("c-1", "up", 5)


def frame(delta: Any = None, reason: str | None = None, choice: int = 0, **more: Any) -> bytes:
    item = {"index": choice, "delta": delta or {}, "finish_reason": reason}
    return b"data: " + json.dumps({**HEAD, "choices": [item], **more}).encode() + b"\n\n"


def events_of(*frames: bytes) -> list[Event]:
    stream = b"".join(frames)
    first, _ = decoded([stream])
    for chunks in cuts(stream):
        assert decoded(chunks)[0] == first
    return first


DONE = b"data: [DONE]\n\n"


def call(index: int | None = 0, id: str | None = None, name: str | None = None, text: str | None = None) -> dict[str, Any]:
    item: dict[str, Any] = {"function": {}}
    if index is not None:
        item["index"] = index
    if id is not None:
        item["id"] = id
    if name is not None:
        item["function"]["name"] = name
    if text is not None:
        item["function"]["arguments"] = text
    return {"tool_calls": [item]}


def test_a_plain_stream() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    last = b"data: " + json.dumps({**HEAD, "choices": [], "usage": usage}).encode() + b"\n\n"
    frames = [frame({"role": "assistant", "content": ""}), frame({"content": "Hi 🙂"}), frame(reason="stop"), last, DONE]
    assert events_of(*frames) == [
        START, TextDelta("Hi 🙂"), Finished(Finish.STOP), UsageReported(Usage({"input": 3, "output": 2})), Ended(),
    ]  # fmt: skip


def test_thoughts_end_where_words_begin() -> None:
    found = events_of(frame({"reasoning_content": "a"}), frame({"reasoning": "b"}), frame({"content": "x"}), DONE)
    assert found == [START, ThinkingDelta("a"), ThinkingDelta("b"), ThinkingEnded(), TextDelta("x"), Ended()]


def test_openrouters_reasoning_details() -> None:
    def detail(text: str = "", **more: Any) -> dict[str, Any]:
        return {"type": "reasoning.text", "text": text, "format": "anthropic-claude-v1", "index": 0, **more}

    found = events_of(
        frame({"reasoning": "a", "reasoning_details": [detail("a")]}),
        frame({"reasoning": "a", "reasoning_details": [detail("a")]}),
        frame({"reasoning": None, "reasoning_details": [detail(signature="s")]}),
        frame({"content": "x"}),
    )
    ended = ThinkingEnded("s", origin="anthropic_messages")
    assert found == [START, ThinkingDelta("a"), ThinkingDelta("a"), ended, TextDelta("x")]


def test_tool_calls_interleaved() -> None:
    found = events_of(
        frame(call(0, "a", "f", "")), frame(call(1, "b", "g")), frame(call(0, text="{")), frame(call(1, text="[")),
        frame(call(0, text="}")), frame(reason="tool_calls"), DONE,
    )  # fmt: skip
    assert found == [
        START, ToolCallStarted(0, "a", "f"), ToolCallStarted(1, "b", "g"), ToolCallDelta(0, "{"), ToolCallDelta(1, "["),
        ToolCallDelta(0, "}"), Finished(Finish.TOOL_CALLS), Ended(),
    ]  # fmt: skip


TWO = [["a", "f", False, None, "{}"], ["b", "g", False, None, "[]"]]


@pytest.mark.parametrize(
    "frames",
    [
        [call(0, "a", "f", "{}"), call(0, "b", "g", "[]")],
        [call(None, "a", "f", "{}"), call(None, "b", "g", "[]")],
        [call(None, "a", "f"), call(None, text="{}"), call(None, "b", "g"), call(None, text="[]")],
        [call(3, "a", "f", "{}"), call(7, "b", "g", "[]")],
        [call(0, "a", text="{"), call(0, name="f"), call(0, text="}"), call(1, "b", "g", "[]")],
        [call(0, "a", "f", "{"), call(0, "a", "f", "}"), call(1, "b", "g", "[]")],
    ],
    ids=["same index", "no index", "no index in pieces", "gaps", "name later", "name repeated"],
)
def test_tool_calls_of_sloppy_hosts(frames: list[dict[str, Any]]) -> None:
    found = summary(events_of(*(frame(delta) for delta in frames), frame(reason="stop"), DONE))[0]
    assert list(found["calls"].values()) == TWO
    assert found["finish"] == (Finish.TOOL_CALLS, None)


def test_a_call_without_an_id_gets_one() -> None:
    assert events_of(frame(call(0, "", "f", "{}")))[1] == ToolCallStarted(0, "call_c-1_0", "f")


def test_legacy_custom_refusal_and_stop_sequence() -> None:
    legacy = [{"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"arguments": "}"}}]
    assert events_of(*map(frame, legacy))[1:] == [
        ToolCallStarted(0, "call_c-1_0", "f"), ToolCallDelta(0, "{"), ToolCallDelta(0, "}"),
    ]  # fmt: skip
    custom = {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]}
    assert events_of(frame(custom))[1:] == [ToolCallStarted(0, "a", "f", custom=True), ToolCallDelta(0, "x")]
    assert events_of(frame({"refusal": "no"}), frame(reason="stop"))[1:] == [RefusalDelta("no"), Finished(Finish.REFUSAL)]
    item = {"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "END"}
    ended = b"data: " + json.dumps({**HEAD, "choices": [item]}).encode() + b"\n\n"
    assert events_of(ended)[1:] == [Finished(Finish.STOP_SEQUENCE, "END")]


def test_media_and_citations() -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "X", "start_index": 0, "end_index": 1}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    found = events_of(
        frame({"content": "x", "annotations": [note], "images": [image]}),
        frame({"audio": {"id": "a", "data": "AAA="}}), frame({"audio": {"data": "AQ=="}}), frame(reason="stop"),
    )  # fmt: skip
    assert found[1:] == [
        TextDelta("x"), MediaAdded(Media(MediaKind.IMAGE, "image/png", "AAAA")),
        CitationAdded({"url": "https://x", "title": "X", "start": 0, "end": 1}),
        MediaAdded(Media(MediaKind.AUDIO, data="AAAB")), Finished(Finish.STOP),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "broken",
    [
        b'data: {"error":{"message":"m","type":"t","code":400}}\n\n',
        b'event: error\ndata: {"message":"m","type":"t","code":400}\n\n',
        b'data: {"object":"error","message":"m","type":"t","code":400}\n\n',
    ],
)
def test_an_error_ends_the_stream_and_the_usage_is_still_read(broken: bytes) -> None:
    usage = frame(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    stream = frame({"content": "x"}) + broken + usage + DONE
    events, decoder = decoded([stream])
    assert events == [START, TextDelta("x"), Failed("m", "t", "400")]
    assert decoder.usage == Usage({"input": 3, "output": 2})


def test_garbage_is_counted_and_skipped() -> None:
    events, decoder = decoded([frame({"content": "a"}), b"data: {\n\n", b"data: 5\n\n", b": hi\n\n", frame({"content": "b"})])
    assert events == [START, TextDelta("a"), Pinged(), TextDelta("b")]
    assert decoder.garbage == 2


def test_a_line_without_end_fails() -> None:
    events, _ = decoded([frame({"content": "a"}), b"data: " + b"x" * (1024 * 1024 + 10)])
    assert [type(event) for event in events] == [Started, TextDelta, Failed]


def test_unbelievable_usage_and_choices() -> None:
    events, decoder = decoded([frame({"content": "a"}, choice=10**9, usage={"prompt_tokens": -1}), DONE])
    assert events == [START, TextDelta("a"), Ended()]
    assert decoder.usage is None
    assert "prompt_tokens" in decoder.usage_invalid


def test_a_done_without_a_blank_line_ends() -> None:
    assert decoded([frame({"content": "a"}), b"data: [DONE]"])[0][-1] == Ended()
    assert Ended() not in decoded([frame({"content": "a"}), frame(reason="stop")])[0]


# -- for a client


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    frames = stream.split(b"\n\n")
    assert frames[-2:] == [b"data: [DONE]", b""]
    return [json.loads(item.removeprefix(b"data: ")) for item in frames[:-2] if not item.startswith(b":")]


def test_the_first_chunk_has_the_role_and_all_have_one_id() -> None:
    found = chunks_of(encoded([START, TextDelta("x"), Finished(Finish.STOP)], Chat("m", ())))
    assert found[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in found} == {("c-1", 5, "shown")}
    assert all("usage" not in chunk for chunk in found)
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


def test_what_the_events_lack_is_given() -> None:
    for events in ([Started("", "", 0), TextDelta("x")], [TextDelta("x")], []):
        found = chunks_of(encoded(events))
        assert {(chunk["id"], chunk["created"]) for chunk in found} == {("given-id", 99)}
        assert found[-1]["choices"][0]["finish_reason"] == "stop"


def test_usage_comes_only_when_asked_for() -> None:
    usage = Usage({"input": 3, "output": 2})
    events = [START, TextDelta("x"), UsageReported(usage), Finished(Finish.STOP)]
    last = chunks_of(encoded(events))[-1]
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 5
    assert chunks_of(encoded(events, usage=Usage({"input": 30, "output": 2})))[-1]["usage"]["total_tokens"] == 32
    assert all(chunk["choices"] for chunk in chunks_of(encoded(events, Chat("m", ()), usage)))


def test_an_error_frame_and_nothing_after_it() -> None:
    encoder = OpenAIChat().encoder(model="m", id="i", created=1, chat=ASKED)
    encoder.feed([START, TextDelta("x")])
    assert encoder.fail(ApiError.of("internal_error")).startswith(b'data: {"error":{')
    assert encoder.feed([TextDelta("y")]) == encoder.finish(None) == encoder.fail(ApiError.of("internal_error")) == b""


def test_choices_begin_in_order() -> None:
    found = chunks_of(encoded([START, TextDelta("x", 2)]))
    assert [chunk["choices"][0]["index"] for chunk in found[:4]] == [0, 1, 2, 2]


def test_a_legacy_client_gets_function_call() -> None:
    chat = Chat("m", (), legacy_functions=True)
    events: list[Event] = [START, ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}"), ToolCallStarted(1, "b", "g")]
    found = chunks_of(encoded([*events, ToolCallDelta(1, "{}"), Finished(Finish.TOOL_CALLS)], chat))
    deltas = [chunk["choices"][0]["delta"] for chunk in found[1:]]
    assert deltas == [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}, {}]
    assert found[-1]["choices"][0]["finish_reason"] == "function_call"


def test_pings_are_comments() -> None:
    assert encoded([Pinged(), START]).startswith(b": ping\n\ndata: {")
