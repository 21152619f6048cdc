"""POST /v1/messages/count_tokens and Gemini's …:countTokens: how long a prompt is, without sending it to a model.

The provider counts where it speaks the caller's dialect and serves the model first; else, and whenever it does not answer well,
it is counted here. Free: no hold, a usage record without cost. Who may not use the model is told that it does not exist.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import jiter

from daemon import log
from daemon.api.auth import Caller
from daemon.api.paths import provider_endpoint
from daemon.domain import admission
from daemon.domain.catalog import Provider, is_priced
from daemon.domain.countable import Countable
from daemon.domain.errors import ApiError
from daemon.domain.strict_json import InvalidJson, decode_object
from daemon.gateway import Gateway
from daemon.protocols import anthropic_messages, gemini
from daemon.protocols.rename import json_string, with_members
from daemon.relay import attempts
from daemon.relay.passage import JSON
from daemon.upstream import headers as upstream_headers
from daemon.upstream.base import Deadlines, UpstreamRequest
from daemon.upstream.errors import UpstreamError
from db import usage
from db.snapshot import StoredDeployment, StoredModel
from db.usage import UsageRow

NATIVE_S: Final = 10.0  # after that long it is counted here
REPLY_BYTES: Final = 64 * 1024
COUNT: Final = "countTokens"
PATHS: Final = ("/v1/messages/count_tokens", f"/v1beta/models/<path:name>:{COUNT}", f"/v1/models/<path:name>:{COUNT}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a dialect asks for a count, reads a request to be counted, and writes the number; `number` is its field."""

    protocol: str
    read: Callable[[dict[str, Any]], Countable]
    reply: Callable[[int], dict[str, Any]]
    number: str


ANTHROPIC: Final = Dialect(
    "anthropic", anthropic_messages.count_request, anthropic_messages.count_reply, "input_tokens"
)  # fmt: skip
GEMINI: Final = Dialect("gemini", gemini.count_request, gemini.count_reply, "totalTokens")


@dataclass(frozen=True, slots=True)
class Question:
    """What a path asks to be counted. `model` is None where the body names it; `slug` on a provider's own routes."""

    dialect: Dialect
    model: str | None
    slug: str | None


def question_of(path: str) -> Question | None:
    """What a normalised path asks to be counted; None when it asks for something else."""
    if not path.endswith(("/count_tokens", COUNT)):
        return None
    slug, endpoint = provider_endpoint(path) or (None, path.removeprefix("/v1/"))
    if endpoint == "messages/count_tokens":
        return Question(ANTHROPIC, None, slug)
    found = gemini.model_and_method(path if slug is None else f"/v1beta/{endpoint.removeprefix('v1beta/')}")
    return Question(GEMINI, found[0], slug) if found is not None and found[1] == COUNT else None


@dataclass(slots=True)
class Request:
    """An authenticated request to count. Its record is completed and written some time soon.

    The caller must have been read from the database and the catalogue refreshed: no hold confirms what is decided here.
    """

    gateway: Gateway
    caller: Caller
    question: Question
    record: UsageRow
    body: bytes
    headers: list[tuple[bytes, bytes]]
    query: str


async def count_tokens(request: Request) -> bytes:
    """The body of the reply (200, JSON); ApiError when refused."""
    began = time.monotonic()
    try:
        reply = await _count(request)
    except ApiError as error:
        refused = replace(request.record, status="refused", http_status=error.http_status, error_code=error.code)
        _write(request.gateway, refused, began)
        raise
    _write(request.gateway, request.record, began)
    return reply


def _write(gateway: Gateway, record: UsageRow, began: float) -> None:
    record = replace(record, latency_ms=int((time.monotonic() - began) * 1000))
    gateway.store.write_soon(partial(usage.record, record), order=record.user_id)
    gateway.metrics.released(record)


async def _count(request: Request) -> bytes:
    gateway, question = request.gateway, request.question
    try:
        data = decode_object(request.body)
    except InvalidJson as error:
        raise ApiError.of("invalid_json", message=f"The request body is not valid JSON: {error}") from error
    model, provider_id = _model(request, question.model if question.model is not None else _model_of(data))
    found = _who_counts(gateway, model, provider_id, question.dialect)
    if found is not None:
        reply = await _natively(request, *found, data)
        if reply is not None:
            request.record = replace(request.record, provider_id=found[0].stored.id)
            return reply
    tokens = await gateway.tokens.count_parts(question.dialect.read(data))
    return json.dumps(question.dialect.reply(tokens), separators=(",", ":")).encode()


def _model(request: Request, name: str) -> tuple[StoredModel, int | None]:
    """The model, and the provider that its name or the path chose; refused as a call of it would be."""
    catalog, slug, endpoint = request.gateway.snapshot.catalog, request.question.slug, request.record.endpoint
    request.record = replace(request.record, requested_model=name[:200])
    owner = None
    if slug is not None:
        owner = catalog.provider_by_slug.get(slug)
        if owner is None:
            raise ApiError.of("unknown_provider", method="POST", path=endpoint, provider=slug)
    model, provider_id = admission.find_model(catalog, request.caller.identity, name, owner)
    request.record = replace(request.record, model_id=model.id, served_model=model.public_id)
    if model.type != "chat":
        raise ApiError.of("unsupported_endpoint", model=name, endpoint=endpoint, param="model")
    if not is_priced(model):
        raise ApiError.of("unknown_model_pricing", model=name, param="model")
    return model, provider_id


def _model_of(data: dict[str, Any]) -> str:
    name = data.get("model")
    if not isinstance(name, str) or not name or len(name) > 512 or not name.isprintable():
        raise ApiError.of("missing_required_parameter", param="model")
    return name


def _who_counts(
    gateway: Gateway, model: StoredModel, provider_id: int | None, dialect: Dialect
) -> tuple[Provider, StoredDeployment] | None:
    """The provider that would serve the model, if it speaks the dialect; another one's count would be of another model."""
    try:
        first = admission.candidates(gateway.snapshot.catalog, model, provider_id)[0][0]
    except ApiError:  # paused, or without a credential: that hinders no count of ours
        return None
    return first if first[0].stored.protocol == dialect.protocol else None


def _as_asked(request: Request, deployment: StoredDeployment, data: dict[str, Any]) -> tuple[str, bytes]:
    """Path and body as the provider reads them: with its own name of the model."""
    name = deployment.upstream_name
    if request.question.dialect is ANTHROPIC:
        return "/v1/messages/count_tokens", with_members(request.body, data, {"model": json_string(name)})
    inner = data.get("generateContentRequest")
    body = request.body
    if isinstance(inner, dict):
        body = json.dumps({**data, "generateContentRequest": {**inner, "model": f"models/{name}"}}).encode()
    return f"/v1beta/models/{quote(name, safe='-._~')}:{COUNT}", body


async def _natively(request: Request, provider: Provider, deployment: StoredDeployment, data: dict[str, Any]) -> bytes | None:
    """The provider's own count; None when it gives none, for whatever reason."""
    gateway, stored = request.gateway, provider.stored
    credential = gateway.routes.credential(provider)
    path, body = _as_asked(request, deployment, data)
    key = request.caller.key
    try:
        asked = UpstreamRequest(
            method="POST",
            url=attempts.url_of(stored.base_url, path, request.query, key),
            headers=upstream_headers.request_headers(
                request.headers,
                stored.protocol,
                attempts.credential_header(provider, credential),
                secrets=(key,),
                user=request.caller.identity.user_id,
                content_type=JSON,
            ),
            body=body,
            deadlines=Deadlines(min(stored.connect_timeout_ms / 1000, NATIVE_S), NATIVE_S, NATIVE_S, NATIVE_S),
        )
        reply = await gateway.upstream(provider).send(asked)
        try:
            if reply.status != 200:
                log.info("provider does not count", provider=stored.slug, status=reply.status)
                return None
            text = await reply.read(REPLY_BYTES)
        finally:
            await reply.aclose()
    except (ApiError, UpstreamError) as error:
        log.info("provider does not count", provider=stored.slug, error=type(error).__name__)
        return None
    secrets = (credential.secret.encode(),) if credential else ()
    return attempts.masked(text, provider, secrets) if _is_count(text, request.question.dialect) else None


def _is_count(text: bytes, dialect: Dialect) -> bool:
    try:
        found = jiter.from_json(text)
    except ValueError:
        return False
    number = found.get(dialect.number) if isinstance(found, dict) else None
    return type(number) is int and number >= 0
