"""What the codec writes, read by the official SDK: whole replies, chunks, and its stream accumulator."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from daemon.domain.chat import (
    Chat,
    Choice,
    CitationAdded,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    Losses,
    RefusalDelta,
    Reply,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import OpenAIChat
from tests.support.chat_codec import ASKED, encoded

USAGE = Usage({"input": 5, "cached_input": 7, "output": 9}, 4)
NAMES = "fgh"
TOOLS: Any = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in NAMES]
HELLO: Any = [{"role": "user", "content": "Hi"}]
LOGPROB = {"token": "x", "logprob": -1.0, "bytes": None, "top_logprobs": []}


def client(body: bytes, kind: str = "text/event-stream") -> openai.OpenAI:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": kind}, content=body)

    return openai.OpenAI(
        api_key="sk-x", base_url="http://127.0.0.1:9/v1", http_client=httpx.Client(transport=httpx.MockTransport(answer))
    )


def accumulated(events: list[Event]) -> Any:
    with client(encoded(events, usage=USAGE)).chat.completions.stream(model="m", messages=HELLO, tools=TOOLS) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion()


START = Started("c-1", "up", 5)


def test_the_accumulator_joins_interleaved_calls_of_two_answers() -> None:
    final = accumulated(
        [
            START, ThinkingDelta("hm"), ThinkingEnded("sig", origin="anthropic_messages"), TextDelta("Let "), TextDelta("me"),
            LogprobsAdded([LOGPROB]), LogprobsAdded([LOGPROB]),
            CitationAdded({"url": "https://a", "title": "A"}), CitationAdded({"url": "https://b", "start": 1, "end": 2}),
            ToolCallStarted(4, "a", "f"), ToolCallDelta(4, '{"x'), ToolCallStarted(9, "b", "g"), ToolCallDelta(9, '{"y":'),
            ToolCallDelta(4, '":1}'), TextDelta("other", 1), ToolCallStarted(11, "c", "h"), ToolCallDelta(9, "2}"),
            ToolCallDelta(11, "{}"), Finished(Finish.STOP, choice=1), Finished(Finish.TOOL_CALLS),
        ]
    )  # fmt: skip
    assert (final.id, final.created, final.model) == ("c-1", 5, "shown")
    first, second = final.choices
    assert (first.message.role, first.message.content, first.finish_reason) == ("assistant", "Let me", "tool_calls")
    assert [(c.id, c.function.name, c.function.arguments) for c in first.message.tool_calls] == [
        ("a", "f", '{"x":1}'), ("b", "g", '{"y":2}'), ("c", "h", "{}"),
    ]  # fmt: skip
    assert first.message.reasoning_content == "hm"
    assert [detail["signature"] for detail in first.message.reasoning_details] == ["sig"]
    assert [note.url_citation.url for note in first.message.annotations] == ["https://a", "https://b"]
    assert len(first.logprobs.content) == 2
    assert (second.message.content, second.finish_reason) == ("other", "stop")
    assert final.usage.prompt_tokens == 12
    assert final.usage.prompt_tokens_details.cached_tokens == 7
    assert final.usage.completion_tokens_details.reasoning_tokens == 4


def test_the_accumulator_reads_a_refusal_and_calls_alone() -> None:
    refused = accumulated([START, RefusalDelta("I "), RefusalDelta("won't"), Finished(Finish.REFUSAL)]).choices[0]
    assert (refused.message.refusal, refused.finish_reason) == ("I won't", "stop")
    called = accumulated([START, ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}"), Finished(Finish.TOOL_CALLS)]).choices[0]
    assert called.message.tool_calls[0].function.arguments == "{}"
    assert accumulated([]).choices[0].message.content == ""


def test_a_second_answer_may_come_first() -> None:
    final = accumulated([START, TextDelta("b", 1), TextDelta("a", 0), Finished(Finish.STOP, choice=1), Finished(Finish.STOP)])
    assert [choice.message.content for choice in final.choices] == ["a", "b"]


def test_custom_calls_arrive_in_chunks() -> None:
    events: list[Event] = [START, ToolCallStarted(0, "a", "f", custom=True), ToolCallDelta(0, "x"), ToolCallDelta(0, "y")]
    chunks = client(encoded([*events, Finished(Finish.TOOL_CALLS)])).chat.completions.create(
        model="m", messages=HELLO, stream=True
    )
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert [call.model_extra["custom"]["input"] for call in calls if call.model_extra] == ["", "x", "y"]


def test_an_error_in_mid_stream_raises() -> None:
    encoder = OpenAIChat().encoder(model="m", id="i", created=1, chat=ASKED)
    body = encoder.feed([START, TextDelta("x")]) + encoder.fail(ApiError.of("upstream_error", provider="p", reason="cut"))
    stream = client(body).chat.completions.create(model="m", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="cut"):
        list(stream)


def test_a_whole_reply() -> None:
    parts = (
        Thinking("t", "s", origin="anthropic_messages"),
        Text("x", citations=({"url": "https://a", "title": "A"},)),
        ToolCall("a", "f", '{"b": 1}'),
        ToolCall("b", "g", "free", custom=True),
    )
    reply = Reply(
        "r", "up", 7, (Choice(parts, Finish.TOOL_CALLS, None, {"content": [LOGPROB], "refusal": None}),), USAGE, "flex"
    )
    body = json.dumps(OpenAIChat().encode_reply(reply, "shown", Losses())).encode()
    found: Any = client(body, "application/json").chat.completions.create(model="m", messages=HELLO)
    message = found.choices[0].message
    assert (found.id, found.model, found.service_tier, message.content) == ("r", "shown", "flex", "x")
    assert [call.type for call in message.tool_calls] == ["function", "custom"]
    assert message.tool_calls[1].custom.input == "free"
    assert message.annotations[0].url_citation.end_index == 1
    assert found.choices[0].logprobs.content[0].token == "x"
    assert found.usage.total_tokens == 21


@pytest.mark.parametrize("legacy", [True, False])
def test_the_sdk_reads_a_legacy_call(legacy: bool) -> None:
    chat = Chat("m", (), legacy_functions=legacy)
    body = encoded([START, ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{}"), Finished(Finish.TOOL_CALLS)], chat)
    chunks = list(client(body).chat.completions.create(model="m", messages=HELLO, stream=True))
    read: Callable[[Any], Any] = lambda delta: delta.function_call if legacy else (delta.tool_calls or [None])[0]  # noqa: E731
    assert any(read(choice.delta) for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].choices[0].finish_reason == ("function_call" if legacy else "tool_calls")


def test_what_the_sdk_sends_is_decoded() -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(200, json={"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []})

    sdk = openai.OpenAI(
        api_key="x", base_url="http://127.0.0.1:9/v1", http_client=httpx.Client(transport=httpx.MockTransport(answer))
    )
    sdk.chat.completions.create(
        model="m", messages=HELLO, tools=TOOLS, tool_choice="auto", reasoning_effort="low", max_completion_tokens=9
    )
    chat = OpenAIChat().decode_request(sent[0])
    assert [tool.name for tool in chat.tools] == [*NAMES]
    assert chat.max_output == 9
