"""The endpoints that cost money: each reads its body into an Ask; everything else is the relay's.

`UNIFIED` is the table of unified routes; provider-prefixed ones are read by daemon.api.passthrough with the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from daemon.api import one_shot
from daemon.api.incoming import Request, form_type, read_body, read_form
from daemon.api.one_shot import Reading, ReadingForm
from daemon.domain.admission import CONVERSE, Ask
from daemon.domain.errors import ApiError
from daemon.domain.strict_json import InvalidJson, decode_object
from daemon.gateway import Gateway
from daemon.protocols import (
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
from daemon.protocols.conversation_asks import read_messages, read_responses
from daemon.relay.upload import Upload

NO_AUDIO = frozenset({"audio_input", "audio_output"})
NO_IMAGES = frozenset({"image_input", "image_output"})  # its usage does not tell tokens of images apart


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route: its dialect, the kinds of model and of provider that may serve it, its path there, how it reads a body.

    `names_model`: a request without a model is none; else its dialect has a default. `form`: how it reads a body that is a
    form, if it takes one.
    """

    dialect: str
    model_types: frozenset[str]
    protocols: frozenset[str]
    upstream_path: str
    read: Reading
    names_model: bool = True
    form: ReadingForm | None = None


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


CHAT = frozenset({"chat"})
GENERATE = Endpoint(dialects.GEMINI, CHAT, CONVERSE, "", gemini.read)  # the model is in its URL, see `url_named`
STREAM_METHOD, WHOLE_METHOD = "streamGenerateContent", "generateContent"
OPENAI = frozenset({"openai"})


def _one_shot(
    dialect: str, kind: str, path: str, read: Reading, form: ReadingForm | None = None, *, names_model: bool = True
) -> Endpoint:
    return Endpoint(dialect, frozenset({kind}), OPENAI, f"/v1/{path}", one_shot.reading(dialect, read), names_model, form)


UNIFIED: dict[str, Endpoint] = {
    "/v1/chat/completions": Endpoint(dialects.OPENAI_CHAT, CHAT, CONVERSE, "/v1/chat/completions", read_chat),
    "/v1/responses": Endpoint(dialects.OPENAI_RESPONSES, CHAT, CONVERSE, "/v1/responses", read_responses),
    "/v1/messages": Endpoint(dialects.ANTHROPIC_MESSAGES, CHAT, CONVERSE, "/v1/messages", read_messages),
} | {
    endpoint.upstream_path: endpoint
    for endpoint in (
        _one_shot(dialects.OPENAI_COMPLETIONS, "chat", "completions", openai_completions.read),
        _one_shot(dialects.OPENAI_EMBEDDINGS, "embedding", "embeddings", openai_embeddings.read),
        _one_shot(dialects.OPENAI_IMAGES, "image", "images/generations", openai_images.read),
        _one_shot(dialects.OPENAI_IMAGES, "image", "images/edits", openai_images.read_edit, one_shot.EDIT_FORM),
        _one_shot(dialects.OPENAI_SPEECH, "audio", "audio/speech", openai_audio.read_speech),
        _one_shot(
            dialects.OPENAI_TRANSCRIPTION, "audio", "audio/transcriptions", one_shot.no_form, one_shot.TRANSCRIPTION_FORM
        ),
        _one_shot(dialects.OPENAI_MODERATIONS, "moderation", "moderations", openai_moderations.read, names_model=False),
        _one_shot(dialects.RERANK, "rerank", "rerank", rerank.read),
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


@dataclass(frozen=True, slots=True)
class Given:
    """What a billable request brought: its bytes and what they say, or the form that holds them."""

    body: bytes
    data: dict[str, Any]
    ask: Ask
    upload: Upload | None = None


async def take_in(
    gateway: Gateway, request: Request, endpoint: Endpoint, slug: str | None, said: dict[str, Any] | None
) -> Given:
    """The body as its endpoint reads it. ApiError when it is none, or too large or too slow."""
    if endpoint.form is not None and (kind := form_type(request)) is not None:
        upload = await read_form(gateway, request, kind)
        try:
            return Given(b"", upload.form.fields, endpoint.form(upload.form, upload.size), upload)
        except BaseException:
            upload.close()
            raise
    body = await read_body(gateway, request)
    try:
        data = decode_object(body)
    except InvalidJson as error:
        if slug is not None:
            raise ApiError.of(
                "endpoint_not_allowed",
                endpoint=f"POST {request.path}",
                message="Only JSON requests that name a priced model pass to a provider.",
            ) from error
        raise ApiError.of("invalid_json", message=f"The request body is not valid JSON: {error}") from error
    if slug is not None and said is None and endpoint.names_model and "model" not in data:
        raise ApiError.of(
            "endpoint_not_allowed",
            endpoint=f"POST {request.path}",
            message=f"POST {unquote(request.path)[:200]} names no model: only requests for a priced model, and "
            "endpoints that the operator allow-listed, pass to a provider.",
        )
    if said is not None:
        data = {**data, **said}
    return Given(body, data, endpoint.read(data, len(body)))
