"""The bytes that go over the wire: one chat request, its unstreamed reply, its stream, and the check of a reply.

Usage is fixed, so the bill of a run is known to the last nano-USD before it starts: see CHAT_USAGE, STREAM_USAGE.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MODEL = "bench-model"
CHUNKS = 200

# (input tokens, output tokens) as the upstream reports them
CHAT_USAGE = (24, 60)
STREAM_USAGE = (24, 200)

MESSAGES = [
    {"role": "system", "content": "You are a concise assistant. Answer in plain words and keep to the question asked."},
    {"role": "user", "content": "Explain in three sentences why a ledger records every movement instead of a total."},
]
ANSWER = (
    "A ledger that records every movement can be checked against itself, while a bare total can only be believed. "
    "When a process dies between two steps, the entries tell which step happened and which did not. "
    "The balance is then a sum that anyone may compute again, and disputes end with a line instead of an opinion."
)
WORDS = [f" w{i:03d}-{'abcdefgh'[i % 8] * 3}" for i in range(CHUNKS)]
STREAM_TEXT = "".join(WORDS)
# In the user message it asks the upstream for a paced stream: no system under test looks there.
PACED_MARK = "Take your time."
MODES = ("chat", "stream", "paced")


def usage_object(usage: tuple[int, int]) -> dict[str, Any]:
    """OpenAI usage object of (input, output) tokens."""
    return {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}


def request_body(mode: str) -> bytes:
    """One chat request of a mode in MODES, as an SDK sends it by default: a stream does not ask for usage."""
    system, user = MESSAGES
    if mode == "paced":
        user = user | {"content": f"{user['content']} {PACED_MARK}"}
    body: dict[str, Any] = {"model": MODEL, "messages": [system, user], "temperature": 0.7, "max_tokens": 256}
    if mode != "chat":
        body |= {"stream": True}
    return json.dumps(body, separators=(",", ":")).encode()


def chat_body() -> bytes:
    """The unstreamed reply, about 700 bytes of JSON."""
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    reply = {"id": "chatcmpl-bench0000000000000000000001", "object": "chat.completion", "created": 1750000000}
    reply |= {"model": MODEL, "choices": [choice], "usage": usage_object(CHAT_USAGE), "system_fingerprint": "fp_bench"}
    return json.dumps(reply, separators=(",", ":")).encode()


def _event(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
    chunk = {"id": "chatcmpl-bench00000002", "object": "chat.completion.chunk", "created": 1750000000, "model": MODEL}
    chunk |= {"choices": choices}
    if usage:
        chunk |= {"usage": usage}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def stream_events(include_usage: bool) -> list[bytes]:
    """The SSE frames: CHUNKS content deltas (the first with the role), the finish, the usage when asked for, [DONE]."""
    events = []
    for i, word in enumerate(WORDS):
        delta = {"role": "assistant", "content": word} if i == 0 else {"content": word}
        events.append(_event([{"index": 0, "delta": delta, "finish_reason": None}], None))
    events.append(_event([{"index": 0, "delta": {}, "finish_reason": "stop"}], None))
    if include_usage:
        events.append(_event([], usage_object(STREAM_USAGE)))
    events.append(b"data: [DONE]\n\n")
    return events


def message_body() -> bytes:
    """The unstreamed reply as the Messages API has it: the same text and usage."""
    usage = {"input_tokens": CHAT_USAGE[0], "output_tokens": CHAT_USAGE[1]}
    reply = {"id": "msg_bench0000000000000000000001", "type": "message", "role": "assistant", "model": MODEL}
    reply |= {"content": [{"type": "text", "text": ANSWER}], "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    return json.dumps(reply, separators=(",", ":")).encode()


def message_events() -> list[bytes]:
    """The stream as the Messages API has it: the same deltas and usage."""

    def event(kind: str, **fields: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()

    started = {"id": "msg_bench2", "type": "message", "role": "assistant", "model": MODEL, "content": []}
    started |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": STREAM_USAGE[0], "output_tokens": 1}}
    deltas = [event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in WORDS]
    return [
        event("message_start", message=started),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *deltas,
        event("content_block_stop", index=0),
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": STREAM_USAGE[1]},
        ),
        event("message_stop"),
    ]


def _data_lines(body: bytes) -> Iterator[bytes]:
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            yield line[5:].strip()


def chat_fault(body: bytes) -> str | None:
    """None when `body` is the whole unstreamed reply with its usage, otherwise what is wrong. Re-encoding is allowed."""
    try:
        reply = json.loads(body)
        if reply["choices"][0]["message"]["content"] != ANSWER:
            return "other text than the upstream sent"
        if reply["usage"]["completion_tokens"] != CHAT_USAGE[1]:
            return "other usage than the upstream sent"
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"not a chat completion: {error!r}"
    return None


def stream_fault(body: bytes) -> str | None:
    """None when `body` is the whole stream: every delta in order, no false usage, [DONE] at the end."""
    lines = list(_data_lines(body))
    if not lines or lines[-1] != b"[DONE]":
        return "no [DONE] at the end"
    text, usage = [], None
    try:
        for line in lines[:-1]:
            chunk = json.loads(line)
            for choice in chunk["choices"]:
                text.append(choice["delta"].get("content") or "")
            usage = chunk.get("usage") or usage
        if "".join(text) != STREAM_TEXT:
            return "other text than the upstream sent"
        if usage is not None and usage["completion_tokens"] != STREAM_USAGE[1]:
            return "other usage than the upstream sent"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return f"not a stream of chat chunks: {error!r}"
    return None


def stream_looks_whole(body: bytes) -> bool:
    """A cheap necessary condition, for the streams between two fully parsed ones."""
    tail = body[-64:].rstrip()
    return tail.endswith(b"[DONE]") and WORDS[-1].encode() in body and body.count(b"data:") >= CHUNKS + 1
