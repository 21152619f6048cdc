"""A provider's own list of models: to test its address and credential, and to add what has a known price."""

from __future__ import annotations

import fnmatch
import time
from typing import Any

from db import catalog, credentials, known_models, meters, providers
from db.errors import Conflict, Invalid
from db.prices import NewPrice
from gatewayctl import context, output
from gatewayctl.errors import Failed

LIMIT_S = 20.0
MAX_BYTES = 8 * 1024 * 1024
MAX_MODELS = 5000

# Where a protocol keeps its list, how it is asked, and where the ids stand: (path, header, prefix, field, key, cut).
_LISTS = {
    "openai": ("/models", "Authorization", "Bearer ", "data", "id", ""),
    "anthropic": ("/models?limit=1000", "x-api-key", "", "data", "id", ""),
    "gemini": ("/models?pageSize=1000", "x-goog-api-key", "", "models", "name", "models/"),
}


def _get(url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body, at most MAX_BYTES within LIMIT_S; redirects are not followed (they would carry the credential)."""
    import httpx

    deadline = time.monotonic() + LIMIT_S
    body = bytearray()
    with httpx.Client(timeout=10, trust_env=False) as client, client.stream("GET", url, headers=headers) as reply:
        for piece in reply.iter_bytes():
            body += piece
            if len(body) > MAX_BYTES or time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer is too long")
        return reply.status_code, bytes(body)


def listed(slug: str) -> tuple[list[str], int]:
    """The ids that a provider lists, and how long it took in ms. Failed when it does not answer as it should."""
    import json

    provider = providers.show(slug)
    if provider.protocol == "demo":
        return ["demo-chat"], 0
    path, header, prefix, field, key, cut = _LISTS[provider.protocol]
    headers = {"accept": "application/json", "user-agent": "gatewayctl"}
    if provider.protocol == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    secret: str | None = None
    if not provider.no_auth:
        secret = credentials.reveal_one(slug, context.master_keys())
        if secret is None:
            raise Conflict(f"{slug} has no usable credential", f"Run: gatewayctl credentials add {slug} --from-env VAR")
        chosen_prefix = prefix if provider.auth_prefix is None else provider.auth_prefix
        headers[provider.auth_header or header] = f"{chosen_prefix}{secret}"
    started = time.monotonic()
    import httpx

    try:
        status, body = _get(provider.base_url + path, headers)
    except httpx.HTTPError as error:
        raise Failed(
            f"{slug} does not answer at {provider.base_url} ({type(error).__name__})", "Check the base URL and network"
        ) from error
    elapsed_ms = int((time.monotonic() - started) * 1000)
    if status in {401, 403}:
        raise Failed(f"{slug} refuses the credential (HTTP {status})", f"See: gatewayctl credentials list {slug}")
    if status != 200:
        raise Failed(f"{slug} answers HTTP {status} at {provider.base_url}", "Check the base URL")
    try:
        found = [str(item[key]).removeprefix(cut) for item in json.loads(body)[field]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failed(f"{slug} answers something that is no list of models", "Check the base URL") from error
    return found[:MAX_MODELS], elapsed_ms


def sync(slug: str, *, dry_run: bool, pattern: str | None) -> list[dict[str, Any]]:
    """One row per listed model: what was (or would be) done with it."""
    provider = providers.show(slug)
    ids, _ = listed(slug)
    chosen = sorted(item for item in set(ids) if pattern is None or fnmatch.fnmatchcase(item, pattern))
    have = {view.public_id.lower() for view in catalog.list_all()}
    rows: list[dict[str, Any]] = []
    with output.progress() as bar:
        task = bar.add_task("models", total=len(chosen)) if bar else None
        for model_id in chosen:
            rows.append(_sync_one(model_id, provider, have, dry_run=dry_run))
            if bar and task is not None:
                bar.advance(task)
    return rows


def _sync_one(model_id: str, provider: Any, have: set[str], *, dry_run: bool) -> dict[str, Any]:
    if model_id.lower() in have:
        return {"id": model_id, "action": "exists", "prices": None}
    known = known_models.find(model_id, provider_slug=provider.slug, base_url=provider.base_url)
    if known is None or meters.missing(known.type, set(known.prices)):
        return {"id": model_id, "action": "no known price", "prices": None}
    shown = {meter: meters.format_price(meter, nanos) for meter, nanos in known.prices.items()}
    if dry_run:
        return {"id": model_id, "action": "would be added", "prices": shown}
    try:
        catalog.add(from_known(model_id, provider.slug, known))
    except (Conflict, Invalid) as error:
        return {"id": model_id, "action": f"skipped: {error.message}", "prices": None}
    return {"id": model_id, "action": "added", "prices": shown}


def from_known(model_id: str, provider: str, known: known_models.KnownModel) -> catalog.NewModel:
    """A model as it is known, under the provider's own name for it."""
    return catalog.NewModel(
        public_id=model_id,
        provider=provider,
        upstream=model_id,
        type=known.type,
        prices={meter: NewPrice(nanos, known.source, known.source_date) for meter, nanos in known.prices.items()},
        display_name=known.display_name,
        context_length=known.context_length,
        max_output=known.max_output,
        features=known.features,
        input_modalities=known.input_modalities,
        output_modalities=known.output_modalities,
    )
