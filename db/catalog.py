"""The catalogue: public models, their aliases, who serves them, at which prices."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import audit, clock, multipliers, prices
from db.engine import transaction
from db.errors import Conflict, Invalid, NotFound, Refused
from db.meters import EVERY_METER, format_price, missing, price_key
from db.models import Alias, CatalogModel, Deployment, Grant, Group, Provider
from db.models.catalog import MODEL_TYPES, ROUTINGS
from db.money import PPM
from db.names import check_label, check_model_id, check_model_name_free, group_row, insert, model_row, provider_row
from db.prices import NewPrice
from db.reading import reading
from db.versions import bump_catalog

_FEATURE = re.compile(r"[a-z0-9_]{1,40}")
MODALITIES = ("text", "image", "audio", "video", "file")
MAX_TOKENS = 2**31 - 1
MAX_HOSTED_CALLS = 1000


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """Who serves a model, under which name."""

    provider: str
    upstream: str
    weight: int
    priority: int
    enabled: bool
    open_since_at: int | None = None  # a worker sends no requests there since then,
    open_reason: str | None = None  # because of this


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model. Prices in nano-USD per million units, multipliers in parts per million by meter ('*': every one).

    `service_tiers`: factor on the price of tokens by tier, in parts per million. `hosted_tools`: tools that its provider may
    run, and how often in one request.
    """

    id: int
    public_id: str
    type: str
    enabled: bool
    private: bool
    display_name: str
    description: str
    context_length: int | None
    max_output: int | None
    media_tokens: int | None
    features: tuple[str, ...]
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    aliases: tuple[str, ...]
    groups: tuple[str, ...]
    deployments: tuple[DeploymentView, ...]
    prices: dict[str, NewPrice]
    multipliers: dict[str, int]
    service_tiers: dict[str, int]
    hosted_tools: dict[str, int]
    routing: str
    fallbacks: tuple[str, ...]
    created_at: int

    @property
    def multiplier_ppm(self) -> int:
        return self.multipliers.get(EVERY_METER, PPM)


@dataclass(frozen=True, slots=True)
class NewModel:
    """What `add` needs. `groups` None: every default group, unless private."""

    public_id: str
    provider: str
    upstream: str
    prices: Mapping[str, NewPrice]
    type: str = "chat"
    private: bool = False
    display_name: str = ""
    description: str = ""
    context_length: int | None = None
    max_output: int | None = None
    media_tokens: int | None = None
    features: Sequence[str] = ()
    input_modalities: Sequence[str] = ("text",)
    output_modalities: Sequence[str] = ("text",)
    aliases: Sequence[str] = ()
    groups: Sequence[str] | None = None
    multiplier_ppm: int | None = None
    enabled: bool = True
    service_tiers: Mapping[str, int] = field(default_factory=dict)
    hosted_tools: Mapping[str, int] = field(default_factory=dict)
    routing: str = "weighted"


# Columns that `update` takes; provider, upstream, prices and the multiplier are arguments of their own.
FIELDS = (
    "type", "private", "display_name", "description", "context_length", "max_output", "media_tokens", "features",
    "input_modalities", "output_modalities", "enabled", "service_tiers", "hosted_tools", "routing",
)  # fmt: skip


def _columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise Invalid(f"A model has no field {name!r}")
        if name == "type" and value not in MODEL_TYPES:
            raise Invalid(f"{value!r} is not a type of model", f"Types: {', '.join(MODEL_TYPES)}")
        if name == "routing" and value not in ROUTINGS:
            raise Invalid(f"{value!r} is not a way of routing", f"Ways: {', '.join(ROUTINGS)}")
        if name in {"private", "enabled"}:
            value = int(value)
        elif name == "display_name":
            value = check_label("display name", value, 200)
        elif name == "description" and len(value) > 4000:
            raise Invalid("The description is longer than 4000 characters")
        elif name in {"context_length", "max_output", "media_tokens"}:
            if value is not None and not 1 <= value <= MAX_TOKENS:
                raise Invalid(f"{name} must be a number of tokens, at least 1")
        elif name == "features":
            for item in value:
                if not _FEATURE.fullmatch(item):
                    raise Invalid(f"{item[:60]!r} is not a feature", "Example: --feature tools")
            value = json.dumps(list(dict.fromkeys(value)))
        elif name.endswith("_modalities"):
            for item in value:
                if item not in MODALITIES:
                    raise Invalid(f"{item!r} is not a modality", f"Modalities: {', '.join(MODALITIES)}")
            value = json.dumps(list(dict.fromkeys(value)))
        elif name == "service_tiers":
            value = _named_numbers(value, "tier", 1000 * PPM, "Example: --tier priority=1.75")
        elif name == "hosted_tools":
            value = _named_numbers(value, "hosted tool", MAX_HOSTED_CALLS, "Example: --hosted-tool web_search=5")
        values[name] = value
    return values


def _named_numbers(given: Mapping[str, int], what: str, most: int, example: str) -> str:
    for name, number in given.items():
        if not _FEATURE.fullmatch(name):
            raise Invalid(f"{name[:60]!r} is not the name of a {what}", example)
        if type(number) is not int or not 0 <= number <= most:
            raise Invalid(f"The number of {what} {name!r} is out of range", example)
    return json.dumps(dict(sorted(given.items())))


def check_fields(fields: Mapping[str, Any]) -> None:
    """Invalid when a field of FIELDS has a value that cannot be stored."""
    _columns(fields)


def require_prices(public_id: str, model_type: str, priced: set[str]) -> None:
    """Refused when a meter that the type needs has no price: free must be written as 0."""
    lacking = missing(model_type, priced)
    if lacking:
        example = "input" if model_type != "image" else "image"
        what = "any meter" if lacking == ("any",) else " and ".join(lacking)
        raise Refused(
            f"{public_id!r} has no price for {what}, and none is known",
            f"Add --price {example if lacking == ('any',) else lacking[0]}=USD (0 makes it free)",
        )


def _logged_prices(new: Mapping[str, NewPrice]) -> dict[str, str]:
    return {name: format_price(name, price.nanos) for name, price in new.items()}


@transaction
def add(model: NewModel) -> ModelView:
    """A model with its deployment, prices, aliases and grants.

    Conflict when a name is taken; Refused without the prices that its type needs, unless it is disabled.
    """
    check_model_id(model.public_id)
    provider = provider_row(model.provider)
    fields = {name: getattr(model, name) for name in FIELDS}
    fields["display_name"] = model.display_name or model.public_id
    values = _columns(fields)
    prices.check(model.prices)
    if model.enabled:
        require_prices(model.public_id, model.type, set(model.prices))
    check_model_name_free(model.public_id)
    now = clock.now_ms()
    row = {"public_id": model.public_id, "created_at": now, **values}
    model_id = insert(CatalogModel, f"model {model.public_id!r}", row)
    upstream = check_label("upstream name", model.upstream, 200) or model.public_id
    Deployment.insert(model=model_id, provider=provider.id, upstream_name=upstream).execute()
    prices.store(model_id, model.prices, now)
    for alias in model.aliases:
        _add_alias(model_id, alias)
    for group_id in _initial_groups(model):
        Grant.insert(group=group_id, model=model_id).execute()
    if model.multiplier_ppm is not None:
        multipliers.store("model", model_id, EVERY_METER, model.multiplier_ppm)
    bump_catalog()
    after = {"provider": model.provider, "upstream": upstream, "prices": _logged_prices(model.prices)}
    audit.record("models.add", model.public_id, after=after)
    return show(model.public_id)


def _initial_groups(model: NewModel) -> list[int]:
    if model.groups is not None:
        return sorted({group_row(name).id for name in model.groups})
    if model.private:
        return []
    return [group_id for (group_id,) in Group.select(Group.id).where(Group.is_default == 1).tuples()]


@transaction
def update(
    name: str,
    *,
    new_prices: Mapping[str, NewPrice] | None = None,
    replace_prices: bool = False,
    without_prices: Collection[str] = (),
    provider: str | None = None,
    upstream: str | None = None,
    multiplier_ppm: int | None = None,
    **fields: Any,
) -> ModelView:
    """Change the given fields. Prices hold from now on (`without_prices` end); requests that run keep theirs."""
    row = model_row(name)
    values = _columns(fields)
    before = {field: getattr(row, field) for field in values}
    if values:
        CatalogModel.update(**values).where(CatalogModel.id == row.id).execute()
    after: dict[str, Any] = dict(values)
    if new_prices is not None or without_prices:
        given = new_prices or {}
        for key in without_prices:
            price_key(key)
        changed = prices.store(row.id, given, clock.now_ms(), replace=replace_prices, without=without_prices)
        if changed:
            before["prices"] = changed
            after["prices"] = {key: _logged_prices(given).get(key) for key in changed}
    touched = new_prices is not None or without_prices or not {"type", "enabled"}.isdisjoint(values)
    if touched and values.get("enabled", row.enabled):
        model_type = values.get("type", row.type)
        require_prices(row.public_id, model_type, set(prices.current(row.id).get(row.id, {})))
    if provider is not None or upstream is not None:
        moved = _move(row.id, provider, upstream)
        before["deployment"], after["deployment"] = moved
    if multiplier_ppm is not None:
        multipliers.set_for("model", row.public_id, multiplier_ppm)
    if after:
        bump_catalog()
        audit.record("models.update", row.public_id, before=before, after=after)
    return show(row.public_id)


def _move(model_id: int, provider: str | None, upstream: str | None) -> tuple[str, str]:
    """Point a model's only deployment elsewhere; (before, after) as text."""
    rows = list(Deployment.select(Deployment, Provider).join(Provider).where(Deployment.model == model_id))
    if len(rows) != 1:
        raise Conflict("The model has several deployments", "Change one: gatewayctl models deploy --help")
    [row] = rows
    target = provider_row(provider) if provider is not None else row.provider
    name = check_label("upstream name", upstream, 200) if upstream else row.upstream_name
    Deployment.update(provider=target.id, upstream_name=name).where(Deployment.id == row.id).execute()
    return f"{row.provider.slug}/{row.upstream_name}", f"{target.slug}/{name}"


@transaction
def set_enabled(name: str, enabled: bool) -> ModelView:
    """Offer a model, or stop offering it, from the next request on. Refused when it lacks a price."""
    row = model_row(name)
    if bool(row.enabled) != enabled:
        if enabled:
            require_prices(row.public_id, row.type, set(prices.current(row.id).get(row.id, {})))
        CatalogModel.update(enabled=int(enabled)).where(CatalogModel.id == row.id).execute()
        bump_catalog()
        verb = "enable" if enabled else "disable"
        audit.record(f"models.{verb}", row.public_id, before={"enabled": not enabled}, after={"enabled": enabled})
    return show(row.public_id)


@transaction
def delete(name: str) -> str:
    """Remove a model with its aliases, prices and grants; its usage records stay. Returns its id."""
    row = model_row(name)
    before = show(row.public_id)
    multipliers.forget("model", row.id)
    CatalogModel.delete().where(CatalogModel.id == row.id).execute()
    bump_catalog()
    audit.record("models.delete", row.public_id, before={"prices": _logged_prices(before.prices)})
    return str(row.public_id)


def _add_alias(model_id: int, alias: str) -> None:
    check_model_id(alias)
    check_model_name_free(alias)
    insert(Alias, f"alias {alias!r}", {"alias": alias, "model": model_id})


@transaction
def add_alias(alias: str, name: str) -> ModelView:
    """Another name for a model. Naming what it names already changes nothing."""
    row = model_row(name)
    existing = Alias.get_or_none(Alias.alias == alias)
    if existing is None or existing.model_id != row.id:
        _add_alias(row.id, alias)
        bump_catalog()
        audit.record("models.alias", alias, after={"model": row.public_id})
    return show(row.public_id)


@transaction
def remove_alias(alias: str) -> str:
    """Forget an alias; returns the model that it named."""
    row = Alias.get_or_none(Alias.alias == alias)
    if row is None:
        raise NotFound(f"There is no alias {alias!r}", "See: gatewayctl models list")
    public_id = str(CatalogModel.get_by_id(row.model_id).public_id)
    Alias.delete().where(Alias.id == row.id).execute()
    bump_catalog()
    audit.record("models.unalias", alias, before={"model": public_id})
    return public_id


def _gathered(query: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for model_id, *rest in query.tuples():
        found.setdefault(model_id, []).append(rest[0] if len(rest) == 1 else tuple(rest))
    return found


def _views(rows: list[Any]) -> list[ModelView]:
    aliases = _gathered(Alias.select(Alias.model, Alias.alias).order_by(Alias.alias))
    groups = _gathered(Grant.select(Grant.model, Group.name).join(Group).order_by(Group.name))
    columns = (Deployment.model, Provider.slug, Deployment.upstream_name, Deployment.weight, Deployment.priority)
    told = (Deployment.enabled, Deployment.open_since_at, Deployment.open_reason)
    served = Deployment.select(*columns, *told).join(Provider)
    deployments = _gathered(served.order_by(Deployment.priority, Deployment.id))
    in_force = prices.current(rows[0].id if len(rows) == 1 else None)
    factors = multipliers.by_subject("model")
    wanted = {target for row in rows for target in json.loads(row.fallbacks)}
    names = dict(CatalogModel.select(CatalogModel.id, CatalogModel.public_id).where(CatalogModel.id.in_(wanted)).tuples())
    return [
        ModelView(
            id=row.id,
            public_id=row.public_id,
            type=row.type,
            enabled=bool(row.enabled),
            private=bool(row.private),
            display_name=row.display_name,
            description=row.description,
            context_length=row.context_length,
            max_output=row.max_output,
            media_tokens=row.media_tokens,
            features=tuple(json.loads(row.features)),
            input_modalities=tuple(json.loads(row.input_modalities)),
            output_modalities=tuple(json.loads(row.output_modalities)),
            aliases=tuple(aliases.get(row.id, ())),
            groups=tuple(groups.get(row.id, ())),
            deployments=tuple(
                DeploymentView(slug, upstream, weight, priority, bool(enabled), since, reason)
                for slug, upstream, weight, priority, enabled, since, reason in deployments.get(row.id, ())
            ),
            prices=in_force.get(row.id, {}),
            multipliers=factors.get(row.id, {}),
            service_tiers=json.loads(row.service_tiers),
            hosted_tools=json.loads(row.hosted_tools),
            routing=row.routing,
            fallbacks=tuple(names[target] for target in json.loads(row.fallbacks) if target in names),
            created_at=row.created_at,
        )
        for row in rows
    ]


@reading
def show(name: str) -> ModelView:
    """One model by id or alias."""
    return _views([model_row(name)])[0]


@reading
def list_all(*, feature: str | None = None, model_type: str | None = None, provider: str | None = None) -> list[ModelView]:
    """Every model by id, filtered."""
    rows = list(CatalogModel.select().order_by(CatalogModel.public_id))
    return [
        view
        for view in (_views(rows) if rows else [])
        if (feature is None or feature in view.features)
        and (model_type is None or view.type == model_type)
        and (provider is None or any(item.provider == provider for item in view.deployments))
    ]
