"""Providers: who serves models to this gateway, at which address, by which protocol, with which deadlines."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from peewee import fn

from db import audit, clock
from db.engine import transaction
from db.errors import Conflict, Invalid, Refused
from db.models import CatalogModel, Credential, Deployment, Provider
from db.models.catalog import CHAT_APIS, NO_ANSWER, PROTOCOLS, ROTATIONS
from db.money import format_usd
from db.names import check_label, check_slug, insert, provider_row
from db.presets import display_name, preset
from db.reading import reading
from db.versions import bump_catalog


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A provider. Deadlines in ms; `auth_header` None: the protocol's own; money in nano-USD."""

    id: int
    slug: str
    name: str
    protocol: str
    status: str
    paused_at: int | None
    paused_reason: str | None
    base_url: str
    no_auth: bool
    auth_header: str | None
    auth_prefix: str | None
    connect_timeout_ms: int
    first_byte_timeout_ms: int
    read_timeout_ms: int
    total_timeout_ms: int
    max_connections: int
    on_disconnect: str
    include_usage: bool
    daily_alert_nanos: int | None
    daily_stop_nanos: int | None
    allow_endpoints: tuple[str, ...]
    chat_api: str
    rotation: str
    on_no_answer: str
    credentials: int  # those that may be used
    models: tuple[str, ...]
    created_at: int


FIELDS = (
    "name", "base_url", "no_auth", "auth_header", "auth_prefix", "connect_timeout_ms", "first_byte_timeout_ms",
    "read_timeout_ms", "total_timeout_ms", "max_connections", "on_disconnect", "include_usage",
    "daily_alert_nanos", "daily_stop_nanos", "allow_endpoints", "chat_api", "rotation", "on_no_answer",
)  # fmt: skip
_CHOICES = {
    "on_disconnect": ("cancel", "drain"),
    "chat_api": CHAT_APIS,
    "rotation": ROTATIONS,
    "on_no_answer": NO_ANSWER,
}
MAX_TIMEOUT_MS = 24 * 3600 * 1000
_ENDPOINT = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /?[A-Za-z0-9._~:/{}*-]{1,200}")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_NOT_FOR_CREDENTIALS = frozenset(
    ("host", "content-length", "content-type", "transfer-encoding", "connection", "cookie", "accept", "user-agent")
)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_base_url(url: str) -> str:
    """http(s)://host[:port][/path], without user, query, fragment or a slash at the end."""
    text = url.strip().rstrip("/")
    example = "Example: https://api.openai.com/v1"
    try:
        parts = urlsplit(text)
        port_ok = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        raise Invalid("The base URL is not a URL", example) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        raise Invalid("The base URL must begin with http:// or https:// and name a host", example)
    if "@" in parts.netloc:
        raise Invalid("The base URL holds a user or password", "Use: gatewayctl credentials add")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise Invalid("The base URL has a query or fragment", example)
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > 2000:
        raise Invalid("The base URL has a character that cannot stand in one", example)
    return text


def is_plain_http(base_url: str) -> bool:
    """True when secrets would travel unencrypted over a network."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    return parts.scheme == "http" and host not in LOOPBACK and not host.startswith("127.")


def check_endpoint(text: str) -> str:
    """'METHOD path' as one may pass through, such as 'POST fine_tuning/jobs'."""
    method, _, path = text.strip().partition(" ")
    line = f"{method.upper()} {path.strip()}"
    if not _ENDPOINT.fullmatch(line) or ".." in line:
        raise Invalid(f"{text[:80]!r} is not of the form 'METHOD PATH'", "Example: 'POST fine_tuning/jobs'")
    return line


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise Invalid(f"A provider has no field {name!r}")
        if name == "name":
            value = check_label("display name", value.strip(), 60)
            if not value or "#" in value or "/" in value:
                raise Invalid("A display name must not be empty nor hold # or /", "Example: --name OpenAI")
        elif name == "base_url" and value:
            value = check_base_url(value)
        elif name == "allow_endpoints":
            value = json.dumps([check_endpoint(item) for item in value])
        elif name.endswith("_timeout_ms") and not 1 <= value <= MAX_TIMEOUT_MS:
            raise Invalid(f"{name.removesuffix('_ms')} must be more than 0 and at most a day")
        elif name == "max_connections" and not 1 <= value <= 100_000:
            raise Invalid("max_connections must be from 1 to 100000")
        elif name in _CHOICES and value not in _CHOICES[name]:
            option = f"--{name.replace('_', '-')}"
            raise Invalid(
                f"{value[:60]!r} is not one of {', '.join(_CHOICES[name])}", f"Example: {option} {_CHOICES[name][-1]}"
            )
        elif (
            name == "auth_header"
            and value is not None
            and (not _HEADER.fullmatch(value) or value.lower() in _NOT_FOR_CREDENTIALS)
        ):
            raise Invalid(f"{value[:60]!r} is not the name of a header", "Example: --auth-header x-api-key")
        elif name == "auth_prefix" and value is not None:
            value = check_label("auth prefix", value)
        elif name in {"daily_alert_nanos", "daily_stop_nanos"} and value is not None and value < 0:
            raise Invalid("A daily amount must not be negative")
        elif name in {"no_auth", "include_usage"}:
            value = int(value)
        values[name] = value
    return values


def _check_name_free(name: str, slug: str) -> None:
    """`Provider#Model` must mean one provider: a display name is nobody else's name or slug."""
    low = name.lower()
    taken = Provider.get_or_none((Provider.slug != slug) & ((fn.LOWER(Provider.name) == low) | (Provider.slug == low)))
    if taken is not None:
        raise Conflict(f"The display name {name!r} belongs to provider {taken.slug!r}", "Choose another: --name")


def _logged(values: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in values.items() if not name.endswith("_nanos")}
    for name in ("daily_alert_nanos", "daily_stop_nanos"):
        if name in values:
            value = values[name]
            shown[name.removesuffix("_nanos")] = None if value is None else format_usd(value)
    return shown


@transaction
def create(slug: str, *, protocol: str | None = None, **fields: Any) -> ProviderView:
    """A new provider. What is not given comes from the preset of that slug, if there is one for the protocol."""
    check_slug(slug)
    known = preset(slug)
    protocol = protocol or (known.protocol if known else None)
    if protocol is None:
        raise Invalid(f"{slug!r} is not a well-known provider", "Add --protocol openai --base-url URL")
    if protocol not in PROTOCOLS:
        raise Invalid(f"There is no protocol {protocol!r}", f"Protocols: {', '.join(PROTOCOLS)}")
    if known is not None and known.protocol == protocol:
        fields.setdefault("base_url", known.base_url)
        fields.setdefault("no_auth", known.no_auth)
        if fields["base_url"] == known.base_url:
            fields.setdefault("chat_api", known.chat_api)
    if protocol == "demo":
        fields["no_auth"] = True
    elif not fields.get("base_url"):
        raise Invalid(f"Where is {slug}?", "Add --base-url URL")
    if "name" not in fields:
        fields["name"] = display_name(slug)
        if Provider.get_or_none(fn.LOWER(Provider.name) == fields["name"].lower()):
            fields["name"] = slug
    values = _checked(fields)
    if Provider.get_or_none(Provider.slug == slug) is not None:
        raise Conflict(f"There is a provider {slug!r} already", "Add --if-not-exists to accept that")
    _check_name_free(values["name"], slug)
    row = {"slug": slug, "protocol": protocol, "created_at": clock.now_ms(), **values}
    insert(Provider, f"provider {slug!r}", row)
    bump_catalog()
    audit.record("providers.add", slug, after={"protocol": protocol, **_logged(values)})
    return show(slug)


@transaction
def update(slug: str, **fields: Any) -> ProviderView:
    """Change the given fields; running requests keep what they started with."""
    row = provider_row(slug)
    values = _checked(fields)
    if "name" in values:
        _check_name_free(values["name"], slug)
    if values.get("base_url") == "" and row.protocol != "demo":
        raise Invalid("The base URL is empty", "Example: https://api.openai.com/v1")
    before = {name: getattr(row, name) for name in values}
    if values:
        Provider.update(**values).where(Provider.id == row.id).execute()
        if values.get("base_url", row.base_url) != row.base_url:  # somebody else's refusals say nothing of this address
            benched = (Credential.provider == row.id) & (Credential.status == "benched")
            Credential.update(status="active", benched_at=None, probe_at=None, benches=0).where(benched).execute()
        bump_catalog()
        audit.record("providers.update", slug, before=_logged(before), after=_logged(values))
    return show(slug)


@transaction
def pause(slug: str, reason: str | None = None) -> ProviderView:
    """No new request goes there from now on; running ones finish."""
    row = provider_row(slug)
    if reason is not None:
        check_label("reason", reason, 500)
    if row.status != "paused" or reason != row.paused_reason:
        values = {"status": "paused", "paused_reason": reason}
        Provider.update(paused_at=clock.now_ms(), **values).where(Provider.id == row.id).execute()
        bump_catalog()
        audit.record("providers.pause", slug, before={"status": row.status}, after=values)
    return show(slug)


@transaction
def resume(slug: str) -> ProviderView:
    """Requests go there again from the next one on."""
    row = provider_row(slug)
    if row.status != "active":
        values = {"status": "active", "paused_at": None, "paused_reason": None}
        Provider.update(**values).where(Provider.id == row.id).execute()
        bump_catalog()
        before = {"status": row.status, "reason": row.paused_reason}
        audit.record("providers.resume", slug, before=before, after={"status": "active"})
    return show(slug)


@transaction
def delete(slug: str) -> None:
    """Remove a provider and its credentials. Refused while it serves models."""
    row = provider_row(slug)
    served = _models(row.id).get(row.id, [])
    if served:
        raise Refused(
            f"The provider {slug!r} serves {len(served)} model(s): {', '.join(served[:5])}",
            "Delete them (gatewayctl models delete) or move them (gatewayctl models update --provider) first",
        )
    Credential.delete().where(Credential.provider == row.id).execute()
    Provider.delete().where(Provider.id == row.id).execute()
    bump_catalog()
    audit.record("providers.delete", slug, before={"protocol": row.protocol, "base_url": row.base_url})


def _models(provider_id: int | None) -> dict[int, list[str]]:
    query = Deployment.select(Deployment.provider, CatalogModel.public_id).join(CatalogModel)
    if provider_id is not None:
        query = query.where(Deployment.provider == provider_id)
    found: dict[int, list[str]] = {}
    for provider, public_id in query.order_by(CatalogModel.public_id).tuples():
        if public_id not in found.setdefault(provider, []):
            found[provider].append(public_id)
    return found


def _views(rows: list[Any]) -> list[ProviderView]:
    models = _models(rows[0].id if len(rows) == 1 else None)
    usable = Credential.select(Credential.provider, fn.COUNT(Credential.id)).where(Credential.status == "active")
    counts = dict(usable.group_by(Credential.provider).tuples())
    plain = [name for name in ProviderView.__slots__ if name not in {"credentials", "models"}]
    views = []
    for row in rows:
        values = {name: getattr(row, name) for name in plain}
        values["no_auth"], values["include_usage"] = bool(row.no_auth), bool(row.include_usage)
        values["allow_endpoints"] = tuple(json.loads(row.allow_endpoints))
        served = tuple(models.get(row.id, ()))
        views.append(ProviderView(**values, credentials=counts.get(row.id, 0), models=served))
    return views


@reading
def show(slug: str) -> ProviderView:
    """One provider."""
    return _views([provider_row(slug)])[0]


@reading
def list_all() -> list[ProviderView]:
    """Every provider by slug."""
    rows = list(Provider.select().order_by(Provider.slug))
    return _views(rows) if rows else []
