"""What is encoded decodes to the same; bytes may be cut anywhere; nonsense never raises."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.chat import Chat, Ended, Event, Losses, Message, Reply, Role, Text, Thinking, ToolCallDelta, UsageReported
from daemon.domain.errors import ApiError
from daemon.protocols.gemini import Gemini, StreamAdapter, count_request, read, read_error, usage_of
from daemon.protocols.gemini.seals import open_signature, seal
from daemon.protocols.gemini.tables import CONFIG, PARTS, REQUEST, TOOLS
from tests.protocols.gemini import drawn

API = Gemini()
ARRAYS = Gemini(sse=False)
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)
KINDS = [
    "user", "model", "function", "STOP", "MAX_TOKENS", "SAFETY", "AUDIO", "IMAGE", "TEXT", "image/png", "AAAA", "gs://b/f",
    "$.a[0].b", "$.a", "application/json", "OBJECT", "ANY", "dGhvdWdodDo6eA==", "https://example.com", "PYTHON", "HIGH",
]  # fmt: skip
FIELDS = [
    "candidates", "content", "parts", "text", "thought", "thoughtSignature", "thought_signature", "functionCall",
    "functionResponse", "function_response", "name", "args", "id", "partialArgs", "willContinue", "jsonPath",
    "stringValue", "numberValue", "response", "inlineData", "inline_data", "fileData", "mimeType", "data", "fileUri",
    "executableCode", "codeExecutionResult", "code", "output", "language", "finishReason", "finishMessage", "index",
    "usageMetadata", "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount",
    "cachedContentTokenCount", "totalTokenCount", "promptTokensDetails", "candidatesTokensDetails",
    "cacheTokensDetails", "modality", "tokenCount", "serviceTier", "error", "message", "status", "promptFeedback",
    "blockReason", "groundingMetadata", "groundingChunks", "groundingSupports", "groundingChunkIndices", "segment",
    "startIndex", "endIndex", "partIndex", "web", "uri", "title", "citationMetadata", "citations", "logprobsResult",
    "chosenCandidates", "topCandidates", "token", "logProbability", "responseId", "modelVersion", "role", "contents",
    "tools", "functionDeclarations", "parameters", "type", "properties", "items", "anyOf", "enum", "nullable",
    "minItems", "toolConfig", "functionCallingConfig", "mode", "allowedFunctionNames", "generationConfig",
    "maxOutputTokens", "candidateCount", "responseModalities", "responseSchema", "responseMimeType", "thinkingConfig",
    "thinkingBudget", "thinkingLevel", "stopSequences", "systemInstruction", "system_instruction", "mediaResolution",
    "level", "generateContentRequest",
]  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.sampled_from(KINDS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)
PLACES = [
    None,
    "contents",
    "parts",
    "tools",
    "toolConfig",
    "generationConfig",
    "systemInstruction",
    "schema",
    "functionResponse",
]


def decoded(chunks: list[bytes]) -> list[Event]:
    decoder = API.decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.flush()


def encoded(events: list[Event], api: Gemini = API) -> bytes:
    encoder = api.encoder(model="m", id="x", created=1, chat=CHAT)
    return encoder.feed(events) + encoder.finish(None)


def cut(stream: bytes, data: st.DataObject) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=9)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


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


def as_sent(chat: Chat) -> dict[str, Any]:
    losses = Losses()
    body = json.loads(json.dumps(API.encode_request(chat, chat.model, losses)))
    assert losses.names == []
    return {**body, "model": chat.model, "stream": chat.stream}


@given(drawn.chats())
@settings(max_examples=60, deadline=None)
def test_a_request_decodes_to_what_was_encoded(chat: Chat) -> None:
    body = as_sent(chat)
    assert API.decode_request(body) == chat
    count_request(body)
    ask = read(body, 100)
    assert (ask.model, ask.stream, ask.output_limit, ask.n) == (chat.model, chat.stream, chat.max_output, chat.n)
    assert (ask.tier, ask.unbounded) == (None if chat.service_tier == "default" else chat.service_tier, ())


@given(drawn.replies())
@settings(max_examples=60, deadline=None)
def test_a_reply_decodes_to_what_was_encoded(reply: Reply) -> None:
    losses = Losses()
    body = json.loads(json.dumps(API.encode_reply(reply, reply.model, losses)))
    assert losses.names == []
    assert API.decode_reply(body) == reply


@pytest.mark.parametrize("api", [API, ARRAYS], ids=["events", "array"])
@given(events=drawn.streams())
@settings(max_examples=50, deadline=None)
def test_a_stream_decodes_to_what_was_encoded(api: Gemini, events: list[Event]) -> None:
    assert isinstance(events[-1], UsageReported)
    assert joined(decoded([encoded(events, api)])) == joined([*events, Ended()])


@given(drawn.streams(), st.booleans(), st.data())
@settings(max_examples=50, deadline=None)
def test_where_a_stream_is_cut_means_nothing(events: list[Event], sse: bool, data: st.DataObject) -> None:
    stream = encoded(events, Gemini(sse))
    if sse:
        stream = stream.replace(b"\r\n", data.draw(st.sampled_from([b"\n", b"\r\n", b"\r"])))
    assert decoded(cut(stream, data)) == decoded([stream]) == decoded([bytes([byte]) for byte in stream])


@given(drawn.streams(), st.booleans(), st.data())
@settings(max_examples=40, deadline=None)
def test_only_the_model_changes_in_a_stream_that_passes(events: list[Event], sse: bool, data: st.DataObject) -> None:
    stream = encoded(events, Gemini(sse))
    adapter = StreamAdapter("Google#ü")
    passed = b"".join(map(adapter.feed, cut(stream, data))) + adapter.flush()
    assert passed == stream.replace(b'"modelVersion":"m"', '"modelVersion":"Google#ü"'.encode())


@given(st.lists(objects, max_size=8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_frame_makes_a_decoder_raise(frames: list[dict[str, Any]], sse: bool) -> None:
    texts = [json.dumps(frame).encode() for frame in frames]
    stream = b"".join(b"data: %b\n\n" % text for text in texts) if sse else b"[" + b",".join(texts) + b"]"
    events = decoded([stream])
    assert events == decoded([bytes([byte]) for byte in stream])
    assert sum(isinstance(event, Ended) for event in events) <= 1
    encoder = API.encoder(model="m", id="x", created=1, chat=CHAT)
    encoder.feed(events)
    encoder.finish(None)


@given(objects, objects)
@settings(max_examples=150, deadline=None)
def test_no_part_makes_a_decoder_raise(noise: dict[str, Any], outer: dict[str, Any]) -> None:
    candidate = {
        **outer,
        "content": {"parts": [noise, {"functionCall": noise}, {"text": "é", **noise}]},
        "groundingMetadata": noise,
    }
    body = {"candidates": [candidate, {"index": 1, **outer}], "usageMetadata": noise}
    events = decoded([b"data: " + json.dumps(body).encode() + b"\n\n"])
    encoder = ARRAYS.encoder(model="m", id="x", created=1, chat=CHAT)
    encoder.feed(events)
    encoder.finish(None)
    API.encode_reply(API.decode_reply(body), "m", Losses())


@given(st.binary(max_size=200), st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_a_decoder_raise(noise: bytes, data: st.DataObject) -> None:
    for stream in (b"data: " + noise + b"\n\ndata: " + noise, b'[{"a":' + noise + b"},{" + noise, noise):
        assert decoded(cut(stream, data)) == decoded([stream])
        adapter = StreamAdapter("m")
        assert len(b"".join(map(adapter.feed, cut(stream, data))) + adapter.flush()) >= len(stream)


@given(objects, objects, st.sampled_from(PLACES))
@settings(max_examples=250, deadline=None)
def test_a_request_is_read_or_refused_by_name(noise: dict[str, Any], inner: dict[str, Any], place: str | None) -> None:
    body: dict[str, Any] = {"model": "m", "contents": [{"parts": [{"text": "hi"}]}], **noise}
    if place == "contents":
        body["contents"] = [inner, {"role": "model", **inner}]
    elif place == "parts":
        body["contents"] = [{"role": "user", "parts": [inner]}, {"role": "model", "parts": inner}]
    elif place == "tools":
        body["tools"] = [{"functionDeclarations": [inner]}]
    elif place == "schema":
        body["tools"] = [{"functionDeclarations": [{"name": "f", "parameters": inner}]}]
    elif place == "functionResponse":
        body["contents"] = [{"parts": [{"functionResponse": {"name": "f", **inner}}]}]
    elif place == "toolConfig":
        body["toolConfig"] = {"functionCallingConfig": inner}
    elif place is not None:
        body[place] = inner
    for reader in (API.decode_request, count_request, lambda given: read(given, 10)):
        problem: ApiError | None = None
        try:
            reader(body)
        except ApiError as error:
            problem = error
        assert problem is None or (problem.http_status == 400 and problem.param and problem.message)


@given(objects)
@settings(max_examples=150, deadline=None)
def test_a_reply_is_read_or_is_a_value_error(noise: dict[str, Any]) -> None:
    for body in (noise, {"candidates": [noise], "usageMetadata": noise}):
        try:
            API.decode_reply(body)
            usage_of(body)
        except ValueError:
            pass
        read_error(body)


@given(
    st.sampled_from(["", "anthropic_messages", "openai_responses"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_a_sealed_proof_opens_again(origin: str, value: str) -> None:
    for thought in (Thinking("t", value, origin=origin), Thinking("t", encrypted=value, origin=origin)):
        sealed = seal(thought)
        assert sealed is not None
        assert open_signature("t", sealed) == thought
        assert open_signature("t", sealed.replace("+", "-").replace("/", "_").rstrip("=")) == thought


@given(drawn.chats())
@settings(max_examples=10, deadline=None)
def test_what_decoding_drops_stands_in_a_table(chat: Chat) -> None:
    noisy = {
        **as_sent(chat),
        "safetySettings": [],
        "store": True,
        "tools": [{"functionDeclarations": {"name": "f", "response": {}}}],
    }
    dropped = API.decode_request(noisy).dropped
    assert set(dropped) <= {name for table in (REQUEST, CONFIG, PARTS, TOOLS) for name in table}
    assert {"safetySettings", "store", "functionDeclarations.response"} <= set(dropped)
