"""OpenAI chat completions (POST /v1/chat/completions) and the many hosts that imitate it.

Map: request (body -> ChatRequest, or an ApiError) -> edit (the few bytes of a body that the gateway changes) -> usage
(reply or chunk -> Usage) -> stream (StreamReader watches, StreamAdapter changes) -> errors (the error envelope).
Those serve bytes that pass through. For translations: codec (OpenAIChat), made of decode, encode, reply, stream_decode and
stream_encode; tables say what becomes of each field, habits what a host accepts.
"""

from daemon.protocols.openai_chat.codec import OpenAIChat
from daemon.protocols.openai_chat.edit import rewrite_reply_usage, rewrite_request
from daemon.protocols.openai_chat.errors import error_body, error_frame
from daemon.protocols.openai_chat.habits import HABITS, Habits, habits_of
from daemon.protocols.openai_chat.request import (
    PRICED_FIELDS,
    UNBOUNDED_FIELDS,
    ChatRequest,
    parse_loose,
    parse_request,
    refuse_lookalikes,
)
from daemon.protocols.openai_chat.stream import StreamAdapter, StreamReader
from daemon.protocols.openai_chat.usage import reply_text, reply_tool_calls, usage_of

__all__ = [
    "HABITS",
    "PRICED_FIELDS",
    "UNBOUNDED_FIELDS",
    "ChatRequest",
    "Habits",
    "OpenAIChat",
    "StreamAdapter",
    "StreamReader",
    "error_body",
    "error_frame",
    "habits_of",
    "parse_loose",
    "parse_request",
    "refuse_lookalikes",
    "reply_text",
    "reply_tool_calls",
    "rewrite_reply_usage",
    "rewrite_request",
    "usage_of",
]
