"""What a provider lists, page by page, with the limits that it tells of its models: the only part that asks a provider."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from db import credentials, providers
from db.catalog import MAX_TOKENS
from db.errors import Conflict
from db.providers import ProviderView
from gatewayctl import context
from gatewayctl.errors import Failed

CONNECT_S, SILENCE_S, WHOLE_S = 10.0, 20.0, 60.0  # of the whole list, however many pages it has
MAX_BYTES = 20 * 1024 * 1024
MAX_PAGES = 50
ANTHROPIC_VERSION = "2023-06-01"
_VERSION = re.compile(r"v\d+[a-z0-9]*")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as its provider names it, with what the provider tells of it."""

    id: str
    name: str | None = None
    context_length: int | None = None
    max_output: int | None = None


@dataclass(frozen=True, slots=True)
class _Api:
    """A protocol's list: where it is when the base URL names no version, its header, its pages, its fields.

    `next` gives the query of the next page. Hosts that speak OpenAI's protocol tell limits under several names.
    """

    version: str
    header: str
    prefix: str
    items: str
    id: str
    names: tuple[str, ...]
    context: tuple[str, ...]
    output: tuple[str, ...]
    query: dict[str, str]
    next: Callable[[Body], dict[str, str] | None]


def _after_last(body: Body) -> dict[str, str] | None:
    return {"after_id": str(body["last_id"])} if body.get("has_more") is True and body.get("last_id") else None


def _by_token(body: Body) -> dict[str, str] | None:
    return {"pageToken": str(body["nextPageToken"])} if body.get("nextPageToken") else None


_APIS = {
    "openai": _Api(
        "v1", "Authorization", "Bearer ", "data", "id", ("display_name", "name"),
        ("context_length", "context_window", "max_context_length", "max_model_len"),
        ("max_completion_tokens", "max_output_tokens", "max_output_length"), {}, lambda body: None,
    ),
    "anthropic": _Api(
        "v1", "x-api-key", "", "data", "id", ("display_name",), ("max_input_tokens",), ("max_tokens",),
        {"limit": "1000"}, _after_last,
    ),
    "gemini": _Api(
        "v1beta", "x-goog-api-key", "", "models", "name", ("displayName",), ("inputTokenLimit",), ("outputTokenLimit",),
        {"pageSize": "1000"}, _by_token,
    ),
}  # fmt: skip


def listed(slug: str) -> tuple[list[Listed], int]:
    """What a provider lists, each id once, and how long it took in ms. Failed when it does not answer as it should."""
    provider = providers.show(slug)
    if provider.protocol == "demo":
        return [Listed("demo-chat")], 0
    started = time.monotonic()
    found: dict[str, Listed] = {}
    api = _APIS[provider.protocol]
    for body in _pages(provider, api):
        for item in _items(provider, api, body):
            found.setdefault(item.id, item)
    return list(found.values()), int((time.monotonic() - started) * 1000)


def list_url(provider: ProviderView) -> str:
    """Where the list stands: below the base URL, which lacks the version only when no part of it is one."""
    versioned = any(map(_VERSION.fullmatch, urlsplit(provider.base_url).path.split("/")))
    return provider.base_url + ("/models" if versioned else f"/{_APIS[provider.protocol].version}/models")


def _pages(provider: ProviderView, api: _Api) -> Iterator[Body]:
    import httpx

    url, headers = list_url(provider), _headers(provider, api)
    deadline, left = time.monotonic() + WHOLE_S, MAX_BYTES
    query: dict[str, str] = dict(api.query)
    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    with httpx.Client(timeout=timeout, trust_env=False) as client:  # redirects would carry the credential away
        for _ in range(MAX_PAGES):
            try:
                status, text = _get(client, f"{url}?{urlencode(query)}" if query else url, headers, deadline, left)
            except httpx.HTTPError as error:
                raise Failed(
                    f"{provider.slug} does not answer at {provider.base_url} ({type(error).__name__})",
                    "Check the base URL and network",
                ) from error
            left -= len(text)
            body = _read(provider, status, text, api)
            yield body
            following = api.next(body)
            if following is None:
                return
            query = api.query | following
    raise Failed(f"{provider.slug} lists more than {MAX_PAGES} pages", "Add its models one by one: gatewayctl models add")


def _get(client: Any, url: str, headers: dict[str, str], deadline: float, most: int) -> tuple[int, bytes]:
    import httpx

    body = bytearray()
    with client.stream("GET", url, headers=headers) as reply:
        for piece in reply.iter_bytes():
            body += piece
            if len(body) > most or time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer is too long")
        return reply.status_code, bytes(body)


def _headers(provider: ProviderView, api: _Api) -> dict[str, str]:
    slug = provider.slug
    headers = {"accept": "application/json", "user-agent": "gatewayctl"}
    if provider.protocol == "anthropic":
        headers["anthropic-version"] = ANTHROPIC_VERSION
    if provider.no_auth:
        return headers
    secret = credentials.reveal_one(slug, context.master_keys())
    if secret is None:
        raise Conflict(f"{slug} has no usable credential", f"Run: gatewayctl credentials add {slug} --from-env VAR")
    prefix = api.prefix if provider.auth_prefix is None else provider.auth_prefix
    headers[provider.auth_header or api.header] = f"{prefix}{secret}"
    return headers


def _read(provider: ProviderView, status: int, text: bytes, api: _Api) -> Body:
    import json

    if status in {401, 403}:
        raise Failed(
            f"{provider.slug} refuses the credential (HTTP {status})", f"See: gatewayctl credentials list {provider.slug}"
        )
    if status != 200:
        raise Failed(f"{provider.slug} answers HTTP {status} at {provider.base_url}", "Check the base URL")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_list(provider) from error
    if isinstance(body, list):  # some hosts leave out what stands around it
        body = {api.items: body}
    if not isinstance(body, dict):
        raise _no_list(provider)
    return body


def _items(provider: ProviderView, api: _Api, body: Body) -> Iterator[Listed]:
    items = body.get(api.items)
    if items is None and api.items in ("models",) and not body.keys() - {"nextPageToken"}:
        return  # Google leaves out an empty list
    if not isinstance(items, list):
        raise _no_list(provider)
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get(api.id), str):
            raise _no_list(provider)
        yield Listed(
            id=item[api.id].removeprefix("models/") if provider.protocol == "gemini" else item[api.id],
            name=next((item[name] for name in api.names if isinstance(item.get(name), str) and item[name]), None),
            context_length=_tokens(item, api.context),
            max_output=_tokens(item, api.output),
        )


def _tokens(item: Body, fields: tuple[str, ...]) -> int | None:
    return next((item[name] for name in fields if type(item.get(name)) is int and 1 <= item[name] <= MAX_TOKENS), None)


def _no_list(provider: ProviderView) -> Failed:
    return Failed(f"{provider.slug} answers something that is no list of models", "Check the base URL")
