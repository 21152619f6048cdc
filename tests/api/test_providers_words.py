"""What a provider says passes whole and shows no more than it may: its name of a model, errors without words, long events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.crossing import ALL, CHAT, GEMINI, MESSAGES, RESPONSES, Crossing, model_options, path_of
from tests.support.upstream import Reply, Step, chunk, error_reply, head, sse

OWN = "deployment-of-the-operator"
WORDS = f"{OWN} is overloaded, {OWN}-2 is not"
SHOWN = "a line that is longer than most: " + "A" * 1_500_000
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50},
    RESPONSES: {"input": "hi", "max_output_tokens": 50},
    MESSAGES: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 50},
    GEMINI: {"contents": [{"parts": [{"text": "hi"}]}]},
}
ERRORS: dict[str, Any] = {
    CHAT: {"error": {"message": WORDS, "type": "server_error"}},
    RESPONSES: {"type": "error", "code": "server_error", "message": WORDS, "param": None, "sequence_number": 0},
    MESSAGES: {"type": "error", "error": {"type": "overloaded_error", "message": WORDS}},
    GEMINI: {"error": {"code": 503, "message": WORDS, "status": "UNAVAILABLE"}},
}


def named(value: dict[str, Any]) -> bytes:
    return f"event: {value.get('type', 'message')}\ndata: {json.dumps(value)}\n\n".encode()


def renamed_model(crossing: Crossing, dialect: str) -> str:
    """A model of this dialect's provider that has another name there."""
    name = crossing.new_id()
    crossing.home.ok("models", "add", name, "--provider", crossing.sides[dialect].provider, "--upstream", OWN, *model_options())
    return name


def ask(dialect: str, model: str, stream: bool) -> dict[str, Any]:
    return BODIES[dialect] | ({} if dialect == GEMINI else {"model": model, "stream": stream})


@pytest.mark.parametrize("client", ALL)
@pytest.mark.parametrize("served", ALL)
def test_errors_name_the_model_as_the_client_did(crossing: Crossing, client: str, served: str) -> None:
    side, model = crossing.sides[served], renamed_model(crossing, served)
    for stream, answer in (
        (False, error_reply(400, WORDS)),
        (True, error_reply(404, WORDS)),
        (True, sse([named(ERRORS[served])])),
    ):
        side.upstream.always(answer)
        reply = crossing.post(path_of(client, model, stream=stream), ask(client, model, stream))
        assert reply.status_code >= 400, reply.text
        assert f"{model} is overloaded, {OWN}-2 is not" in reply.text


@pytest.mark.parametrize("client", ALL)
@pytest.mark.parametrize("served", ALL)
def test_an_error_in_front_of_a_stream_is_one_however_it_is_cut(crossing: Crossing, client: str, served: str) -> None:
    side = crossing.sides[served]
    crossing.recover(served)
    frame = named(ERRORS[served])
    side.upstream.always(sse([frame[:30], frame[30:-4], frame[-4:]], delay_s=0.02))
    reply = crossing.post(path_of(client, side.model, stream=True), ask(client, side.model, True))
    assert (reply.status_code, reply.headers["content-type"]) == (502, "application/json"), reply.text


@pytest.mark.parametrize("dialect", ALL)
def test_a_refusal_that_is_no_json_has_words_of_the_gateway(crossing: Crossing, dialect: str) -> None:
    side = crossing.sides[dialect]
    crossing.recover(dialect)
    side.upstream.always(Reply(400, [("Content-Type", "text/html")], b"<html>no</html>"))
    reply = crossing.post(path_of(dialect, side.model), ask(dialect, side.model, False))
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == "The provider answered with status 400."


def long_events(dialect: str) -> list[bytes]:
    """A stream with an event of 1.5 MB: these APIs repeat what was asked for, and results and images come at once."""
    if dialect == GEMINI:
        part = {"inlineData": {"mimeType": "image/png", "data": SHOWN[-1_500_000:]}}
        usage = {"promptTokenCount": 3, "candidatesTokenCount": 1290, "totalTokenCount": 1293}
        return [named({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}], "usageMetadata": usage})]
    if dialect == RESPONSES:
        begun = {"id": "r", "object": "response", "status": "in_progress", "output": [], "instructions": SHOWN}
        done = {**begun, "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}
        return [named({"type": "response.created", "response": begun}), named({"type": "response.completed", "response": done})]
    message = {"id": "m", "type": "message", "role": "assistant", "model": "x", "content": [], "usage": {"input_tokens": 3}}
    result = {"type": "bash_code_execution_tool_result", "tool_use_id": "t", "content": {"stdout": SHOWN}}
    return [
        named({"type": "message_start", "message": message}),
        named({"type": "content_block_start", "index": 0, "content_block": result}),
        named({"type": "content_block_stop", "index": 0}),
        named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        named({"type": "message_stop"}),
    ]


@pytest.mark.parametrize("dialect", [RESPONSES, MESSAGES, GEMINI])
@pytest.mark.parametrize("renamed", [False, True])
def test_long_events_pass_where_the_dialect_has_them(crossing: Crossing, dialect: str, renamed: bool) -> None:
    side = crossing.sides[dialect]
    model, identifier = renamed_model(crossing, dialect) if renamed else side.model, crossing.new_id()
    data = b"".join(long_events(dialect))
    answer: list[Step] = [head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])]
    side.upstream.always([*answer, *(chunk(data[at : at + 65536]) for at in range(0, len(data), 65536)), chunk(b"")])
    path = path_of(dialect, model, stream=True)
    reply = crossing.post(path, ask(dialect, model, True), request_id=identifier)
    assert len(reply.content) >= 1_500_000, reply.text[-500:]
    assert crossing.record(identifier)["status"] == "ok"
