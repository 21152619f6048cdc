"""Streams of hosts that do not keep to the rules: what can be read is read, and nothing broken looks complete."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Failed,
    Finish,
    Finished,
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
from daemon.protocols.anthropic_messages import AnthropicMessages, Decoder

API = AnthropicMessages()
START = {"message": {"id": "i", "model": "m", "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "output_tokens": 1}}}


def frame(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def start(index: int, kind: str, **fields: Any) -> bytes:
    return frame("content_block_start", index=index, content_block={"type": kind, **fields})


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return frame("content_block_delta", index=index, delta={"type": kind, **fields})


def stop(index: int) -> bytes:
    return frame("content_block_stop", index=index)


def end(reason: str | None = "end_turn", **usage: Any) -> bytes:
    return frame("message_delta", delta={"stop_reason": reason}, usage=usage)


BEGIN = frame("message_start", **START)
HELLO = start(0, "text", text="") + delta(0, "text_delta", text="Hello") + stop(0)
STOP = frame("message_stop")


def read(stream: bytes) -> tuple[list[Event], Decoder]:
    decoder = API.decoder()
    return decoder.feed(stream) + decoder.flush(), decoder


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_the_last_delta_tells_the_usage() -> None:
    events, decoder = read(
        BEGIN + HELLO + end(None, output_tokens=5) + end(None, output_tokens=12) + end(output_tokens=20) + STOP
    )
    assert decoder.usage == Usage({"input": 9, "cached_input": 4, "output": 20})
    assert [event.usage.output_tokens for event in events if isinstance(event, UsageReported)] == [5, 12, 20]
    assert kinds(events)[-3:] == ["Finished", "UsageReported", "Ended"]


def test_deltas_may_repeat_null_or_leave_out_what_the_start_said() -> None:
    _, decoder = read(BEGIN + end(input_tokens=None, cache_read_input_tokens=6, output_tokens=2) + STOP)
    assert decoder.usage == Usage({"input": 9, "cached_input": 6, "output": 2})


def test_without_a_delta_the_start_tells_the_usage() -> None:
    events, decoder = read(BEGIN + HELLO)
    assert decoder.usage == Usage({"input": 9, "cached_input": 4, "output": 1})
    assert kinds(events) == ["Started", "TextDelta"]


@pytest.mark.parametrize(
    "bad", [{"output_tokens": -1}, {"output_tokens": True}, {"output_tokens": 10**10}, {"iterations": [1]}]
)
def test_usage_that_cannot_be_true_is_not_believed(bad: dict[str, Any]) -> None:
    events, decoder = read(BEGIN + end(**bad) + STOP)
    assert decoder.usage == Usage({"input": 9, "cached_input": 4, "output": 1})
    assert decoder.usage_invalid
    assert kinds(events) == ["Started", "Finished", "Ended"]


def test_usage_is_the_sum_of_the_iterations_unless_the_top_is_more() -> None:
    iterations = [{"input_tokens": 100, "output_tokens": 8}, {"input_tokens": 9, "output_tokens": 2}]
    assert API.usage_of({"usage": {"input_tokens": 9, "output_tokens": 2, "iterations": iterations}}) == Usage(
        {"input": 109, "output": 10}
    )
    assert API.usage_of({"usage": {"input_tokens": 900, "output_tokens": 2, "iterations": iterations}}) == Usage(
        {"input": 900, "output": 2}
    )


def test_cache_writes_divide_by_time() -> None:
    found = {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 30}
    times = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    assert API.usage_of({"usage": {**found, "cache_creation": times}}) == Usage(
        {"input": 1, "output": 2, "cache_write_5m": 10, "cache_write_1h": 20}
    )
    assert API.usage_of({"usage": found}) == Usage({"input": 1, "output": 2, "cache_write_5m": 30})
    assert API.usage_of({"content": []}) is None


def test_a_second_start_does_not_start_again() -> None:
    events, decoder = read(BEGIN + HELLO + end(output_tokens=3) + BEGIN + STOP)
    assert sum(isinstance(event, Started) for event in events) == 1
    assert decoder.usage == Usage({"input": 9, "cached_input": 4, "output": 3})


def test_a_missing_start_is_made_up_for() -> None:
    events, decoder = read(HELLO + end(input_tokens=1, output_tokens=2) + STOP)
    assert events[:2] == [Started("", "", 0), TextDelta("Hello")]
    assert decoder.usage == Usage({"input": 1, "output": 2})


def test_garbage_is_counted_and_skipped() -> None:
    noise = (
        b"data: {\n\n"
        + b"data: [1]\n\n"
        + b"event: message_stop\ndata: \xff\n\n"
        + b"data: [DONE]\n\n"
        + frame("future", usage={})
    )
    events, decoder = read(BEGIN + noise + HELLO + STOP)
    assert decoder.garbage == 3
    assert kinds(events) == ["Started", "TextDelta", "Ended"]


def test_what_comes_after_the_end_means_nothing() -> None:
    events, decoder = read(BEGIN + STOP + HELLO + end(output_tokens=7) + STOP + frame("error", error={}))
    assert kinds(events) == ["Started", "Ended"]
    assert decoder.usage == Usage({"input": 9, "cached_input": 4, "output": 1})
    assert decoder.feed(BEGIN) == []


def test_an_error_in_a_stream_is_not_its_end() -> None:
    error = frame("error", error={"type": "overloaded_error", "message": "Overloaded"})
    events, _ = read(BEGIN + HELLO + error + STOP)
    assert events[-1] == Failed("Overloaded", "overloaded_error")
    assert kinds(events) == ["Started", "TextDelta", "Failed"]


def test_an_error_without_a_type_is_one() -> None:
    for stream in (
        b'event: error\ndata: {"message":"x"}\n\n',
        b'data: {"error":"x"}\n\n',
        b'data: {"error":{"message":"x"}}\n\n',
    ):
        assert read(stream)[0] == [Failed("x")]


def test_an_event_without_end_ends_the_stream() -> None:
    decoder = API.decoder()
    events = [event for _ in range(20) for event in decoder.feed(b"data: " + b"x" * 1024 * 1024)]
    assert kinds(events) == ["Failed"]


def test_a_stream_may_end_without_the_last_blank_line() -> None:
    events, _ = read(BEGIN + HELLO + STOP.rstrip())
    assert kinds(events) == ["Started", "TextDelta", "Ended"]
    assert kinds(read(BEGIN + HELLO + STOP[:-9])[0]) == ["Started", "TextDelta"]


def test_comments_and_pings_keep_alive() -> None:
    assert kinds(read(b": hi\n\n" + frame("ping") + BEGIN)[0]) == ["Pinged", "Pinged", "Started"]


def test_a_call_that_comes_whole_is_a_delta() -> None:
    stream = (
        BEGIN
        + start(0, "tool_use", id="a", name="f", input={"x": 1})
        + stop(0)
        + start(1, "tool_use", id="b", name="g", input={})
    )
    events, _ = read(stream + stop(1) + start(2, "tool_use", id="c", name="h", input={"y": 2}) + end("tool_use") + STOP)
    assert events[1:-3] == [
        ToolCallStarted(0, "a", "f"),
        ToolCallDelta(0, '{"x":1}'),
        ToolCallStarted(1, "b", "g"),
        ToolCallDelta(1, "{}"),
        ToolCallStarted(2, "c", "h"),
        ToolCallDelta(2, '{"y":2}'),
    ]


def test_the_tools_of_the_host_are_passed_over() -> None:
    hosted = start(0, "server_tool_use", id="s", name="web_search", input={}) + delta(
        0, "input_json_delta", partial_json='{"q":1}'
    )
    found = start(1, "web_search_tool_result", tool_use_id="s", content=[])
    cited = delta(2, "citations_delta", citation={"type": "web_search_result_location", "url": "https://u", "cited_text": "c"})
    events, decoder = read(
        BEGIN + hosted + stop(0) + found + stop(1) + cited + delta(2, "text_delta", text="So.")
        + end(output_tokens=3, server_tool_use={"web_search_requests": 2, "web_fetch_requests": 0})
    )  # fmt: skip
    assert events[1:3] == [CitationAdded({"url": "https://u", "text": "c"}), TextDelta("So.")]
    assert decoder.usage.meters["hosted_call/web_search"] == 2


def test_a_thought_ends_when_the_next_block_begins() -> None:
    stream = BEGIN + start(0, "thinking", thinking="a") + delta(0, "thinking_delta", thinking="b")
    events, _ = read(stream + delta(0, "signature_delta", signature="s") + HELLO.replace(b'"index": 0', b'"index": 1'))
    assert events[1:] == [
        ThinkingDelta("a"),
        ThinkingDelta("b"),
        ThinkingEnded("s", origin="anthropic_messages"),
        TextDelta("Hello"),
    ]


def test_the_words_of_a_refusal_come_before_its_end() -> None:
    refused = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "Not this."}}
    events, _ = read(BEGIN + frame("message_delta", delta=refused))
    assert events[1:] == [RefusalDelta("Not this."), Finished(Finish.REFUSAL)]


def test_the_service_tier_is_known_at_the_end() -> None:
    assert (
        read(frame("message_start", message={"usage": {"input_tokens": 1, "service_tier": "standard"}}))[1].service_tier
        == "default"
    )


# -- written for a client


def encoder() -> Any:
    return API.encoder(model="shown", id="msg_1", created=1, chat=Chat("m", ()))


def test_an_empty_reply_is_a_whole_message() -> None:
    events, decoder = read(encoder().finish(Usage({"input": 3, "output": 0})))
    assert kinds(events) == ["Started", "Finished", "UsageReported", "Ended"]
    assert decoder.usage == Usage({"input": 3, "output": 0})


def test_other_answers_have_no_place() -> None:
    written = encoder().feed([TextDelta("a"), TextDelta("b", choice=1), Finished(Finish.LENGTH, choice=1)])
    assert [event for event in read(written)[0] if isinstance(event, TextDelta)] == [TextDelta("a")]


def test_a_broken_stream_does_not_look_complete() -> None:
    found = encoder()
    written = found.feed([TextDelta("a")]) + found.fail(ApiError.of("upstream_timeout", provider="p"))
    assert kinds(read(written)[0]) == ["Started", "TextDelta", "Failed"]
    assert b"message_stop" not in written


def test_a_ping_is_written() -> None:
    assert encoder().feed([Pinged()]) == b'event: ping\ndata: {"type": "ping"}\n\n'


def test_calls_close_one_after_the_other() -> None:
    found = encoder()
    written = found.feed(
        [ToolCallStarted(0, "a", "f"), ToolCallDelta(0, '{"x":'), ToolCallDelta(0, "1}"), ToolCallStarted(1, "b", "g")]
    )
    types = [json.loads(part.split(b"data: ")[1])["type"] for part in written.split(b"\n\n") if part]
    assert types[1:] == ["content_block_start", *["content_block_delta"] * 2, "content_block_stop", "content_block_start"]
