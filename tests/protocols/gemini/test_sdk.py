"""The official SDK reads what is written for clients, whole, in a stream, at once and asynchronously; what it sends is read."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Finish,
    Finished,
    Losses,
    Media,
    MediaKind,
    Message,
    Pinged,
    RefusalDelta,
    Reply,
    Role,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolMode,
    ToolResult,
    UsageReported,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.gemini import Gemini, count_reply, count_request, error_body, model_and_method, read
from tests.protocols.gemini import drawn

genai = pytest.importorskip("google.genai")
types = genai.types
API = Gemini()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)
EVENTS = "text/event-stream"
JSON = "application/json"


class Host(ThreadingHTTPServer):
    """Answers every request with `reply`: (status, content type, body); keeps what was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.reply: tuple[int, str, bytes] = (200, JSON, b"{}")
        self.sent: list[tuple[str, dict[str, Any]]] = []


class Answer(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append((self.path, json.loads(body)))
        status, kind, content = self.server.reply
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    server = Host()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def client(host: Host) -> Any:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{host.server_port}")
    return genai.Client(api_key="k", http_options=options)


def answered(client: Any, host: Host, reply: Reply) -> Any:
    host.reply = 200, JSON, json.dumps(API.encode_reply(reply, "shown", Losses())).encode()
    return client.models.generate_content(model="m", contents="hi")


def streamed(client: Any, host: Host, stream: bytes) -> list[Any]:
    host.reply = 200, EVENTS, stream
    return list(client.models.generate_content_stream(model="m", contents="hi"))


def written(events: list[Event], usage: Usage | None = None) -> bytes:
    encoder = API.encoder(model="shown", id="r1", created=1, chat=CHAT)
    return b"".join(encoder.feed([event]) for event in events) + encoder.finish(usage)


EVERYTHING: list[Event] = [
    Started("", "m", 0),
    Pinged(),
    ThinkingDelta("Let "),
    ThinkingDelta("me see."),
    ThinkingEnded(signature="c2ln", origin="gemini"),
    TextDelta("Grüße "),
    TextDelta("👋"),
    CitationAdded({"url": "https://example.com", "title": "E", "start": 0, "end": 5}),
    ToolCallStarted(0, "call_1", "look", signature="c2lnMg=="),
    ToolCallDelta(0, '{"q":'),
    ToolCallDelta(0, '"a"}'),
    ToolCallStarted(1, "call_1", "look"),
    ToolCallDelta(1, "{}"),
    UsageReported(Usage({"input": 7, "cached_input": 3, "audio_input": 2, "output": 5}, 4)),
    Finished(Finish.TOOL_CALLS),
]


def check_everything(chunks: list[Any]) -> None:
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.text and part.thought) == "Let me see."
    assert "".join(part.text for part in parts if part.text and not part.thought) == "Grüße 👋"
    assert [part.thought_signature for part in parts if part.thought_signature] == [b"sig", b"sig2"]
    first, second = [part.function_call for part in parts if part.function_call]
    assert (first.id, first.name, first.args, second.args) == ("call_1", "look", {"q": "a"}, {})
    assert second.id not in (None, first.id)
    last = chunks[-1]
    assert (last.candidates[0].finish_reason, last.model_version, last.response_id) == (types.FinishReason.STOP, "shown", "r1")
    usage = last.usage_metadata
    assert (usage.prompt_token_count, usage.cached_content_token_count, usage.total_token_count) == (12, 3, 17)
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (1, 4)
    (support,) = last.candidates[0].grounding_metadata.grounding_supports
    assert (support.segment.start_index or 0, support.segment.end_index) == (0, 7)  # bytes


def test_a_stream_of_everything_is_read(client: Any, host: Host) -> None:
    check_everything(streamed(client, host, written(EVERYTHING)))
    path, sent = host.sent[-1]
    assert path == "/v1/models/m:streamGenerateContent?alt=sse"
    assert model_and_method(path.partition("?")[0]) == ("m", "streamGenerateContent")
    assert sent["contents"][0]["parts"] == [{"text": "hi"}]


def test_a_stream_of_everything_is_read_asynchronously(client: Any, host: Host) -> None:
    host.reply = 200, EVENTS, written(EVERYTHING)

    async def collect() -> list[Any]:
        stream = await client.aio.models.generate_content_stream(model="m", contents="hi")
        return [chunk async for chunk in stream]

    check_everything(asyncio.run(collect()))


def test_an_array_is_one_json_text() -> None:
    encoder = Gemini(sse=False).encoder(model="shown", id="r1", created=1, chat=CHAT)
    pieces = [encoder.feed([event]) for event in EVERYTHING] + [encoder.finish(None)]
    check_everything([types.GenerateContentResponse.model_validate(chunk) for chunk in json.loads(b"".join(pieces))])


def test_a_refusal_is_told_in_words_and_reason(client: Any, host: Host) -> None:
    chunks = streamed(client, host, written([RefusalDelta("I will not."), Finished(Finish.STOP)]))
    assert "".join(chunk.text or "" for chunk in chunks) == "I will not."
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.SAFETY


def test_an_error_in_a_stream_raises(client: Any, host: Host) -> None:
    encoder = API.encoder(model="m", id="r1", created=1, chat=CHAT)
    stream = encoder.feed([TextDelta("half")]) + encoder.fail(ApiError.of("upstream_timeout", provider="p"))
    with pytest.raises(genai.errors.ServerError, match="did not answer in time") as caught:
        streamed(client, host, stream)
    assert (caught.value.code, caught.value.status) == (504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ApiError.of("invalid_value", param="contents", reason="it must be an array"), "INVALID_ARGUMENT"),
        (ApiError.of("invalid_api_key"), "UNAUTHENTICATED"),
        (ApiError.of("model_not_found", model="x"), "NOT_FOUND"),
    ],
)
def test_an_error_is_raised_with_its_status(client: Any, host: Host, error: ApiError, status: str) -> None:
    host.reply = error.http_status, JSON, error_body(error)
    with pytest.raises(genai.errors.ClientError) as caught:
        client.models.generate_content(model="m", contents="hi")
    assert (caught.value.code, caught.value.status, caught.value.message) == (error.http_status, status, error.message)


@given(events=drawn.streams())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_stream_is_read(client: Any, host: Host, events: list[Event]) -> None:
    chunks = streamed(client, host, written(events))
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    wanted = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(part.text for part in parts if part.text and not part.thought) == wanted
    usage = next(event.usage for event in reversed(events) if isinstance(event, UsageReported))
    assert chunks[-1].usage_metadata.total_token_count == usage.total_tokens
    calls = [event.name for event in events if isinstance(event, ToolCallStarted)]
    assert [part.function_call.name for part in parts if part.function_call] == calls


@given(reply=drawn.replies())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_every_reply_is_parsed(client: Any, host: Host, reply: Reply) -> None:
    found = answered(client, host, reply)
    for candidate, choice in zip(found.candidates, reply.choices, strict=True):
        parts = candidate.content.parts or []
        said = [part.text for part in parts if part.text and not part.thought]
        assert said == [part.text for part in choice.parts if isinstance(part, Text)]
        assert [part.function_call.id for part in parts if part.function_call] == [
            part.id for part in choice.parts if isinstance(part, ToolCall)
        ]
    assert found.usage_metadata.prompt_token_count == reply.usage.input_tokens  # type: ignore[union-attr]


def look(city: str) -> str:
    """Looks."""
    return city


def test_what_the_sdk_sends_is_read(client: Any, host: Host) -> None:
    host.reply = 200, JSON, json.dumps(API.encode_reply(Reply("i", "m", 0, ()), "m", Losses())).encode()
    client.models.generate_content(
        model="Google/m:x",
        contents=[
            types.Content(
                role="user", parts=[types.Part(text="a"), types.Part.from_bytes(data=b"\xff\xfe>", mime_type="image/png")]
            ),
            types.Content(role="model", parts=[types.Part.from_function_call(name="look", args={"city": "Bern"})]),
            types.Content(role="user", parts=[types.Part.from_function_response(name="look", response={"result": "ok"})]),
        ],
        config=types.GenerateContentConfig(
            system_instruction="s",
            tools=[look],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY")),
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level="LOW"),
            response_mime_type="application/json",
            response_schema={"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}},
            max_output_tokens=50,
            top_k=40,
            stop_sequences=["x"],
            candidate_count=2,
            service_tier="flex",
        ),
    )
    path, body = host.sent[-1]
    found = model_and_method(path)
    assert found == ("Google/m:x", "generateContent")
    body |= {"model": found[0], "stream": False}
    ask = read(body, 500)
    assert (ask.output_limit, ask.n, ask.media_parts, ask.unbounded) == (50, 2, 1, ())
    assert ask.features == {"tools", "structured_outputs", "reasoning", "vision"}
    chat = API.decode_request(body)
    system, user, called, result = chat.messages
    assert system == Message(Role.SYSTEM, (Text("s"),))
    image = user.parts[1]
    assert image == Media(MediaKind.IMAGE, "image/png", "//4+")  # the SDK writes __4-
    assert called.parts == (ToolCall("call_0", "look", '{"city":"Bern"}'),)
    assert result == Message(Role.TOOL, (ToolResult("call_0", (Text("ok"),), name="look"),))
    assert (chat.top_k, chat.stop, chat.n, chat.service_tier) == (40, ("x",), 2, "flex")
    assert chat.tool_choice is not None
    assert chat.tool_choice.mode is ToolMode.REQUIRED
    assert chat.reasoning is not None
    assert (chat.reasoning.effort, chat.reasoning.summary) == ("low", "auto")
    assert chat.output_format is not None
    assert chat.output_format.schema is not None
    assert chat.output_format.schema["properties"] == {"a": {"type": ["string", "null"]}}
    assert chat.tools[0].parameters is not None
    assert chat.tools[0].parameters["properties"]["city"]["type"] == "string"


def test_a_chat_session_hands_back_what_proves_a_thought(client: Any, host: Host) -> None:
    thought = Thinking("Hm, hm.", "proof+/", origin="anthropic_messages")
    events = [
        *(ThinkingDelta("Hm, "), ThinkingDelta("hm."), ThinkingEnded("proof+/", origin="anthropic_messages")),
        *(TextDelta("Hel"), TextDelta("lo"), ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}")),
        *(ToolCallStarted(1, "b", "g"), ToolCallDelta(1, "{}"), Finished(Finish.TOOL_CALLS)),
    ]
    session = client.chats.create(model="m")
    host.reply = 200, EVENTS, written(events)
    list(session.send_message_stream("hi"))
    list(session.send_message_stream([types.Part.from_function_response(name=name, response={"result": "r"}) for name in "fg"]))
    chat = API.decode_request({**host.sent[-1][1], "model": "m"})
    _, said, results = chat.messages
    assert said.parts == (thought, Text("Hello"), ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}"))
    assert [part.call_id for part in results.parts if isinstance(part, ToolResult)] == ["a", "b"]


def test_tokens_are_counted(client: Any, host: Host) -> None:
    host.reply = 200, JSON, json.dumps(count_reply(31)).encode()
    assert client.models.count_tokens(model="m", contents="hello").total_tokens == 31
    path, body = host.sent[-1]
    assert model_and_method(path) == ("m", "countTokens")
    assert count_request(body).texts == ["hello"]
