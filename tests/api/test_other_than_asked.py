"""A provider that answers at once where a stream was asked for, or with a stream where none was, behind a translation."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.crossing import ALL, CHAT, GEMINI, MESSAGES, RESPONSES, Crossing, path_of
from tests.support.upstream import chat_stream, json_reply, usage_of

HELLO = {"type": "output_text", "text": "Hello", "annotations": []}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
REPLIES: dict[str, dict[str, Any]] = {
    CHAT: {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": usage_of(3, 2),
    },
    RESPONSES: {
        "id": "r",
        "object": "response",
        "status": "completed",
        "output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [HELLO]}],
        "usage": USAGE,
    },
    MESSAGES: {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": USAGE,
    },
    GEMINI: {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    },
}
ENDS = {CHAT: "data: [DONE]", RESPONSES: "event: response.completed", MESSAGES: "event: message_stop", GEMINI: '"STOP"'}
CROSSED = [(client, served) for client in ALL for served in ALL if client != served]


def body_of(dialect: str, model: str, stream: bool) -> dict[str, Any]:
    if dialect == GEMINI:
        return {"contents": [{"parts": [{"text": "hi"}]}]}
    asked: dict[str, Any] = {"model": model, "stream": stream}
    if dialect == RESPONSES:
        return asked | {"input": "hi", "max_output_tokens": 50}
    return asked | {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


@pytest.mark.parametrize(("client", "served"), CROSSED)
def test_a_reply_in_one_piece_becomes_the_stream_that_was_asked_for(crossing: Crossing, client: str, served: str) -> None:
    side, identifier = crossing.sides[served], crossing.new_id()
    side.upstream.always(json_reply(REPLIES[served]))
    path = path_of(client, side.model, stream=True)
    reply = crossing.post(path, body_of(client, side.model, True), request_id=identifier)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), reply.text
    assert "Hello" in reply.text
    assert ENDS[client] in reply.text
    record = crossing.record(identifier)
    assert (record["status"], record["usage"]) == ("ok", {"input": 3, "output": 2})


def test_a_call_in_one_piece_becomes_events(crossing: Crossing) -> None:
    side = crossing.sides[CHAT]
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at":"it"}'}}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    side.upstream.always(json_reply({**REPLIES[CHAT], "choices": [choice]}))
    tool = {"name": "look", "input_schema": {"type": "object"}}
    reply = crossing.post("/v1/messages", body_of(MESSAGES, side.model, True) | {"tools": [tool]})
    assert '"type":"tool_use","id":"call_1","name":"look"' in reply.text
    assert '"stop_reason":"tool_use"' in reply.text
    assert reply.text.rstrip().endswith('data: {"type":"message_stop"}')


@pytest.mark.parametrize("client", [MESSAGES, RESPONSES, GEMINI])
def test_a_stream_that_nobody_asked_for_is_no_reply(crossing: Crossing, client: str) -> None:
    side, identifier = crossing.sides[CHAT], crossing.new_id()
    side.upstream.always(chat_stream(["Hello"], usage_of(3, 2)))
    reply = crossing.post(path_of(client, side.model), body_of(client, side.model, False), request_id=identifier)
    assert (reply.status_code, reply.headers["content-type"]) == (502, "application/json")
    assert crossing.home.record_of(identifier)["cost"] == "0"
