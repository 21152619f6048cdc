"""What is encoded decodes to the same; bytes may be cut anywhere; nonsense never raises."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.domain.chat import Chat, Ended, Event, Losses, Message, Reply, Role, Started, Text, ToolCallDelta, UsageReported
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_responses import OpenAIResponses
from daemon.protocols.openai_responses.names import divide, flatten, seal, unseal
from tests.protocols.openai_responses import drawn

API = OpenAIResponses()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)
EVENTS = [
    "created", "in_progress", "completed", "incomplete", "failed", "output_item.added", "output_item.done", "output_text.delta",
    "output_text.done", "output_text.annotation.added", "refusal.delta", "reasoning_summary_text.delta", "reasoning_text.delta",
    "function_call_arguments.delta", "custom_tool_call_input.delta", "content_part.added",
]  # fmt: skip
FIELDS = [
    "response", "item", "delta", "output_index", "content_index", "summary_index", "item_id", "text", "annotation",
    "error", "id", "type", "name", "call_id", "arguments", "status", "output", "usage", "content", "summary",
    "input_tokens", "message", "encrypted_content", "logprobs", "annotations", "refusal", "result", "created_at",
    "role", "input", "tools", "include", "tool_choice", "reasoning", "instructions", "model", "incomplete_details",
    "namespace", "effort",
]  # fmt: skip
KINDS = [
    "message", "function_call", "custom_tool_call", "reasoning", "output_text", "refusal", "url_citation", "namespace",
    "function", "image_generation_call", "input_image", "input_file", "input_audio", "function_call_output",
]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(KINDS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)


def tokens(usage: Usage) -> Usage:
    """Without calls of hosted tools: an image looks like one, whoever made it."""
    return replace(usage, meters={key: count for key, count in usage.meters.items() if not key.startswith("hosted_call")})


def decoded(chunks: list[bytes]) -> list[Event]:
    decoder = API.decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.flush()
    return [UsageReported(tokens(event.usage)) if isinstance(event, UsageReported) else event for event in events]


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
@settings(max_examples=50, deadline=None)
def test_a_request_decodes_to_what_was_encoded(chat: Chat) -> None:
    losses = Losses()
    body = json.loads(json.dumps(API.encode_request(chat, chat.model, losses)))
    found = API.decode_request(body)
    assert losses.names == []
    assert replace(found, dropped=()) == chat
    assert set(found.dropped) <= {"tools.namespace.description"}


@given(drawn.replies())
@settings(max_examples=50, deadline=None)
def test_a_reply_decodes_to_what_was_encoded(reply: Reply) -> None:
    losses = Losses()
    found = API.decode_reply(json.loads(json.dumps(API.encode_reply(reply, reply.model, losses))))
    assert losses.names == []
    assert replace(found, usage=found.usage and tokens(found.usage)) == reply


@given(drawn.streams())
@settings(max_examples=50, deadline=None)
def test_a_stream_decodes_to_what_was_encoded(events: list[Event]) -> None:
    started: Any = events[0]
    found = decoded([encoded(events)])
    assert found[0] == replace(started, model="m")
    assert joined(found[1:]) == joined([*events[1:], Ended()])


@given(drawn.streams(), st.data())
@settings(max_examples=25, deadline=None)
def test_any_chunking_gives_the_same_events(events: list[Event], data: st.DataObject) -> None:
    whole = encoded(events)
    assert decoded(drawn.chunked(data, whole)) == decoded([whole])
    step = data.draw(st.sampled_from([1, 7]))
    assert decoded([whole[index : index + step] for index in range(0, len(whole), step)]) == decoded([whole])


@given(drawn.streams(), st.data())
@settings(max_examples=50, deadline=None)
def test_a_stream_and_the_whole_reply_say_the_same(events: list[Event], data: st.DataObject) -> None:
    """The last event of a stream holds the whole reply: decoded by itself it is what the stream said."""
    last = encoded(events).rstrip().rpartition(b"data: ")[2]
    reply = API.decode_reply(json.loads(last)["response"])
    said = "".join(getattr(event, "text", "") for event in events)
    assert sorted("".join(getattr(part, "text", "") for part in reply.choices[0].parts)) == sorted(said)
    assert (
        [UsageReported(tokens(reply.usage))] == [event for event in events if isinstance(event, UsageReported)]
        if reply.usage
        else True
    )


@given(st.lists(st.tuples(st.sampled_from(EVENTS), objects), max_size=6), st.data())
@settings(max_examples=80, deadline=None)
@example([("output_item.added", {"item": {"type": [], "name": {}}, "output_index": []})], None)
def test_fuzzed_events_never_raise(events: list[tuple[str, dict[str, Any]]], data: st.DataObject) -> None:
    whole = b"".join(
        b"data: " + json.dumps({**fields, "type": f"response.{kind}"}).encode() + b"\n\n" for kind, fields in events
    )
    found = decoded([whole])
    assert sum(isinstance(event, Ended) for event in found) <= 1
    encoded([event for event in found if not isinstance(event, Ended)])


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([b"data: {", b"\n\n", b"event: error\n", b'data: {"type":"error"}\n\n']))
)
@settings(max_examples=200, deadline=None)
def test_garbage_never_raises(chunks: list[bytes]) -> None:
    decoded(chunks)


@given(drawn.streams(), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_garbage_in_one_frame_leaves_the_rest_of_the_stream(events: list[Event], at: int) -> None:
    frames = encoded(events).split(b"\n\n")[:-1]
    frames[at % (len(frames) - 1)] = b'data: {"type": "respo'
    found = decoded([b"\n\n".join(frames) + b"\n\n"])
    assert isinstance(found[0], Started)
    assert found[-3:] == [*events[-2:], Ended()]


@given(objects, st.sampled_from(["x", None]))
@settings(max_examples=80, deadline=None)
def test_a_fuzzed_request_gives_a_chat_or_a_400(fields: dict[str, Any], model: str | None) -> None:
    body = {**fields, **({"model": model} if model else {})}
    error: ApiError | None = None
    try:
        API.decode_request(body)
    except ApiError as raised:
        error = raised
    assert error is None or (error.http_status == 400 and error.param)


@given(objects)
@settings(max_examples=80, deadline=None)
def test_a_fuzzed_reply_is_one_or_a_value_error(fields: dict[str, Any]) -> None:
    try:
        API.decode_reply(fields)
    except ValueError:
        pass


@given(st.none() | drawn.names, st.text("ab_-", min_size=1))
def test_a_name_divides_into_what_it_was(namespace: str | None, name: str) -> None:
    flat = flatten(namespace, name)
    if namespace is None or (namespace + "_-_").find("_-_") == len(namespace):
        assert divide(flat) == (namespace, name)


@given(st.sampled_from(["", "anthropic", "gemini"]), st.sampled_from(["signature", "encrypted", "call"]), st.text())
def test_a_sealed_proof_opens(origin: str, kind: str, value: str) -> None:
    assert unseal(seal(origin, kind, value)) == (origin, kind, value)
