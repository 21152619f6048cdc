"""Names: what they may look like, and the row that one stands for. Used by the modules of this package only."""

from __future__ import annotations

import re
from typing import Any

from peewee import IntegrityError, fn

from db.engine import for_update, sql
from db.errors import Conflict, Invalid, NotFound
from db.models import Alias, CatalogModel, Group, Provider, User, database

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,79}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+~-]{0,199}")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

# First segments of the URL space: a provider of that name could not be addressed as /v1/<provider>/….
RESERVED_SLUGS = frozenset({
    "chat", "completions", "responses", "messages", "embeddings", "images", "audio", "moderations", "rerank",
    "models", "provider", "v1", "v1beta", "api", "ai", "docs", "health", "status", "usage", "credits", "key", "keys",
    "portal", "metrics",
})  # fmt: skip


def check_name(what: str, name: str) -> str:
    """A user's or group's name: a letter or digit, then letters, digits and . _ @ + - (80 at most)."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name[:80]!r} is not a name for a {what}", "Use letters, digits and . _ @ + - (at most 80)")
    return name


def check_label(what: str, text: str, length: int = 120) -> str:
    """A free one-line text."""
    if len(text) > length or (text and not text.isprintable()):
        raise Invalid(f"The {what} is longer than {length} characters or not printable", "Shorten it")
    return text


def check_slug(slug: str) -> str:
    """A provider's slug: part of URLs, and none of their reserved words."""
    if not _SLUG.fullmatch(slug):
        raise Invalid(f"{slug[:60]!r} is not a provider slug", "Use lower-case letters, digits and - (at most 40)")
    if slug in RESERVED_SLUGS:
        raise Invalid(f"{slug!r} is a reserved word of the gateway's URLs", f"For example: {slug}-1")
    return slug


def check_model_id(model_id: str) -> str:
    """A public model id or alias; '#' is kept for Provider#Model."""
    if not _MODEL.fullmatch(model_id) or model_id.endswith("/") or "//" in model_id:
        raise Invalid(f"{model_id[:80]!r} is not a model id", "Use letters, digits and . _ : / @ + ~ - (at most 200)")
    return model_id


def check_limit(name: str, value: int | None) -> int | None:
    """A limit of at least 1, or None for none."""
    if value is not None and not 1 <= value <= 2**31 - 1:
        raise Invalid(f"{name} must be at least 1", "Leave it away (or say none) for no limit")
    return value


def user_row(name: str) -> Any:
    """The User of that name, or NotFound."""
    row = User.get_or_none(User.name == name)
    if row is None:
        raise NotFound(f"There is no user {name!r}", "See: gatewayctl users list")
    return row


def lock_user(user_id: int) -> None:
    """Hold a user's row to the end of the transaction. Every transaction locks users before keys and holds."""
    database.execute_sql(sql("SELECT id FROM users WHERE id = ?" + for_update()), (user_id,)).fetchone()


def group_row(name: str) -> Any:
    """The Group of that name, or NotFound."""
    row = Group.get_or_none(Group.name == name)
    if row is None:
        raise NotFound(f"There is no group {name!r}", "See: gatewayctl groups list")
    return row


def provider_row(slug: str) -> Any:
    """The Provider of that slug, or NotFound."""
    row = Provider.get_or_none(Provider.slug == slug)
    if row is None:
        raise NotFound(f"There is no provider {slug!r}", "See: gatewayctl providers list")
    return row


def model_row(name: str) -> Any:
    """The CatalogModel of that public id or alias, or NotFound."""
    row = CatalogModel.get_or_none(CatalogModel.public_id == name)
    if row is None:
        alias = Alias.get_or_none(Alias.alias == name)
        row = alias and CatalogModel.get_by_id(alias.model_id)
    if row is None:
        raise NotFound(f"There is no model {name!r}", "See: gatewayctl models list")
    return row


def check_model_name_free(name: str) -> None:
    """Conflict when a model or alias has that name, in whatever case."""
    low = name.lower()
    model = CatalogModel.get_or_none(fn.LOWER(CatalogModel.public_id) == low)
    if model is not None:
        raise Conflict(f"There is a model {model.public_id!r} already", f"See: gatewayctl models show {model.public_id}")
    alias = Alias.get_or_none(fn.LOWER(Alias.alias) == low)
    if alias is not None:
        raise Conflict(f"There is an alias {alias.alias!r} already", f"See: gatewayctl models show {alias.alias}")


def insert(table: Any, what: str, values: dict[str, Any]) -> int:
    """Insert a row and return its id; Conflict when a unique name is taken (whoever was faster)."""
    try:
        return int(table.insert(**values).execute())
    except IntegrityError as error:
        if "unique" not in str(error).lower():
            raise
        raise Conflict(f"There is a {what} already", "Add --if-not-exists to accept that") from error
