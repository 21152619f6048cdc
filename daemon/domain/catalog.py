"""The catalogue in memory: names → models, who may use which, and at which terms. Pure, over what the database said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from daemon.domain.pricing import PPM, Rate, Terms
from daemon.domain.usage import meter_of
from db.identity import Identity
from db.meters import REQUIRED
from db.snapshot import StoredCatalog, StoredDeployment, StoredModel, StoredProvider

_ENCODED = re.compile(r"%(23|2[BDEFbdef]|3[Aa]|40|5[Ff]|7[Ee])")  # the marks that stand in ids, and `#`


@dataclass(frozen=True, slots=True)
class Credential:
    """A secret at a provider. `probe_at`: of a benched one, when (ms since the epoch) it may be tried again."""

    id: int
    name: str
    weight: int
    secret: str = field(repr=False)
    max_parallel: int | None = None
    probe_at: int | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider with its usable credentials, the heavier ones repeated by weight in `rotation`, and the benched ones."""

    stored: StoredProvider
    credentials: tuple[Credential, ...]
    rotation: tuple[Credential, ...]
    benched: tuple[Credential, ...] = ()

    @property
    def usable(self) -> bool:
        return self.stored.no_auth or self.stored.protocol == "demo" or bool(self.credentials)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The model a name means; `provider_id` when the name also chose the provider (`Provider#Model`)."""

    model: StoredModel
    provider_id: int | None = None


def make_provider(stored: StoredProvider, credentials: tuple[Credential, ...]) -> Provider:
    """Bind a provider and its decrypted credentials."""
    usable = tuple(one for one in credentials if one.probe_at is None)
    rotation = tuple(one for one in usable for _ in range(min(one.weight, 100)))
    return Provider(stored, usable, rotation, tuple(one for one in credentials if one.probe_at is not None))


class Catalog:
    """Immutable but for its cache of terms. Swapped whole when the database's version changes."""

    def __init__(self, stored: StoredCatalog, providers: dict[int, Provider]) -> None:
        self.version = stored.version
        self.models = stored.models
        self.group_names = stored.group_names
        self.providers = providers
        self.provider_by_slug = {provider.stored.slug: provider for provider in providers.values()}
        self._group_multipliers = stored.group_multipliers
        self.models_by_id = {model.public_id: model for model in stored.models}
        self._by_alias = {alias: model for model in stored.models for alias in model.aliases}
        self._by_provider: dict[tuple[str, str], Resolution] = {}
        for model in stored.models:
            for deployment in model.deployments:
                self._name_by_provider(model, deployment)
        self.provider_names = {name.lower() for p in providers.values() for name in (p.stored.slug, p.stored.name)}
        self._terms: dict[tuple[int, int, int, str | None], tuple[Terms, str]] = {}

    def _name_by_provider(self, model: StoredModel, deployment: StoredDeployment) -> None:
        provider = self.providers[deployment.provider_id].stored
        found = Resolution(model, provider.id)
        for prefix in (provider.slug.lower(), provider.name.lower()):
            for name in (model.public_id.lower(), deployment.upstream_name.lower()):
                self._by_provider.setdefault((prefix, name), found)

    def protocol_of(self, deployment: StoredDeployment) -> str:
        """What the deployment's provider speaks."""
        return self.providers[deployment.provider_id].stored.protocol

    def resolve(self, name: str) -> Resolution | None:
        """Exact id, then alias, then `Provider#Model` or `provider/model` in any case. Says nothing about who may use it.

        Ids hold no `%` and no `#`, so a name that was percent-encoded once too often is still this one name.
        """
        model = self.models_by_id.get(name) or self._by_alias.get(name)
        if model is not None:
            return Resolution(model)
        if "%" in name:
            decoded = _ENCODED.sub(lambda found: chr(int(found[1], 16)), name)
            return self.resolve(decoded) if "%" not in decoded else None
        provider, separator, rest = name.partition("#" if "#" in name else "/")
        if not separator or not provider or not rest:
            return None
        return self._by_provider.get((provider.lower(), rest.lower()))

    def for_provider(self, provider: Provider, name: str) -> Resolution | None:
        """What a name means on a provider-prefixed route: an upstream name, or any name that the provider serves."""
        found = self._by_provider.get((provider.stored.slug.lower(), name.lower()))
        if found is not None:
            return found
        other = self.resolve(name)
        if other is None or all(d.provider_id != provider.stored.id for d in other.model.deployments):
            return None
        return Resolution(other.model, provider.stored.id)

    def terms(self, model: StoredModel, identity: Identity, tier: str | None = None) -> tuple[Terms, str]:
        """The rates for this user and for a service tier that was asked for, and their JSON text."""
        key = (model.id, identity.user_id, identity.user_version, tier if tier in model.service_tiers else None)
        found = self._terms.get(key)
        if found is None:
            if len(self._terms) >= 20_000:
                self._terms.clear()
            rates = {name: self._rate(model, identity, meter_of(name), price) for name, price in model.prices.items()}
            terms = Terms(rates, model.service_tiers, key[3])
            found = self._terms[key] = (terms, terms.to_json())
        return found

    def _rate(self, model: StoredModel, identity: Identity, meter: str, price: int) -> Rate:
        return Rate(
            price,
            _multiplier(identity.multipliers, meter),
            self._group_multiplier(model, identity, meter),
            _multiplier(model.multipliers, meter),
        )

    def _group_multiplier(self, model: StoredModel, identity: Identity, meter: str) -> int:
        """The lowest among the user's groups that grant the model."""
        granting = model.groups & identity.groups
        return min((_multiplier(self._group_multipliers.get(group, {}), meter) for group in granting), default=PPM)

    def list_terms(self, model: StoredModel) -> Terms:
        """The public rates: list price x model multiplier."""
        return Terms(
            {key: Rate(price, PPM, PPM, _multiplier(model.multipliers, meter_of(key))) for key, price in model.prices.items()}
        )


def _multiplier(multipliers: dict[str, int], meter: str) -> int:
    """Of one meter, else of all ('*'), else 1."""
    own = multipliers.get(meter)
    return own if own is not None else multipliers.get("*", PPM)


def may_use(model: StoredModel, identity: Identity) -> bool:
    """Enabled, granted to one of the owner's groups, and on the key's allow-list if it has one."""
    return (
        model.enabled
        and not model.groups.isdisjoint(identity.groups)
        and (identity.models is None or model.public_id in identity.models)
    )


def is_priced(model: StoredModel) -> bool:
    """Whether every meter that this kind of model must have is priced; 'request' alone also prices a model."""
    prices = model.prices
    if not prices:
        return False
    return "request" in prices or all(meter in prices for meter in REQUIRED[model.type])
