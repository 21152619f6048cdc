"""The whole catalogue as frozen plain values, with its version: what the daemon keeps in memory between changes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from db import versions
from db.models import (
    Alias,
    CatalogModel,
    Credential,
    Deployment,
    Grant,
    Group,
    Multiplier,
    Price,
    Provider,
)


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A credential as stored: encrypted. `probe_at`: when a benched one may be tried again."""

    id: int
    name: str
    status: str
    weight: int
    max_parallel: int | None
    probe_at: int | None
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredProvider:
    """A provider and its credentials; times in ms. `chat_api`: of OpenAI's APIs it speaks 'chat', 'responses' or 'both'."""

    id: int
    slug: str
    name: str
    protocol: str
    base_url: str
    paused: bool
    paused_reason: str | None
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
    allow_endpoints: tuple[str, ...]
    chat_api: str
    rotation: str
    on_no_answer: str
    credentials: tuple[StoredCredential, ...]


@dataclass(frozen=True, slots=True)
class StoredDeployment:
    """Who serves a model, under which name."""

    id: int
    provider_id: int
    upstream_name: str
    weight: int
    priority: int


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model with its enabled deployments, current prices (nano-USD per million units) and multipliers (ppm).

    `service_tiers`: factor on the price of tokens, in parts per million; `hosted_tools`: most calls in one request.
    `fallbacks`: public ids of the models to ask when nobody serves this one.
    """

    id: int
    public_id: str
    type: str
    enabled: bool
    private: bool
    display_name: str
    description: str
    created_at: int
    context_length: int | None
    max_output: int | None
    media_tokens: int | None
    features: frozenset[str]
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    aliases: tuple[str, ...]
    groups: frozenset[int]
    deployments: tuple[StoredDeployment, ...]
    prices: dict[str, int]
    multipliers: dict[str, int]
    service_tiers: dict[str, int]
    hosted_tools: dict[str, int]
    routing: str = "weighted"
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredCatalog:
    """Everything, as of `version` (read first: a change meanwhile makes it stale, never wrong)."""

    version: int
    providers: tuple[StoredProvider, ...]
    models: tuple[StoredModel, ...]
    group_multipliers: dict[int, dict[str, int]]
    group_names: dict[int, str]


def load() -> StoredCatalog:
    """Read the catalogue: nine queries, whatever its size."""
    version = versions.catalog_version()
    multipliers: dict[tuple[str, int], dict[str, int]] = {}
    for scope, subject, meter, ppm in (
        Multiplier.select(Multiplier.scope, Multiplier.subject_id, Multiplier.meter, Multiplier.ppm)
        .where(Multiplier.scope != "user")
        .tuples()
    ):
        multipliers.setdefault((scope, subject), {})[meter] = ppm
    groups = dict(Group.select(Group.id, Group.name).tuples())
    return StoredCatalog(
        version=version,
        providers=_providers(),
        models=_models(multipliers),
        group_multipliers={group: found for group in groups if (found := multipliers.get(("group", group))) is not None},
        group_names=groups,
    )


def _providers() -> tuple[StoredProvider, ...]:
    credentials: dict[int, list[StoredCredential]] = {}
    for row in Credential.select().order_by(Credential.id):
        credentials.setdefault(row.provider_id, []).append(
            StoredCredential(row.id, row.name, row.status, row.weight, row.max_parallel, row.probe_at, bytes(row.secret))
        )
    return tuple(
        StoredProvider(
            id=row.id,
            slug=row.slug,
            name=row.name,
            protocol=row.protocol,
            base_url=row.base_url,
            paused=row.status == "paused",
            paused_reason=row.paused_reason,
            no_auth=bool(row.no_auth),
            auth_header=row.auth_header,
            auth_prefix=row.auth_prefix,
            connect_timeout_ms=row.connect_timeout_ms,
            first_byte_timeout_ms=row.first_byte_timeout_ms,
            read_timeout_ms=row.read_timeout_ms,
            total_timeout_ms=row.total_timeout_ms,
            max_connections=row.max_connections,
            on_disconnect=row.on_disconnect,
            include_usage=bool(row.include_usage),
            allow_endpoints=tuple(json.loads(row.allow_endpoints)),
            chat_api=row.chat_api,
            rotation=row.rotation,
            on_no_answer=row.on_no_answer,
            credentials=tuple(credentials.get(row.id, ())),
        )
        for row in Provider.select().order_by(Provider.id)
    )


def _models(multipliers: dict[tuple[str, int], dict[str, int]]) -> tuple[StoredModel, ...]:
    aliases: dict[int, list[str]] = {}
    for model_id, alias in Alias.select(Alias.model, Alias.alias).order_by(Alias.alias).tuples():
        aliases.setdefault(model_id, []).append(alias)
    grants: dict[int, set[int]] = {}
    for model_id, group_id in Grant.select(Grant.model, Grant.group).tuples():
        grants.setdefault(model_id, set()).add(group_id)
    deployments: dict[int, list[StoredDeployment]] = {}
    for row in Deployment.select().where(Deployment.enabled == 1).order_by(Deployment.priority, Deployment.id):
        deployments.setdefault(row.model_id, []).append(
            StoredDeployment(row.id, row.provider_id, row.upstream_name, row.weight, row.priority)
        )
    prices: dict[int, dict[str, int]] = {}
    current = Price.select(Price.model, Price.meter, Price.price_nanos).where(Price.valid_to_at.is_null())
    for model_id, meter, price in current.tuples():
        prices.setdefault(model_id, {})[meter] = price
    rows = list(CatalogModel.select().order_by(CatalogModel.public_id))
    names = {row.id: row.public_id for row in rows}
    return tuple(
        StoredModel(
            id=row.id,
            public_id=row.public_id,
            type=row.type,
            enabled=bool(row.enabled),
            private=bool(row.private),
            display_name=row.display_name,
            description=row.description,
            created_at=row.created_at,
            context_length=row.context_length,
            max_output=row.max_output,
            media_tokens=row.media_tokens,
            features=frozenset(json.loads(row.features)),
            input_modalities=tuple(json.loads(row.input_modalities)),
            output_modalities=tuple(json.loads(row.output_modalities)),
            aliases=tuple(aliases.get(row.id, ())),
            groups=frozenset(grants.get(row.id, ())),
            deployments=tuple(deployments.get(row.id, ())),
            prices=prices.get(row.id, {}),
            multipliers=multipliers.get(("model", row.id), {}),
            service_tiers=json.loads(row.service_tiers),
            hosted_tools=json.loads(row.hosted_tools),
            routing=row.routing,
            fallbacks=tuple(names[target] for target in json.loads(row.fallbacks) if target in names),
        )
        for row in rows
    )
