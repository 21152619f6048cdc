"""The endpoints that cost money: each reads its body into an Ask; everything else is the relay's.

`UNIFIED` is the table of unified routes; provider-prefixed ones are read by daemon.api.passthrough with the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from daemon.domain.admission import CONVERSE, Ask
from daemon.protocols import (
    asks,
    dialects,
    gemini,
    openai_audio,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_moderations,
    rerank,
)
from daemon.protocols.bounds import hosted, stored, unbounded
from daemon.protocols.conversation_asks import read_messages, read_responses
from daemon.protocols.tiers import asked_tier

NO_AUDIO = frozenset({"audio_input", "audio_output"})
NO_IMAGES = frozenset({"image_input", "image_output"})  # its usage does not tell tokens of images apart


Reading = Callable[[dict[str, Any], int], Ask]  # a body and its bytes; ApiError 400


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route: its dialect, the kinds of model and of provider that may serve it, its path there, how it reads a body.

    `names_model`: a request without a model is none; else its dialect has a default.
    """

    dialect: str
    model_types: frozenset[str]
    protocols: frozenset[str]
    upstream_path: str
    read: Reading
    names_model: bool = True


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
        hosted=request.hosted,
    )


def one_shot(read: Reading) -> Reading:
    """Reads the body of an endpoint that is no conversation, and refuses what would be priced as something else."""

    def checked(body: dict[str, Any], size: int) -> Ask:
        openai_chat.refuse_lookalikes(body, ONE_SHOT_FIELDS)
        found, others = read(body, size), without_pace(body)
        return replace(
            found,
            unbounded=(*found.unbounded, *unbounded(others)),
            tier=asked_tier(others)[0],
            hosted=hosted(body),
            stored=stored(body),
        )

    return checked


def without_pace(body: dict[str, Any]) -> dict[str, Any]:
    """A body without the speed of speech: where it is a number it is no service tier."""
    return {**body, "speed": None} if isinstance(body.get("speed"), int | float) else body


CHAT = frozenset({"chat"})
GENERATE = Endpoint(dialects.GEMINI, CHAT, CONVERSE, "", gemini.read)  # the model is in its URL, see `url_named`
STREAM_METHOD, WHOLE_METHOD = "streamGenerateContent", "generateContent"
OPENAI = frozenset({"openai"})
ONE_SHOT_FIELDS = openai_chat.PRICED_FIELDS | asks.FIELDS


def _one_shot(dialect: str, model_type: str, path: str, read: Reading, *, names_model: bool = True) -> Endpoint:
    return Endpoint(dialect, frozenset({model_type}), OPENAI, path, one_shot(read), names_model)


UNIFIED: dict[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(dialects.OPENAI_CHAT, CHAT, CONVERSE, "/v1/chat/completions", read_chat),
    "/v1/responses": Endpoint(dialects.OPENAI_RESPONSES, CHAT, CONVERSE, "/v1/responses", read_responses),
    "/v1/messages": Endpoint(dialects.ANTHROPIC_MESSAGES, CHAT, CONVERSE, "/v1/messages", read_messages),
} | {
    endpoint.upstream_path: endpoint
    for endpoint in (
        _one_shot(dialects.OPENAI_COMPLETIONS, "chat", "/v1/completions", openai_completions.read),
        _one_shot(dialects.OPENAI_EMBEDDINGS, "embedding", "/v1/embeddings", openai_embeddings.read),
        _one_shot(dialects.OPENAI_IMAGES, "image", "/v1/images/generations", openai_images.read),
        _one_shot(dialects.OPENAI_SPEECH, "audio", "/v1/audio/speech", openai_audio.read_speech),
        _one_shot(dialects.OPENAI_MODERATIONS, "moderation", "/v1/moderations", openai_moderations.read, names_model=False),
        _one_shot(dialects.RERANK, "rerank", "/v1/rerank", rerank.read),
    )
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
