"""What is encoded decodes to the same; bytes may be cut anywhere; nonsense never raises."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.chat import Chat, Ended, Event, Losses, Message, Reply, Role, Text, ToolCallDelta, UsageReported
from daemon.domain.errors import ApiError
from daemon.protocols.anthropic_messages import AnthropicMessages, count_request, read_error
from daemon.protocols.anthropic_messages.seals import open_thinking, seal
from daemon.protocols.anthropic_messages.tables import BLOCKS, REQUEST, TOOLS
from tests.protocols.anthropic_messages import drawn

API = AnthropicMessages()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)
EVENTS = ["message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "content_block_stop",
          "ping", "error", "future"]  # fmt: skip
KINDS = [
    "text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "document", "search_result", "compaction",
    "text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta", "base64", "url", "custom",
    "enabled", "adaptive", "tool", "user", "assistant", "system", "thought::call:x", "end_turn", "refusal",
]  # fmt: skip
FIELDS = [
    "type", "message", "index", "content_block", "delta", "usage", "error", "text", "thinking", "signature", "partial_json",
    "citation", "citations", "stop_reason", "stop_sequence", "stop_details", "explanation", "input_tokens", "output_tokens",
    "cache_creation", "cache_creation_input_tokens", "iterations", "output_tokens_details", "thinking_tokens", "data", "id",
    "name", "input", "content", "role", "source", "tool_use_id", "media_type", "url", "title", "model", "max_tokens",
    "messages", "system", "tools", "tool_choice", "output_config", "effort", "format", "schema", "input_schema", "metadata",
    "user_id", "stop_sequences", "budget_tokens", "cache_control", "server_tool_use", "service_tier", "stream",
]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(KINDS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)


def decoded(chunks: list[bytes]) -> list[Event]:
    decoder = API.decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.flush()


def encoded(events: list[Event], chat: Chat = CHAT) -> bytes:
    encoder = API.encoder(model="m", id="x", created=1, chat=chat)
    return encoder.feed(events) + encoder.finish(None)


def joined(events: list[Event]) -> list[Event]:
    """The events with neighbouring deltas of one kind as one: where the cuts between them are means nothing."""
    found: list[Any] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, ToolCallDelta) and isinstance(last, ToolCallDelta) and last.index == event.index:
            found[-1] = replace(last, arguments=last.arguments + event.arguments)
        elif type(last) is type(event) and hasattr(event, "text"):
            found[-1] = replace(last, text=last.text + event.text)
        else:
            found.append(event)
    return found


@given(drawn.chats())
@settings(max_examples=40, deadline=None)
def test_a_request_decodes_to_what_was_encoded(chat: Chat) -> None:
    losses = Losses()
    body = json.loads(json.dumps(API.encode_request(chat, chat.model, losses)))
    if losses.names == ["reasoning.tool_loop"]:
        chat = replace(chat, reasoning=None, include_encrypted=False)
    else:
        assert losses.names == []
    assert API.decode_request(body) == chat
    count_request(body)


@given(drawn.replies())
@settings(max_examples=40, deadline=None)
def test_a_reply_decodes_to_what_was_encoded(reply: Reply) -> None:
    losses = Losses()
    body = json.loads(json.dumps(API.encode_reply(reply, reply.model, losses)))
    assert losses.names == []
    assert API.decode_reply(body) == reply


@given(drawn.streams())
@settings(max_examples=50, deadline=None)
def test_a_stream_decodes_to_what_was_encoded(events: list[Event]) -> None:
    last = events[-1]
    assert isinstance(last, UsageReported)
    assert joined(decoded([encoded(events)])) == joined([*events, Ended()])


@given(drawn.streams(), st.data())
@settings(max_examples=40, deadline=None)
def test_where_a_stream_is_cut_means_nothing(events: list[Event], data: st.DataObject) -> None:
    stream = encoded(events)
    stream = stream.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=9)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decoded(pieces) == decoded([stream]) == decoded([bytes([byte]) for byte in stream])


@given(st.lists(st.tuples(st.sampled_from(EVENTS), objects), max_size=8))
@settings(max_examples=100, deadline=None)
def test_no_frame_makes_a_decoder_raise(frames: list[tuple[str, dict[str, Any]]]) -> None:
    stream = b"".join(
        f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}).replace('NaN', '1')}\n\n".encode()
        for kind, fields in frames
    )
    events = decoded([stream])
    assert sum(isinstance(event, Ended) for event in events) <= 1
    encoder = API.encoder(model="m", id="x", created=1, chat=CHAT)
    encoder.feed(events)
    encoder.finish(None)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_bytes_make_a_decoder_raise(noise: bytes) -> None:
    decoded([b"event: message_start\ndata: ", noise, b"\n\ndata: ", noise])


@given(objects, objects, st.sampled_from([None, "messages", "tools", "system", "tool_choice", "thinking", "output_config"]))
@settings(max_examples=100, deadline=None)
def test_a_request_is_read_or_refused_by_name(noise: dict[str, Any], inner: dict[str, Any], place: str | None) -> None:
    body: dict[str, Any] = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], **noise}
    if place == "messages":
        body["messages"] = [{"role": "user", "content": [inner]}, {"role": "assistant", "content": [{"type": "text", **inner}]}]
    elif place in ("tools", "system"):
        body[place] = [inner]
    elif place is not None:
        body[place] = inner
    for read in (API.decode_request, count_request):
        problem: ApiError | None = None
        try:
            read(body)
        except ApiError as error:
            problem = error
        assert problem is None or (problem.http_status == 400 and problem.param and problem.message)


@given(objects)
@settings(max_examples=100, deadline=None)
def test_a_reply_is_read_or_is_a_value_error(noise: dict[str, Any]) -> None:
    for body in (noise, {"content": [noise], "usage": noise}):
        try:
            API.decode_reply(body)
            API.usage_of(body)
        except ValueError:
            pass
        read_error(body)


@given(st.sampled_from(["", "gemini", "openai_responses"]), st.text(min_size=1))
def test_a_sealed_proof_opens_again(origin: str, value: str) -> None:
    thought = open_thinking("t", seal(None, value, origin))
    assert (thought.encrypted, thought.origin) == (value, origin)  # type: ignore[union-attr]


@given(drawn.chats())
@settings(max_examples=10, deadline=None)
def test_what_decoding_drops_stands_in_a_table(chat: Chat) -> None:
    body = API.encode_request(chat, chat.model, Losses())
    noisy = {**body, "diagnostics": {}, "speed": "fast", "tools": [{"type": "tool_search_tool_regex_20251119", "name": "x"}]}
    dropped = API.decode_request(noisy).dropped
    assert set(dropped) <= {name for table in (REQUEST, BLOCKS, TOOLS) for name in table}
    assert {"diagnostics", "speed", "tools.tool_search"} <= set(dropped)
