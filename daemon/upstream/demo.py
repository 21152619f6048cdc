"""The demo provider: a small deterministic chat model inside the daemon, for first steps and smoke tests without any account.

It answers `POST …/chat/completions` by repeating what it was told, in tokens that are words and signs, streamed at a
realistic pace. Usage is exact by its own tokeniser. It is held for and billed like any other provider.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from daemon.upstream.base import UpstreamRequest

FIRST_TOKEN_S = 0.15
TOKEN_S = 0.02
_TOKEN = re.compile(r"\s*(?:\w{1,8}|[^\w\s])|\s+$")
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


def tokens(text: str) -> list[str]:
    """Words (in pieces of at most eight characters) and signs, each with the space before it."""
    return _TOKEN.findall(text)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(part.get("text", "[media]") for part in content if isinstance(part, dict))
    return ""


def _stopped(answer: str, stop: Any) -> str:
    places = [answer.find(one) for one in ([stop] if isinstance(stop, str) else stop or []) if one]
    found = [place for place in places if place >= 0]
    return answer[: min(found)] if found else answer


class DemoReply:
    """One answer, as a body or as paced chunks."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], pieces: list[bytes], pause_s: float) -> None:
        self.status = status
        self.headers = headers
        self._left = iter(pieces)  # a reply is read once
        self._pause_s = pause_s

    async def read(self, max_bytes: int) -> bytes:
        """The whole body."""
        await asyncio.sleep(self._pause_s)
        return b"".join(self._left)[:max_bytes]

    async def chunks(self) -> AsyncIterator[bytes]:
        """The events, one token at a time."""
        for piece in self._left:
            await asyncio.sleep(self._pause_s)
            yield piece

    def progress(self) -> None:
        """Nothing waits for it."""

    async def aclose(self) -> None:
        """Nothing is open."""


class DemoUpstream:
    """An Upstream that needs no network."""

    async def send(self, request: UpstreamRequest) -> DemoReply:
        """Answer a chat completion; 404 for anything else."""
        if request.on_sending is not None:
            request.on_sending()
        if not request.url.partition("?")[0].endswith("/chat/completions") or not isinstance(request.body, bytes):
            problem = {"message": "the demo model only chats", "type": "invalid_request_error", "code": "not_found"}
            return DemoReply(404, [_JSON], [json.dumps({"error": problem}).encode()], 0)
        return answer(json.loads(request.body), hashlib.sha256(request.body).hexdigest())

    async def aclose(self) -> None:
        """Nothing is open."""


def answer(body: dict[str, Any], digest: str) -> DemoReply:
    """The reply to a chat request: what the last user message said, repeated."""
    messages = [message for message in body.get("messages", []) if isinstance(message, dict)]
    said = next((_text_of(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")
    kind = body.get("response_format")
    wants_json = isinstance(kind, dict) and kind.get("type") in ("json_object", "json_schema")
    text = json.dumps({"echo": said}) if wants_json else f"You said: {said} This is the demo model, it only repeats."
    generated = tokens(_stopped(text, body.get("stop")))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    finish = "stop"
    if isinstance(limit, int) and len(generated) > limit:
        generated, finish = generated[:limit], "length"
    prompt = sum(len(tokens(_text_of(message.get("content")))) + 3 for message in messages)
    usage = {"prompt_tokens": prompt, "completion_tokens": len(generated), "total_tokens": prompt + len(generated)}
    base = {"id": f"chatcmpl-demo{digest[:20]}", "created": 1_700_000_000, "model": body.get("model")}
    if body.get("stream") is not True:
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(generated)}, "finish_reason": finish}
        whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        return DemoReply(200, [_JSON], [json.dumps(whole).encode()], FIRST_TOKEN_S)
    return DemoReply(200, [_EVENTS], _events(base, generated, finish, usage if _wants_usage(body) else None), TOKEN_S)


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _events(base: dict[str, Any], generated: list[str], finish: str, usage: dict[str, int] | None) -> list[bytes]:
    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return (
            b"data: " + json.dumps({**base, "object": "chat.completion.chunk", "choices": choices, **more}).encode() + b"\n\n"
        )

    def choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "finish_reason": reason}

    pieces = [event([choice({"role": "assistant", "content": ""})])]
    pieces += [event([choice({"content": token})]) for token in generated]
    last = event([choice({}, finish)])
    if usage is not None:
        last += event([], usage=usage)
    return [*pieces, last + b"data: [DONE]\n\n"]
