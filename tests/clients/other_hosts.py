"""Scripted hosts of Anthropic's and of Google's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from tests.clients.openai_hosts import stream
from tests.clients.persona import (
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    OVERLOAD_TEXT,
    OVERLOADED,
    Act,
    Decide,
    Tool,
    Turn,
    decide,
    parameters_of,
    since_answer,
    text_of,
)
from tests.support.upstream import Answer, Received, json_reply

COUNTED: Final = 7  # what either says of any prompt
CALL_ID: Final = "toolu_1"
# Where the schema of a function's parameters stands; Google's own SDK mixes both ways of writing a name.
SCHEMAS: Final = ("parametersJsonSchema", "parameters_json_schema", "parameters")


# ------------------------------------------------------------------------------------------- Anthropic


def messages_host(request: Received, decide: Decide = decide) -> Answer:
    """A provider that serves /messages and /messages/count_tokens."""
    if request.path.endswith("/count_tokens"):
        return json_reply({"input_tokens": COUNTED})
    turn = read_messages(request.json)
    act = decide(turn)
    if turn.stream:
        return stream(message_frames(turn.model, act), act)
    finish = "tool_use" if act.call else "end_turn"
    return json_reply(message_of(turn.model, [block_of(act)], finish, OUTPUT_TOKENS))


def read_messages(body: dict[str, Any]) -> Turn:
    new = since_answer(body["messages"], lambda message: message["role"] == "assistant")
    blocks = [block for message in new if not isinstance(message["content"], str) for block in message["content"]]
    results = [text_of(block.get("content")) for block in blocks if block["type"] == "tool_result"]
    tools = [tool for tool in body.get("tools") or () if "input_schema" in tool]
    wanted = body.get("output_format") or (body.get("output_config") or {}).get("format")
    return Turn(
        body["model"],
        "".join(text_of(message["content"]) for message in new),
        tuple(Tool(tool["name"], parameters_of(tool["input_schema"])) for tool in tools),
        results[-1] if results else None,
        bool(wanted),
        bool(body.get("stream")),
    )


def block_of(act: Act) -> dict[str, Any]:
    if act.call:
        return {"type": "tool_use", "id": CALL_ID, "name": act.call[0], "input": json.loads(act.call[1])}
    return {"type": "text", "text": act.text}


def message_of(model: str, content: list[dict[str, Any]], finish: str | None, output: int) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": finish, "stop_sequence": None,
        "usage": usage_of(output),
    }  # fmt: skip


def usage_of(output: int) -> dict[str, int]:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": INPUT_TOKENS, **cached, "output_tokens": output}


def message_frames(model: str, act: Act) -> Iterator[bytes]:
    for event in message_events(model, act):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def message_events(model: str, act: Act) -> Iterator[dict[str, Any]]:
    yield {"type": "message_start", "message": message_of(model, [], None, 1)}
    empty = {**block_of(act), "input": {}} if act.call else {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": empty}
    yield {"type": "ping"}
    if act.call:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in act.arguments]
    else:
        deltas = [{"type": "text_delta", "text": piece} for piece in act.pieces]
    yield from ({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas)
    if act.broken == OVERLOADED:
        yield {"type": "error", "error": {"type": "overloaded_error", "message": OVERLOAD_TEXT}}
    if act.broken:
        return
    yield {"type": "content_block_stop", "index": 0}
    finish = {"stop_reason": "tool_use" if act.call else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": finish, "usage": usage_of(OUTPUT_TOKENS)}
    yield {"type": "message_stop"}


# ---------------------------------------------------------------------------------------------- Google


def gemini_host(request: Received, decide: Decide = decide) -> Answer:
    """A provider that serves models/M:generateContent, :streamGenerateContent and :countTokens."""
    model, action = request.path.rsplit("/", 1)[1].split(":")
    if action == "countTokens":
        return json_reply({"totalTokens": COUNTED})
    turn = read_contents(model, action, request.json)
    act = decide(turn)
    if not turn.stream:
        return json_reply(candidate_of(model, [content_part(act)], finish="STOP"))
    assert "alt=sse" in request.query, request.query
    return stream(gemini_frames(model, act), act)


def read_contents(model: str, action: str, body: dict[str, Any]) -> Turn:
    new = since_answer(body["contents"], lambda content: content.get("role") == "model")
    parts = [part for content in new for part in content["parts"]]
    results = [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]
    functions = [function for tool in body.get("tools") or () for function in tool.get("functionDeclarations", ())]
    schemas = [next((function[name] for name in SCHEMAS if name in function), None) for function in functions]
    return Turn(
        model,
        text_of(parts),
        tuple(Tool(function["name"], parameters_of(schema)) for function, schema in zip(functions, schemas, strict=True)),
        " ".join(str(value) for value in results[-1].values()) if results else None,
        body.get("generationConfig", {}).get("responseMimeType") == "application/json",
        action == "streamGenerateContent",
    )


def content_part(act: Act) -> dict[str, Any]:
    if act.call:
        return {"functionCall": {"name": act.call[0], "args": json.loads(act.call[1])}}
    return {"text": act.text}


def candidate_of(model: str, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish:
        candidate["finishReason"] = finish
    counts = {"promptTokenCount": INPUT_TOKENS, "totalTokenCount": INPUT_TOKENS}
    if finish:
        counts |= {"candidatesTokenCount": OUTPUT_TOKENS, "totalTokenCount": INPUT_TOKENS + OUTPUT_TOKENS}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": "resp_1"}


def gemini_frames(model: str, act: Act) -> Iterator[dict[str, Any]]:
    if act.call:
        yield candidate_of(model, [content_part(act)], finish="STOP")
        return
    *early, last = act.pieces
    for piece in early:
        yield candidate_of(model, [{"text": piece}], finish=None)
    yield candidate_of(model, [{"text": last}], finish=None if act.broken else "STOP")
    if act.broken == OVERLOADED:
        yield {"error": {"code": 503, "message": OVERLOAD_TEXT, "status": "UNAVAILABLE"}}
