"""The official SDK reads what is written for clients, and what it sends is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from daemon.domain.chat import (
    Chat,
    Event,
    Finish,
    Finished,
    Losses,
    Message,
    Pinged,
    RefusalDelta,
    Reply,
    Role,
    Started,
    Text,
    TextDelta,
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
from daemon.protocols.anthropic_messages import AnthropicMessages
from tests.protocols.anthropic_messages import drawn

anthropic = pytest.importorskip("anthropic", minversion="2.0")
httpx2 = pytest.importorskip("httpx2")
API = AnthropicMessages()
CHAT = Chat("m", (Message(Role.USER, (Text("hi"),)),), stream=True)
ASK: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def client(body: bytes, kind: str, sent: list[dict[str, Any]]) -> Any:
    def answer(request: Any) -> Any:
        sent.append(json.loads(request.content))
        return httpx2.Response(200, headers={"content-type": kind}, content=body)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="sk-test", base_url="http://127.0.0.1:9", http_client=http, max_retries=0)


def streamed(stream: bytes) -> Any:
    with client(stream, "text/event-stream", []).messages.stream(**ASK) as found:
        return found.get_final_message()


def written(events: list[Event], chat: Chat = CHAT, usage: Usage | None = None) -> bytes:
    encoder = API.encoder(model="shown", id="msg_1", created=1, chat=chat)
    return b"".join(encoder.feed([event]) for event in events) + encoder.finish(usage)


def test_a_stream_of_everything_is_accumulated() -> None:
    message = streamed(
        written(
            [
                Started("", "m", 0),
                Pinged(),
                ThinkingDelta("Let "),
                ThinkingDelta("me see."),
                ThinkingEnded(signature="sig", origin="anthropic_messages"),
                ThinkingEnded(encrypted="hidden", origin="anthropic_messages"),
                TextDelta("Grüße "),
                TextDelta("👋"),
                ToolCallStarted(0, "call_1", "look"),
                ToolCallDelta(0, '{"q":'),
                ToolCallDelta(0, '"a"}'),
                ToolCallStarted(1, "call_1", "look"),
                ToolCallDelta(1, "{}"),
                UsageReported(Usage({"input": 7, "cached_input": 3, "cache_write_1h": 2, "output": 5}, 4)),
                Finished(Finish.STOP),
            ]
        )
    )
    assert [block.type for block in message.content] == ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"]
    thought, hidden, text, first, second = message.content
    assert (thought.thinking, thought.signature, hidden.data, text.text) == ("Let me see.", "sig", "hidden", "Grüße 👋")
    assert (first.id, first.input, second.input) == ("call_1", {"q": "a"}, {})
    assert second.id != first.id
    assert (message.id, message.model, message.stop_reason) == ("msg_1", "shown", "tool_use")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (7, 3, 2)
    assert (usage.output_tokens, usage.output_tokens_details.thinking_tokens) == (5, 4)


def test_arguments_that_come_in_turns_stay_apart() -> None:
    message = streamed(
        written(
            [
                ToolCallStarted(0, "a", "f"),
                ToolCallStarted(1, "b", "g"),
                ToolCallDelta(0, '{"x":'),
                ToolCallDelta(1, '{"y":'),
                ToolCallDelta(0, "1}"),
                ToolCallDelta(1, "2}"),
                TextDelta("done"),
                Finished(Finish.TOOL_CALLS),
            ]
        )
    )
    assert [getattr(block, "input", None) for block in message.content] == [{"x": 1}, {"y": 2}, None]


def test_a_call_of_a_custom_tool_is_an_object() -> None:
    chat = Chat("m", CHAT.messages, tools=(Tool("patch", custom=True),), stream=True)
    events = [ToolCallStarted(0, "a", "patch", custom=True), ToolCallDelta(0, "*** Begin"), ToolCallDelta(0, ' "x"')]
    assert streamed(written([*events], chat)).content[0].input == {"input": '*** Begin "x"'}
    reply = API.encode_reply(Reply("i", "m", 0, ()), "m", Losses())
    assert reply["content"] == []


def test_a_refusal_is_told_in_words_and_reason() -> None:
    message = streamed(written([RefusalDelta("I will not."), Finished(Finish.STOP)]))
    assert (message.content[0].text, message.stop_reason) == ("I will not.", "refusal")


def test_an_error_in_a_stream_raises() -> None:
    encoder = API.encoder(model="m", id="msg_1", created=1, chat=CHAT)
    stream = encoder.feed([TextDelta("half")]) + encoder.fail(ApiError.of("upstream_timeout", provider="p"))
    with pytest.raises(anthropic.APIStatusError, match="did not answer in time"):
        streamed(stream)


@given(drawn.streams())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_stream_is_accumulated(events: list[Event]) -> None:
    whole = [event for event in events if not (isinstance(event, ToolCallDelta) and not is_object(event.arguments))]
    message = streamed(written(whole))
    wanted = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "".join(block.text for block in message.content if block.type == "text") == wanted
    assert message.usage.output_tokens == next(e.usage.output_tokens for e in reversed(events) if isinstance(e, UsageReported))
    calls = [event for event in events if isinstance(event, ToolCallStarted)]
    assert [block.name for block in message.content if block.type == "tool_use"] == [call.name for call in calls]


def is_object(text: str) -> bool:
    try:
        return type(json.loads(text)) is dict
    except ValueError:
        return False


@given(drawn.replies())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_reply_is_parsed(reply: Reply) -> None:
    body = API.encode_reply(reply, "shown", Losses())
    message = client(json.dumps(body).encode(), "application/json", []).messages.create(**ASK)
    parts = reply.choices[0].parts
    assert [block.text for block in message.content if block.type == "text"] == [p.text for p in parts if isinstance(p, Text)]
    assert [block.id for block in message.content if block.type == "tool_use"] == [
        p.id for p in parts if isinstance(p, ToolCall)
    ]
    assert message.usage.input_tokens == reply.usage.meters["input"]  # type: ignore[union-attr]


def test_what_the_sdk_sends_is_read() -> None:
    sent: list[dict[str, Any]] = []
    body = json.dumps(API.encode_reply(Reply("i", "m", 0, ()), "m", Losses())).encode()
    client(body, "application/json", sent).messages.create(
        **{
            **ASK,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "system", "content": "b"}],
        },
        system=[{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        tools=[{"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        thinking={"type": "adaptive", "display": "omitted"},
        output_config={"effort": "max"},
    )
    chat = API.decode_request(sent[0])
    assert [message.role for message in chat.messages] == [Role.SYSTEM, Role.USER, Role.SYSTEM]
    assert chat.dropped == ("tools.defer_loading",)
    assert chat.parallel_tool_calls is False
    assert chat.reasoning is not None
    assert (chat.reasoning.effort, chat.reasoning.adaptive, chat.reasoning.summary) == ("xhigh", True, None)
