"""The endpoints that cost money: each reads its body into an Ask; everything else is the relay's.

`UNIFIED` is the table of unified routes; provider-prefixed ones are read by daemon.api.passthrough with the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from daemon.domain.admission import CONVERSE, Ask
from daemon.protocols import dialects, gemini, openai_chat
from daemon.protocols.conversation_asks import read_messages, read_responses

NO_AUDIO = frozenset({"audio_input", "audio_output"})
NO_IMAGES = frozenset({"image_input", "image_output"})  # its usage does not tell tokens of images apart


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route: its dialect, the kinds of model and of provider that may serve it, its path there, how it reads a body."""

    dialect: str
    model_types: frozenset[str]
    protocols: frozenset[str]
    upstream_path: str
    read: Callable[[dict[str, Any], int], Ask]


def read_chat(body: dict[str, Any], size: int) -> Ask:
    """A chat completion on a unified route: documented fields are checked."""
    return _chat_ask(openai_chat.parse_request(body), size)


def read_chat_loosely(body: dict[str, Any], size: int) -> Ask:
    """A chat completion on a provider's own route: only what decides the price is checked."""
    return _chat_ask(openai_chat.parse_loose(body), size)


def _chat_ask(request: openai_chat.ChatRequest, size: int) -> Ask:
    audio = request.features & {"audio_input", "audio_output", "file_input"}
    return Ask(
        model=request.model,
        stream=request.stream,
        body_bytes=size,
        input_bound=request.input_bound(size),
        output_limit=request.output_limit,
        output_extra=request.output_extra,
        n=request.n,
        media_parts=request.media_parts,
        features=request.features,
        unbounded=request.unbounded,
        not_used=NO_IMAGES if audio else NO_IMAGES | NO_AUDIO,
        include_usage=request.include_usage,
        tier=request.tier,
    )


CHAT = frozenset({"chat"})
GENERATE = Endpoint(dialects.GEMINI, CHAT, CONVERSE, "", gemini.read)  # the model is in its URL, see `url_named`
STREAM_METHOD, WHOLE_METHOD = "streamGenerateContent", "generateContent"
UNIFIED: dict[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(dialects.OPENAI_CHAT, CHAT, CONVERSE, "/v1/chat/completions", read_chat),
    "/v1/responses": Endpoint(dialects.OPENAI_RESPONSES, CHAT, CONVERSE, "/v1/responses", read_responses),
    "/v1/messages": Endpoint(dialects.ANTHROPIC_MESSAGES, CHAT, CONVERSE, "/v1/messages", read_messages),
}
# The same as rules of the URL map.
URL_NAMED = tuple(
    f"/{version}/models/<path:name>:{method}" for version in ("v1beta", "v1") for method in (WHOLE_METHOD, STREAM_METHOD)
)


def url_named(path: str) -> tuple[Endpoint, dict[str, Any]] | None:
    """The endpoint of a (percent-encoded) path that names the model itself, and the fields that it says beside the body."""
    found = gemini.model_and_method(path) if ":" in path or "%3" in path else None
    if found is None or found[1] not in (STREAM_METHOD, WHOLE_METHOD):
        return None
    return GENERATE, {"model": found[0], "stream": found[1] == STREAM_METHOD}


def url_named_at(endpoint: str) -> tuple[Endpoint, dict[str, Any]] | None:
    """The same for a provider's own endpoint, which may leave the version out: 'v1beta/models/x:generateContent'."""
    return url_named(f"/{endpoint}") or url_named(f"/v1beta/{endpoint}")
