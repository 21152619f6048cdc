"""Scripted hosts of OpenAI's two APIs of conversation, and of embeddings, images and audio."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from tests.clients.persona import (
    BREAK_OFF,
    CALL_ID,
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
from tests.support.upstream import Answer, Close, Received, Reply, json_reply, sse

VECTOR = (0.25, -0.5, 1.0)
HALF_AN_EVENT = b'data: {"id": "half'
PICTURE = base64.b64encode(b"\x89PNG scripted").decode()
SOUND, HEARD = b"ID3 scripted sound", "A scripted sentence."
OF_THE_HOST = ("function_call", "reasoning")  # items of a conversation that the host said
CHAT_USAGE = {
    "prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}  # fmt: skip
RESPONSES_USAGE = {
    "input_tokens": INPUT_TOKENS,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": OUTPUT_TOKENS,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
}


# ---------------------------------------------------------------------------------- chat completions


def chat_host(request: Received, decide: Decide = decide) -> Answer:
    """A provider that serves /chat/completions and the one-shot endpoints."""
    if not request.path.endswith("/chat/completions"):
        return one_shot(request)
    body = request.json
    turn = read_chat(body)
    act = decide(turn)
    if turn.stream:
        usage = (body.get("stream_options") or {}).get("include_usage")
        return stream(chat_frames(turn.model, act, usage=bool(usage)), act)
    message: dict[str, Any] = {"role": "assistant", "content": act.text or None, "refusal": None}
    if act.call:
        message["tool_calls"] = [call_of(act, act.call[1])]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if act.call else "stop"}
    return json_reply({**chat_head(turn.model, "chat.completion"), "choices": [choice], "usage": CHAT_USAGE})


def read_chat(body: dict[str, Any]) -> Turn:
    new = since_answer(body["messages"], lambda message: message["role"] == "assistant")
    results = [message for message in new if message["role"] == "tool"]
    functions = [tool["function"] for tool in body.get("tools") or ()]
    return Turn(
        body["model"],
        "".join(text_of(message["content"]) for message in new if message["role"] == "user"),
        tuple(Tool(function["name"], parameters_of(function.get("parameters"))) for function in functions),
        text_of(results[-1]["content"]) if results else None,
        (body.get("response_format") or {}).get("type") in ("json_schema", "json_object"),
        bool(body.get("stream")),
    )


def chat_head(model: str, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": model}


def call_of(act: Act, arguments: str) -> dict[str, Any]:
    assert act.call is not None
    return {"id": CALL_ID, "type": "function", "function": {"name": act.call[0], "arguments": arguments}}


def chat_frames(model: str, act: Act, *, usage: bool) -> Iterator[dict[str, Any] | str]:
    head = chat_head(model, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": None if act.call else ""})
    yield from (chunk({"content": piece}) for piece in act.pieces)
    if act.broken == OVERLOADED:
        yield {"error": {"message": OVERLOAD_TEXT, "type": "server_error", "param": None, "code": "overloaded"}}
    if act.broken:
        return
    if act.call:
        first, second = act.arguments
        yield chunk({"tool_calls": [{"index": 0, **call_of(act, first)}]})
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": second}}]})
    yield chunk({}, "tool_calls" if act.call else "stop")
    if usage:
        yield {**head, "choices": [], "usage": CHAT_USAGE}
    yield "[DONE]"


def stream(frames: Iterator[dict[str, Any] | str | bytes], act: Act) -> Answer:
    """An event stream. One that is broken has no last chunk, and may end with its connection in the middle of an event."""
    written = [*frames, *([HALF_AN_EVENT] if act.broken == BREAK_OFF else [])]
    steps = list(sse(written, end=not act.broken))
    return [*steps, Close()] if act.broken else steps


# ----------------------------------------------------------------------------------------- responses


def responses_host(request: Received, decide: Decide = decide) -> Answer:
    """A provider that serves /responses and nothing else."""
    turn = read_responses(request.json)
    act = decide(turn)
    if turn.stream:
        return stream(response_frames(turn.model, act), act)
    return json_reply(response_of(turn.model, [item_of(act)], "completed"))


def read_responses(body: dict[str, Any]) -> Turn:
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    new = since_answer(items, lambda item: item.get("role") == "assistant" or item.get("type") in OF_THE_HOST)
    results = [item for item in new if item.get("type") == "function_call_output"]
    tools = [tool for tool in body.get("tools") or () if tool["type"] == "function"]
    return Turn(
        body["model"],
        "".join(text_of(item["content"]) for item in new if item.get("role") == "user"),
        tuple(Tool(tool["name"], parameters_of(tool.get("parameters"))) for tool in tools),
        text_of(results[-1]["output"]) if results else None,
        ((body.get("text") or {}).get("format") or {}).get("type") in ("json_schema", "json_object"),
        bool(body.get("stream")),
    )


def response_of(model: str, output: list[dict[str, Any]], status: str) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "model": model,
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "output": output,
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": RESPONSES_USAGE if status == "completed" else None,
    }  # fmt: skip


def item_of(act: Act, *, done: bool = True) -> dict[str, Any]:
    status = "completed" if done else "in_progress"
    if act.call:
        called = {"call_id": CALL_ID, "name": act.call[0], "arguments": act.call[1] if done else ""}
        return {"id": "fc_1", "type": "function_call", "status": status, **called}
    content = [part_of(act.text)] if done else []
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": content}


def part_of(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_frames(model: str, act: Act) -> Iterator[bytes]:
    for number, event in enumerate(response_events(model, act)):
        data = json.dumps({**event, "sequence_number": number})
        yield f"event: {event['type']}\ndata: {data}\n\n".encode()


def response_events(model: str, act: Act) -> Iterator[dict[str, Any]]:
    yield {"type": "response.created", "response": response_of(model, [], "in_progress")}
    yield {"type": "response.in_progress", "response": response_of(model, [], "in_progress")}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item_of(act, done=False)}
    if act.call:
        place = {"item_id": "fc_1", "output_index": 0}
        for piece in act.arguments:
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **place, "name": act.call[0], "arguments": act.call[1]}
    else:
        place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield {"type": "response.content_part.added", **place, "part": part_of("")}
        for piece in act.pieces:
            yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        if act.broken == OVERLOADED:
            yield {"type": "error", "code": "server_error", "message": OVERLOAD_TEXT, "param": None}
        if act.broken:
            return
        yield {"type": "response.output_text.done", **place, "text": act.text, "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": part_of(act.text)}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item_of(act)}
    yield {"type": "response.completed", "response": response_of(model, [item_of(act)], "completed")}


# ------------------------------------------------------------------------------- one-shot endpoints


def one_shot(request: Received) -> Answer:
    """Embeddings, images, speech and transcriptions."""
    if request.path.endswith("/embeddings"):
        return embeddings(request.json)
    if "/images/" in request.path:
        return json_reply({"created": 1_700_000_000, "data": [{"b64_json": PICTURE}]})
    if request.path.endswith("/audio/speech"):
        return Reply(200, [("Content-Type", "audio/mpeg")], SOUND)
    assert request.path.endswith("/audio/transcriptions"), request.path
    return json_reply({"text": HEARD})


def embeddings(body: dict[str, Any]) -> Answer:
    given = body["input"]
    count = 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)
    packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
    vector = packed if body.get("encoding_format") == "base64" else list(VECTOR)
    data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
    usage = {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS}
    return json_reply({"object": "list", "data": data, "model": body["model"], "usage": usage})
