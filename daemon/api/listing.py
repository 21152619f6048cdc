"""The list of models in the three shapes that clients read: OpenAI's, Anthropic's (paged), Gemini's (paged).

| request | shape |
|---|---|
| a path with /v1beta | Gemini |
| for models, with `anthropic-version` | Anthropic |
| for models, with `x-goog-api-key` or `x-goog-api-client` | Gemini: Google's clients send both under /v1, too |
| else | OpenAI |

`?key=` says nothing: a key in the URL is not looked at, so that it cannot become a habit.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from daemon.api.auth import Caller
from daemon.domain.catalog import Catalog, is_priced, may_use
from daemon.domain.errors import ApiError
from daemon.domain.pricing import MULTIPLIER_ONE, Rate, Terms
from daemon.domain.usage import meter_of
from db import clock
from db.money import format_price, half_up_div
from db.snapshot import StoredModel

SAMPLING = {
    "chat": ("temperature", "top_p", "stop", "max_tokens", "seed", "frequency_penalty", "presence_penalty"),
}
# Meter → key of the `pricing` object where the two differ; prices per one unit.
PRICING_KEYS = {
    "input": "prompt",
    "output": "completion",
    "cached_input": "input_cache_reads",
    "cache_write_5m": "input_cache_writes",
    "cache_write_1h": "input_cache_writes_1h",
}
ANTHROPIC_LIMIT, GEMINI_SIZE, MOST = 20, 50, 1000  # items of a page: unasked, unasked, at most

Named = tuple[StoredModel, str]  # a model under one of its names


class Shape(StrEnum):
    """How a client reads lists. OPENAI is never paged."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"


def shape_of(path: str, headers: Sequence[tuple[bytes, bytes]]) -> Shape:
    """By the table above; `path` normalised, names of headers in lower case."""
    if path.startswith("/v1beta/") or "/v1beta/models" in path:
        return Shape.GEMINI
    if "/models" not in path:
        return Shape.OPENAI
    names = {name for name, _ in headers}
    if b"anthropic-version" in names:
        return Shape.ANTHROPIC
    if b"x-goog-api-key" in names or b"x-goog-api-client" in names:
        return Shape.GEMINI
    return Shape.OPENAI


def visible(catalog: Catalog, caller: Caller | None) -> list[StoredModel]:
    """Models that this caller may use; for nobody, the public ones. Unpriced ones are never shown."""
    if caller is None:
        return [m for m in catalog.models if m.enabled and not m.private and is_priced(m) and m.deployments]
    return [m for m in catalog.models if may_use(m, caller.identity) and is_priced(m) and m.deployments]


def names(catalog: Catalog, model: StoredModel, shape: Shape, *, hash_ids: bool) -> list[str]:
    """Every name of a model that is listed: its id, its aliases, and with `hash_ids` `Provider#Model`.

    Gemini's clients put a listed name into a URL as it stands, where `#` would end it: there it is `Provider/Model`.
    """
    listed = [model.public_id, *model.aliases]
    if hash_ids:
        providers = dict.fromkeys(catalog.providers[deployment.provider_id].stored.name for deployment in model.deployments)
        if shape is Shape.GEMINI:
            written = [f"{provider}/{model.public_id}" for provider in providers]
            listed += [name for name in written if (found := catalog.resolve(name)) is not None and found.model is model]
        else:
            listed += [f"{provider}#{model.public_id}" for provider in providers]
    return list(dict.fromkeys(listed))


# -- one model


def per_unit(rate: Rate) -> str:
    """The price of one unit in USD, without exponent."""
    nanos_per_million = half_up_div(rate.price_nanos * rate.multiplier, MULTIPLIER_ONE)
    return format_price(nanos_per_million, per_million=False)


def pricing(terms: Terms) -> dict[str, str]:
    """The `pricing` object: one decimal string per price; variants of a meter under its key with theirs (image/1024x1024)."""
    found = {}
    for key, rate in terms.ordered():
        meter = meter_of(key)
        found[f"{PRICING_KEYS.get(meter, meter)}{key.removeprefix(meter)}"] = per_unit(rate)
    return found


def openai_entry(catalog: Catalog, model: StoredModel, name: str, caller: Caller | None) -> dict[str, Any]:
    """With everything that is known: limits, prices, features; with a caller, what they pay."""
    provider = catalog.providers[model.deployments[0].provider_id].stored
    shown: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": model.created_at // 1000,
        "owned_by": provider.slug,
        "name": model.display_name,
        "description": model.description,
        "type": model.type,
        "pricing": pricing(catalog.list_terms(model)),
        "context_length": model.context_length,
        "max_output_length": model.max_output,
        "input_modalities": list(model.input_modalities),
        "output_modalities": list(model.output_modalities),
        "supported_sampling_parameters": list(SAMPLING.get(model.type, ())),
        "supported_features": sorted(model.features),
    }
    if name != model.public_id:
        shown["canonical_id"] = model.public_id
    if caller is not None:
        shown["effective_pricing"] = pricing(catalog.terms(model, caller.identity)[0])
    return shown


def anthropic_entry(catalog: Catalog, model: StoredModel, name: str, caller: Caller | None) -> dict[str, Any]:
    """As GET /v1/models of Anthropic's API has it."""
    shown: dict[str, Any] = {
        "type": "model",
        "id": name,
        "display_name": model.display_name or name,
        "created_at": clock.iso(model.created_at),
        "lifecycle": "active",
        "max_input_tokens": model.context_length,
        "max_tokens": model.max_output,
    }
    if name != model.public_id:
        shown["canonical_id"] = model.public_id
    return shown


def gemini_entry(catalog: Catalog, model: StoredModel, name: str, caller: Caller | None) -> dict[str, Any]:
    """As models.list of the Gemini API has it."""
    methods: list[str] = []
    if model.type == "chat":
        streamed = ["streamGenerateContent"] if "streaming" in model.features else []
        methods = ["generateContent", *streamed, "countTokens"]
    shown: dict[str, Any] = {
        "name": f"models/{name}",
        "baseModelId": model.public_id,
        "version": "1",
        "displayName": model.display_name or name,
        "description": model.description,
        "supportedGenerationMethods": methods,
        "thinking": "reasoning" in model.features,
    }
    if model.context_length is not None:
        shown["inputTokenLimit"] = model.context_length
    if model.max_output is not None:
        shown["outputTokenLimit"] = model.max_output
    return shown


ENTRIES: dict[Shape, Callable[[Catalog, StoredModel, str, Caller | None], dict[str, Any]]] = {
    Shape.OPENAI: openai_entry,
    Shape.ANTHROPIC: anthropic_entry,
    Shape.GEMINI: gemini_entry,
}


# -- pages


def page(shape: Shape, found: list[Named], query: dict[str, str], render: Callable[[Named], dict[str, Any]]) -> dict[str, Any]:
    """The part of the list that the query asks for; 400 for a place in it that is none."""
    if shape is Shape.ANTHROPIC:
        return _anthropic_page(found, query, render)
    if shape is Shape.GEMINI:
        return _gemini_page(found, query, render)
    return {"object": "list", "data": [render(one) for one in found]}


def _anthropic_page(found: list[Named], query: dict[str, str], render: Callable[[Named], dict[str, Any]]) -> dict[str, Any]:
    limit = _size(query, "limit", ANTHROPIC_LIMIT, least=1)
    if "after_id" in query and "before_id" in query:
        raise ApiError.of("invalid_value", param="before_id", reason="it must not come together with after_id")
    if "before_id" in query:
        end = _place(found, query["before_id"], "before_id")
        start = max(0, end - limit)
        more = start > 0
    else:
        start = _place(found, query["after_id"], "after_id") + 1 if "after_id" in query else 0
        end = start + limit
        more = end < len(found)
    part = found[start:end]
    return {
        "data": [render(one) for one in part],
        "has_more": more,
        "first_id": part[0][1] if part else None,
        "last_id": part[-1][1] if part else None,
    }


def _gemini_page(found: list[Named], query: dict[str, str], render: Callable[[Named], dict[str, Any]]) -> dict[str, Any]:
    size = _size(query, "pageSize", GEMINI_SIZE, least=0) or GEMINI_SIZE
    start = 0
    if query.get("pageToken"):
        start = _place(found, _name_of(query["pageToken"]), "pageToken") + 1
    part = found[start : start + size]
    shown: dict[str, Any] = {"models": [render(one) for one in part]}
    if start + size < len(found):
        shown["nextPageToken"] = base64.urlsafe_b64encode(part[-1][1].encode()).decode()
    return shown


def _size(query: dict[str, str], param: str, default: int, *, least: int) -> int:
    text = query.get(param, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < least:
        raise ApiError.of("invalid_value", param=param, reason=f"it must be an integer from {least} to {MOST}")
    return min(int(text), MOST)


def _place(found: list[Named], name: str, param: str) -> int:
    for index, (_, listed) in enumerate(found):
        if listed == name:
            return index
    raise ApiError.of("invalid_value", param=param, reason="the list has no such place; begin again without it")


def _name_of(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, ValueError):
        return ""
