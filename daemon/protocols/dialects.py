"""The wire formats by name: which reader, adapter and usage belong to a dialect, and how an error looks to its client.

`openai_chat` is chat completions. `raw` is anything else on a provider's own routes: its bytes pass unread but for
usage. To add a dialect: 1 its module, 2 a row in each table below, 3 golden cases.
"""

from __future__ import annotations

from typing import Any

from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols import openai_chat, raw
from daemon.protocols.anthropic_errors import anthropic_error_body, anthropic_error_frame

OPENAI_CHAT = "openai_chat"
RAW = "raw"

READERS: dict[str, type[openai_chat.StreamReader] | type[raw.StreamReader]] = {
    OPENAI_CHAT: openai_chat.StreamReader,
    RAW: raw.StreamReader,
}
USAGE = {OPENAI_CHAT: openai_chat.usage_of, RAW: raw.usage_of}
TEXT = {OPENAI_CHAT: openai_chat.reply_text, RAW: raw.reply_text}


def reader(dialect: str) -> openai_chat.StreamReader | raw.StreamReader:
    """What watches a stream of this dialect pass."""
    return READERS[dialect]()


def adapter(dialect: str, *, strip_usage: bool, model_name: str | None) -> openai_chat.StreamAdapter:
    """What changes the little that must change in a stream; raw streams are never changed."""
    if dialect == RAW:
        return openai_chat.StreamAdapter()
    return openai_chat.StreamAdapter(strip_usage=strip_usage, model_name=model_name)


def usage_of(dialect: str, reply: dict[str, Any]) -> Usage | None:
    """The usage that a whole reply reports; InvalidUsage when it cannot be true."""
    return USAGE[dialect](reply)


def reply_text(dialect: str, reply: dict[str, Any]) -> str:
    """The generated text of a whole reply, to be counted when it reports no usage."""
    return TEXT[dialect](reply)


def rewrite_reply_model(dialect: str, body: bytes, name: str) -> bytes:
    """A whole reply with the model named as the client named it."""
    return openai_chat.rewrite_reply_model(body, name) if dialect == OPENAI_CHAT else body


def rewrite_reply_usage(dialect: str, body: bytes, found: Usage) -> bytes:
    """A whole reply that reports the usage which was counted for it, because its host reported none."""
    if dialect != OPENAI_CHAT:
        return body
    return openai_chat.rewrite_reply_usage(body, found.input_tokens, found.output_tokens)


def envelope_of(path: str) -> str:
    """Which error envelope the client of a path expects."""
    return "anthropic" if path.endswith(("/messages", "/messages/count_tokens")) else "openai"


def error_reply(error: ApiError, envelope: str, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an error."""
    body = anthropic_error_body(error, request_id) if envelope == "anthropic" else openai_chat.error_body(error)
    head = [(b"content-type", b"application/json")]
    head += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return error.http_status, head, body


def error_event(error: ApiError, envelope: str, request_id: str) -> bytes:
    """The last event of a stream that breaks after its first byte."""
    return anthropic_error_frame(error, request_id) if envelope == "anthropic" else openai_chat.error_frame(error)
