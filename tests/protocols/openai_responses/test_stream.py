"""Streams: the order of events that the official SDKs and Codex CLI need, and providers that get it wrong."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from daemon.domain.chat import (
    Chat,
    Choice,
    CitationAdded,
    Ended,
    Event,
    Failed,
    Finish,
    Finished,
    LogprobsAdded,
    Losses,
    Media,
    MediaAdded,
    MediaKind,
    Message,
    Pinged,
    Refusal,
    RefusalDelta,
    Reply,
    Role,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_responses import OpenAIResponses, reply_error
from tests.protocols.openai_responses import sdk

API = OpenAIResponses()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True, tools=(Tool("patch", custom=True),))
START = Started("abc", "up", 7)
USAGE = Usage({"input": 3, "output": 2, "cached_input": 4}, 1)


def encoded(*events: Event, usage: Usage | None = USAGE) -> bytes:
    encoder = API.encoder(model="m", id="x", created=1, chat=CHAT)
    return encoder.feed([START, *events]) + encoder.finish(usage)


def parsed(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.partition(b"data: ")[2]) for frame in content.split(b"\n\n") if b"data: " in frame]


def decoded(*frames: dict[str, Any] | bytes) -> list[Event]:
    decoder = API.decoder()
    chunk = b"".join(
        frame if isinstance(frame, bytes) else b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames
    )
    return decoder.feed(chunk) + decoder.flush()


# -- what clients get


def test_every_kind_of_item_in_the_order_that_clients_need() -> None:
    content = encoded(
        ThinkingDelta("so"),
        ThinkingEnded("sig", origin="anthropic"),
        TextDelta("yes"),
        CitationAdded({"url": "https://x", "title": "X"}),
        RefusalDelta("no"),
        ToolCallStarted(0, "c1", "space_-_add"),
        ToolCallStarted(1, "c1", "sub"),
        ToolCallDelta(0, '{"a":'),
        ToolCallDelta(1, "{}"),
        ToolCallDelta(0, "1}"),
        Finished(Finish.TOOL_CALLS),
    )
    events = parsed(content)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.annotation.added",
        "output_text.done", "content_part.done",
        "content_part.added", "refusal.delta", "refusal.done", "content_part.done", "output_item.done",
        "output_item.added", "output_item.added",
        "function_call_arguments.delta", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    final, _ = sdk.stream(content)
    thought, message, add, sub = final.output
    assert (final.id, final.created_at, final.model) == ("resp_abc", 7, "m")
    assert (thought.summary[0].text, thought.encrypted_content) == ("so", "thought:anthropic:signature:sig")
    assert [part.type for part in message.content] == ["output_text", "refusal"]
    assert (message.content[0].annotations[0].url, message.content[0].annotations[0].end_index) == ("https://x", 3)
    assert (add.namespace, add.name, add.arguments, add.call_id) == ("space", "add", '{"a":1}', "c1")
    assert (sub.namespace, sub.name, sub.arguments, sub.call_id) == (None, "sub", "{}", "c1_1")
    assert (final.usage.input_tokens, final.usage.input_tokens_details.cached_tokens, final.usage.total_tokens) == (7, 4, 9)
    assert final.usage.output_tokens_details.reasoning_tokens == 1


def test_codex_finds_each_item_added_before_its_deltas_and_done_before_the_next_message() -> None:
    """Codex drops deltas without an active item, and a done item ends the active one."""
    content = encoded(
        ThinkingDelta("a"),
        TextDelta("b"),
        ToolCallStarted(0, "c", "f"),
        ToolCallDelta(0, "{}"),
        TextDelta("d"),
        ThinkingDelta("e"),
    )
    active: set[int] = set()
    for event in parsed(content):
        if event["type"] == "response.output_item.added":
            assert not active
            active.add(event["output_index"])
        elif event["type"] == "response.output_item.done":
            active.remove(event["output_index"])
        elif "output_index" in event:
            assert event["output_index"] in active
    assert not active


def test_a_call_without_arguments_and_one_with_a_signature() -> None:
    final, _ = sdk.stream(encoded(ToolCallStarted(0, "", "f", signature="google"), Finished(Finish.TOOL_CALLS)))
    thought, call = final.output
    assert thought.encrypted_content == "thought::call:google"
    assert (call.call_id, call.arguments) == ("call_0", "{}")


@pytest.mark.parametrize("arguments", ['{"input": "*** Begin"}', '{"patch": "*** Begin"}', "*** Begin"])
def test_a_custom_tool_is_one_again_where_the_provider_knew_none(arguments: str) -> None:
    """Stream and whole reply alike."""
    events = [ToolCallStarted(0, "c", "patch"), ToolCallDelta(0, arguments[:4]), ToolCallDelta(0, arguments[4:])]
    content = encoded(*events, Finished(Finish.TOOL_CALLS))
    final, _ = sdk.stream(content)
    deltas = [event["delta"] for event in parsed(content) if event["type"].endswith("input.delta")]
    reply = Reply("a", "up", 1, (Choice((ToolCall("c", "patch", arguments),), Finish.TOOL_CALLS),))
    shown = sdk.reply(API.encode_reply(reply, "m", Losses(), CHAT))
    for (call,) in (final.output, shown.output):
        assert (call.type, call.name, call.input) == ("custom_tool_call", "patch", "*** Begin")
    assert deltas == ["*** Begin"]


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (Finish.STOP, "completed", None),
        (Finish.STOP_SEQUENCE, "completed", None),
        (Finish.LENGTH, "incomplete", "max_output_tokens"),
        (Finish.PAUSE, "incomplete", "max_output_tokens"),
        (Finish.CONTENT_FILTER, "incomplete", "content_filter"),
        (Finish.REFUSAL, "incomplete", "content_filter"),  # without words of refusal the text was cut short
        (Finish.ERROR, "failed", None),
    ],
)
def test_why_a_reply_ended(finish: Finish, status: str, reason: str | None) -> None:
    last = parsed(encoded(TextDelta("x"), Finished(finish)))[-1]
    reply = Reply("a", "up", 1, (Choice((Text("x"),), finish),), USAGE)
    for response in (last["response"], API.encode_reply(reply, "m", Losses())):
        assert response["status"] == status
        assert response["incomplete_details"] == ({"reason": reason} if reason else None)
        assert response["output"][0]["status"] == ("completed" if status == "completed" else "incomplete")
        assert response["usage"]["total_tokens"] == 9
        assert (reply_error(response) is not None) == (status == "failed")
    assert last["type"] == f"response.{status}"


def test_refusal_in_words_is_complete() -> None:
    assert parsed(encoded(RefusalDelta("no"), Finished(Finish.REFUSAL)))[-1]["type"] == "response.completed"


@pytest.mark.parametrize("events", [[], [START], [START, TextDelta("hal")], [START, ToolCallStarted(0, "c", "f")]])
def test_a_stream_that_breaks_raises_in_the_sdk_and_never_looks_complete(events: list[Event]) -> None:
    encoder = API.encoder(model="m", id="x", created=1, chat=CHAT)
    content = encoder.feed(events) + encoder.fail(ApiError.of("upstream_error", provider="p", reason="it broke off"))
    with pytest.raises(openai.APIError, match="it broke off"):
        sdk.stream(content)
    *_, error, failed = parsed(content)
    assert (error["type"], error["code"], error["error"]["code"]) == ("error", "upstream_error", "upstream_error")
    assert (failed["type"], failed["response"]["status"], failed["response"]["error"]["code"]) == (
        "response.failed",
        "failed",
        "upstream_error",
    )
    again = decoded(content)
    assert Failed("The provider p failed: it broke off.", "upstream_error", "upstream_error") in again
    assert Ended() not in again


def test_own_encrypted_thoughts_keep_their_id_or_go_without_one() -> None:
    """OpenAI refuses encrypted content under another id than it gave."""
    end = ThinkingEnded(None, "gAAA", "rs_7", "openai_responses")
    shown, hidden = (sdk.stream(encoded(*events))[0].output[0] for events in ([ThinkingDelta("a"), end], [end]))
    assert (hidden.id, hidden.encrypted_content) == ("rs_7", "gAAA")
    assert (shown.id, shown.encrypted_content) == ("rs_abc_0", "thought:openai_responses:encrypted:gAAA")
    chat = API.decode_request({"model": "m", "input": [item.to_dict() for item in (shown, hidden)]})
    own = "openai_responses"
    assert chat.messages[0].parts == (Thinking("a", None, "gAAA", None, own), Thinking("", None, "gAAA", "rs_7", own))
    assert [item.get("id") for item in API.encode_request(chat, "up", Losses())["input"]] == [None, "rs_7"]


def test_empty_streams_pings_and_other_answers() -> None:
    assert parsed(encoded(usage=None))[-1]["response"]["usage"] is None
    assert parsed(encoded(UsageReported(USAGE), usage=None))[-1]["response"]["usage"]["total_tokens"] == 9
    assert b"\n\n: ping\n\n" in encoded(Pinged())
    assert parsed(encoded(TextDelta("other", choice=1), ThinkingEnded(), TextDelta("")))[-1]["response"]["output"] == []


def test_log_probabilities_stand_beside_their_text() -> None:
    one, two = [{"token": "a", "logprob": -1}], [{"token": "b", "logprob": -2}]
    content = encoded(TextDelta("a"), LogprobsAdded(one), TextDelta("b"), LogprobsAdded(two))
    deltas = [(event["delta"], event["logprobs"]) for event in parsed(content) if event["type"] == "response.output_text.delta"]
    assert deltas == [("a", one), ("b", two)]
    assert parsed(content)[-1]["response"]["output"][0]["content"][0]["logprobs"] == one + two


def test_generated_images_go_out_and_sound_is_named_as_lost() -> None:
    image, sound = Media(MediaKind.IMAGE, "image/webp", "AAAA"), Media(MediaKind.AUDIO, "audio/wav", "AAAA")
    final, _ = sdk.stream(encoded(MediaAdded(image), MediaAdded(sound)))
    assert [(item.type, item.result, item.output_format) for item in final.output] == [
        ("image_generation_call", "AAAA", "webp")
    ]
    losses = Losses()
    parts = (image, sound, Thinking("x", "s", "e", origin="anthropic"))
    two = (Choice(parts, Finish.STOP, stop_sequence="END"), Choice((), Finish.STOP))
    sdk.reply(API.encode_reply(Reply("a", "up", 1, two), "m", losses))
    assert set(losses.names) == {"audio", "choices", "stop_sequence", "thinking.encrypted"}


def test_half_a_surrogate_is_written_as_an_escape() -> None:
    assert b"\\ud83d" in encoded(TextDelta("\ud83d"))


# -- what providers send


DONE = {"type": "response.completed", "response": {"id": "r", "model": "up", "status": "completed", "output": []}}
CREATED = {"type": "response.created", "response": {"id": "r", "model": "up", "created_at": 5.0, "output": []}}
BEGUN = Started("r", "up", 5)


def text(delta: str, index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": delta}


def done(item: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def message(said: str, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": said}], **fields}


CALL = {"type": "function_call", "id": "f1", "call_id": "c", "name": "add", "arguments": '{"a":1}'}


def test_a_duplicated_start_counts_once_and_a_missing_one_is_made_up() -> None:
    assert decoded(CREATED, CREATED, text("a"), DONE) == [BEGUN, TextDelta("a"), Finished(Finish.STOP), Ended()]
    assert decoded(text("a"), CREATED, DONE) == [Started("", "", 0), TextDelta("a"), Finished(Finish.STOP), Ended()]


def test_what_deltas_left_out_comes_from_what_is_done() -> None:
    assert decoded(CREATED, text("he"), done(message("hello")))[1:] == [TextDelta("he"), TextDelta("llo")]
    assert decoded(CREATED, text("hx"), done(message("hello")))[1:] == [TextDelta("hx")]  # a frame was lost: nothing twice
    whole = {**DONE, "response": {**DONE["response"], "output": [message("hello"), CALL]}}  # type: ignore[dict-item]
    assert decoded(CREATED, text("he"), whole)[1:-2] == [
        TextDelta("he"),
        TextDelta("llo"),
        ToolCallStarted(0, "c", "add"),
        ToolCallDelta(0, '{"a":1}'),
    ]
    assert decoded(CREATED, text("hello"), done(message("hello")), done(CALL, 1), whole)[1:-2] == [
        TextDelta("hello"),
        ToolCallStarted(0, "c", "add"),
        ToolCallDelta(0, '{"a":1}'),
    ]


def test_a_call_whose_start_was_lost_is_whole_when_done() -> None:
    delta = {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "f1", "delta": '{"a"'}
    assert decoded(CREATED, delta, done(CALL))[1:] == [ToolCallStarted(0, "c", "add"), ToolCallDelta(0, '{"a":1}')]


def test_items_are_told_apart_by_id_where_a_host_sends_no_index() -> None:
    first, second = {**CALL, "arguments": ""}, {**CALL, "id": "f2", "call_id": "d", "arguments": ""}
    added = [{"type": "response.output_item.added", "item": item} for item in (first, second)]
    deltas = [
        {"type": "response.function_call_arguments.delta", "item_id": item_id, "delta": delta}
        for item_id, delta in (("f2", "2"), ("f1", "1"))
    ]
    assert decoded(CREATED, *added, *deltas, DONE)[1:] == [
        ToolCallStarted(0, "c", "add"),
        ToolCallStarted(1, "d", "add"),
        ToolCallDelta(1, "2"),
        ToolCallDelta(0, "1"),
        Finished(Finish.TOOL_CALLS),
        Ended(),
    ]


def test_a_host_that_numbers_every_item_0() -> None:
    other = {**CALL, "id": "f2", "call_id": "d"}
    added = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}} for item in (CALL, other)
    ]
    found = decoded(CREATED, added[0], done(CALL), added[1], done(other))
    assert [event.id for event in found if isinstance(event, ToolCallStarted)] == ["c", "d"]
    assert [event.arguments for event in found if isinstance(event, ToolCallDelta)] == ['{"a":1}'] * 2


def test_thoughts_in_summary_and_in_full() -> None:
    def delta(kind: str, index: str, number: int, said: str) -> dict[str, Any]:
        return {"type": f"response.{kind}.delta", "output_index": 0, index: number, "delta": said}

    summary = [
        delta("reasoning_summary_text", "summary_index", number, said) for number, said in ((0, "a"), (0, "b"), (1, "c"))
    ]
    item = {"type": "reasoning", "id": "rs", "summary": [{"text": "ab"}, {"text": "c"}], "encrypted_content": "gAAA"}
    raw = delta("reasoning_text", "content_index", 0, "raw")
    end = ThinkingEnded(None, "gAAA", "rs", "openai_responses")
    said = [ThinkingDelta("a"), ThinkingDelta("b"), ThinkingDelta("\n\nc")]
    assert decoded(CREATED, *summary, raw, done(item))[1:] == [*said, end]
    assert decoded(CREATED, done(item))[1:] == [ThinkingDelta("ab"), ThinkingDelta("\n\nc"), end]
    assert decoded(CREATED, raw, done({"type": "reasoning", "summary": [], "content": []}))[1:] == [
        ThinkingDelta("raw"),
        ThinkingEnded(),
    ]
    assert decoded(CREATED, done({"type": "reasoning", "summary": []}))[1:] == []


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "error", "code": "c", "message": "no", "param": None},
        {"type": "error", "error": {"type": "t", "code": "c", "message": "no"}},
        {"error": {"type": "t", "code": "c", "message": "no"}},
        {"type": "response.failed", "response": {"error": {"code": "c", "message": "no"}}},
        b'event: error\ndata: {"code":"c","message":"no"}\n\n',
    ],
)
def test_an_error_inside_a_stream_fails_it_once(frame: dict[str, Any] | bytes) -> None:
    found = decoded(CREATED, frame, {"type": "response.failed", "response": {"error": {"code": "z"}}}, text("late"), DONE)
    assert found[0] == BEGUN
    (failed,) = found[1:]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == ("c", "no")


def test_usage_that_cannot_be_true_is_not_believed() -> None:
    decoder = API.decoder()
    usage = {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 5}}
    frame = {**DONE, "response": {**DONE["response"], "usage": usage}}  # type: ignore[dict-item]
    events = decoder.feed(b"data: " + json.dumps(frame).encode() + b"\n\n")
    assert (decoder.usage, events[-2:]) == (None, [Finished(Finish.STOP), Ended()])
    assert "larger" in decoder.usage_invalid


def test_a_failed_response_still_tells_its_usage() -> None:
    decoder = API.decoder()
    usage = {"input_tokens": 9, "output_tokens": 2}
    frames = [{"type": "error", "message": "no"}, {"type": "response.failed", "response": {"usage": usage}}]
    decoder.feed(b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames))
    assert decoder.usage == Usage({"input": 9, "output": 2})


def test_garbage_comments_and_a_missing_last_blank_line() -> None:
    decoder = API.decoder()
    tail = b"data: " + json.dumps(DONE).encode()
    assert decoder.feed(b": keep-alive\n\ndata: {oops\n\ndata: [1]\n\n" + tail) == [Pinged()]
    assert decoder.garbage == 2
    assert decoder.flush() == [Started("r", "up", 0), Finished(Finish.STOP), Ended()]
    cut = API.decoder()
    assert (cut.feed(tail[:-9]), cut.flush(), cut.garbage) == ([], [], 1)


def test_an_event_without_end_fails_the_stream() -> None:
    decoder = API.decoder()
    found: list[Event] = []
    for _ in range(18):
        found += decoder.feed(b"x" * 1024 * 1024)
    assert [type(event) for event in found] == [Failed]


def test_whole_replies() -> None:
    body = {
        "id": "r", "model": "up", "created_at": 3, "object": "response", "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [message("hi"), {"type": "message", "content": [{"type": "refusal", "refusal": "no"}]},
                   {"type": "web_search_call"}, "?"],
        "usage": {"input_tokens": True, "output_tokens": 1},
    }  # fmt: skip
    assert API.decode_reply(body) == Reply("r", "up", 3, (Choice((Text("hi"), Refusal("no")), Finish.LENGTH),))
    for status in ("queued", "in_progress", 7):
        with pytest.raises(ValueError, match="not ended"):
            API.decode_reply({**body, "status": status})
    failed = {**body, "status": "failed", "error": {"code": "server_error", "message": "no"}}
    assert API.decode_reply(failed).choices[0].finish is Finish.ERROR
    assert reply_error(failed) == Failed("no", "", "server_error")
