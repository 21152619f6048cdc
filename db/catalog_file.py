"""model_catalog.json: every model with its prices, limits and features, to import, export and keep under version control.

    {"version": 1,
     "models": [{"id": "gpt-4o-mini",                                  required
                 "provider": "openai", "upstream": "gpt-4o-mini",      required for a new model; upstream: default id
                 "type": "chat",                                       chat embedding image audio rerank moderation
                 "prices": {"input": "0.15", "output": "0.60"},        text! USD per million tokens, per one of the rest
                 "context_length": 128000, "max_output": 16384, "media_tokens": null,
                 "features": ["streaming", "tools"], "input_modalities": ["text"], "output_modalities": ["text"],
                 "aliases": ["mini"], "groups": ["everyone"], "multiplier": "1.2", "multipliers": {"output": "2"},
                 "service_tiers": {"priority": "1.75"}, "hosted_tools": {"web_search": 5},
                 "routing": "weighted", "fallbacks": ["other"],
                 "deployments": [{"provider": "openai", "upstream": "gpt-4o-mini", "weight": 1, "priority": 0,
                                  "enabled": true}],                   several; else `provider` and `upstream`
                 "display_name": "…", "description": "…", "enabled": true, "private": false}]}

A field that is left out keeps its value (a new model gets the default). `prices`, `aliases`, `groups`, `multipliers`,
`service_tiers`, `hosted_tools`, `deployments` and `fallbacks`, where present, are the whole of it. The file is checked
completely before the first write; writing is one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from db import catalog, deployments, groups, meters, money, multipliers
from db.engine import transaction
from db.errors import Invalid
from db.meters import EVERY_METER
from db.models.catalog import MODEL_TYPES
from db.names import check_model_id
from db.prices import NewPrice
from db.reading import reading

VERSION = 1
SOURCE = "model_catalog.json"
MAX_MODELS = 20_000

_TEXT, _NUMBER, _FLAG, _TEXTS, _PRICES = "a text", "a whole number or null", "true or false", "a list of texts", "a map"
_COUNTS = "a map of whole numbers"
_DEPLOYMENTS = "a list of maps with provider and upstream"
_OF_DEPLOYMENT = {"provider": str, "upstream": str, "weight": int, "priority": int, "enabled": bool}
_SHAPES = {
    "id": _TEXT,
    "provider": _TEXT,
    "upstream": _TEXT,
    "type": _TEXT,
    "display_name": _TEXT,
    "description": _TEXT,
    "multiplier": _TEXT,
    "context_length": _NUMBER,
    "max_output": _NUMBER,
    "media_tokens": _NUMBER,
    "enabled": _FLAG,
    "private": _FLAG,
    "features": _TEXTS,
    "input_modalities": _TEXTS,
    "output_modalities": _TEXTS,
    "aliases": _TEXTS,
    "groups": _TEXTS,
    "prices": _PRICES,
    "multipliers": _PRICES,
    "service_tiers": _PRICES,
    "hosted_tools": _COUNTS,
    "routing": _TEXT,
    "fallbacks": _TEXTS,
    "deployments": _DEPLOYMENTS,
}
_PLAIN = (
    "type", "display_name", "description", "context_length", "max_output", "media_tokens", "enabled", "private",
    "features", "input_modalities", "output_modalities", "service_tiers", "hosted_tools", "routing",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the file: only what it says, checked. Prices in nano-USD per million units, multipliers in ppm."""

    id: str
    values: dict[str, Any]
    prices: dict[str, int] | None
    multipliers: dict[str, int] | None  # by meter, '*' for the model's own


@dataclass(frozen=True, slots=True)
class Change:
    """What import does with a model: add, update, keep or delete, and the fields that differ."""

    id: str
    action: str
    fields: tuple[str, ...] = field(default=())


def _fits(value: object, shape: str) -> bool:
    if shape == _TEXT:
        return isinstance(value, str)
    if shape == _FLAG:
        return isinstance(value, bool)
    if shape == _NUMBER:
        return value is None or (isinstance(value, int) and not isinstance(value, bool))
    if shape == _TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if shape == _DEPLOYMENTS:
        return (
            isinstance(value, list) and bool(value) and all(isinstance(item, dict) and _is_deployment(item) for item in value)
        )
    kind = int if shape == _COUNTS else str
    return isinstance(value, dict) and all(type(item) is kind for item in value.values())


def _is_deployment(item: dict[str, Any]) -> bool:
    named = {"provider", "upstream"} <= item.keys() <= _OF_DEPLOYMENT.keys()
    return named and all(type(value) is _OF_DEPLOYMENT[name] for name, value in item.items())


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise Invalid(f"The catalogue has {name!r} twice in one object", "Remove one of them")
        found[name] = value
    return found


def _no_constant(text: str) -> Any:
    raise Invalid(f"The catalogue holds {text}, which is not JSON", "Correct the file")


def parse(text: str) -> list[Entry]:
    """The entries of a file; Invalid names the model and field that is wrong."""
    try:
        document = json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise Invalid(f"The catalogue is not JSON: {error.msg} in line {error.lineno}", "Correct the file") from error
    except RecursionError as error:
        raise Invalid("The catalogue is nested too deeply", "Correct the file") from error
    if not isinstance(document, dict) or not isinstance(document.get("models"), list):
        raise Invalid("The catalogue has no list 'models'", 'Example: {"version": 1, "models": []}')
    if document.get("version") != VERSION:
        raise Invalid(f"The catalogue's version is not {VERSION}", f'Begin it with "version": {VERSION}')
    unknown = set(document) - {"version", "models", "comment"}
    if unknown:
        raise Invalid(f"The catalogue has an unknown field {sorted(unknown)[0]!r}", "Correct or remove it")
    if len(document["models"]) > MAX_MODELS:
        raise Invalid(f"The catalogue has more than {MAX_MODELS} models", "Split it")
    entries = [_entry(item, number) for number, item in enumerate(document["models"], 1)]
    _check_names(entries)
    return entries


def _entry(item: object, number: int) -> Entry:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise Invalid(f"Model {number} of the catalogue has no text 'id'", "Correct the file")
    where = f"Model {item['id'][:80]!r} of the catalogue"
    for name, value in item.items():
        if name not in _SHAPES:
            raise Invalid(f"{where} has an unknown field {name!r}", f"Fields: {', '.join(_SHAPES)}")
        if not _fits(value, _SHAPES[name]):
            raise Invalid(f"{where}: {name} must be {_SHAPES[name]}", "Prices and multipliers are written as texts")
    try:
        check_model_id(item["id"])
        for alias in item.get("aliases", ()):
            check_model_id(alias)
        if item.get("type", "chat") not in MODEL_TYPES:
            raise Invalid(f"{item['type']!r} is not a type", f"Types: {', '.join(MODEL_TYPES)}")
        values = {name: value for name, value in item.items() if name not in {"prices", "multiplier", "multipliers"}}
        if "service_tiers" in values:
            values["service_tiers"] = {tier: money.parse_multiplier(text) for tier, text in item["service_tiers"].items()}
        catalog.check_fields({name: value for name, value in values.items() if name in _PLAIN})
        prices = item.get("prices")
        return Entry(
            id=item["id"],
            values=values,
            prices=None if prices is None else {name: meters.parse_price(name, text) for name, text in prices.items()},
            multipliers=_factors(item),
        )
    except (Invalid, money.MoneyError) as error:
        raise Invalid(f"{where}: {error}", getattr(error, "hint", "")) from error


def _factors(item: Mapping[str, Any]) -> dict[str, int] | None:
    if "multiplier" not in item and "multipliers" not in item:
        return None
    for name in item.get("multipliers", {}):
        meters.meter(name)
    found = {name: money.parse_multiplier(text) for name, text in item.get("multipliers", {}).items()}
    own = money.parse_multiplier(item.get("multiplier", "1"))
    return found if own == money.PPM else {EVERY_METER: own, **found}


def _check_names(entries: Sequence[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        for name in (entry.id, *entry.values.get("aliases", ())):
            low = name.lower()
            if low in seen:
                raise Invalid(f"The catalogue uses the name {name!r} twice (as {seen[low]!r})", "Rename one of them")
            seen[low] = name


class _DryRun(Exception):
    """Carries the result out of the transaction that it undoes."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__()
        self.changes = changes


def apply(entries: Sequence[Entry], *, prune: bool = False, dry_run: bool = False) -> list[Change]:
    """Import: all or nothing. A dry run does the same and undoes it, so that it finds every refusal too."""
    try:
        return _apply(entries, prune, dry_run)
    except _DryRun as done:
        return done.changes


@transaction
def _apply(entries: Sequence[Entry], prune: bool, dry_run: bool) -> list[Change]:
    existing = {view.public_id: view for view in catalog.list_all()}
    changes: list[Change] = []
    if prune:  # first, so that a name may move from a model that goes to one that comes
        named = {entry.id for entry in entries}
        for public_id in [public_id for public_id in existing if public_id not in named]:
            catalog.delete(public_id)
            changes.append(Change(public_id, "delete"))
    _release_aliases(entries, existing)
    for entry in entries:
        view = existing.get(entry.id)
        changes.append(_add(entry) if view is None else _update(entry, view))
    for number, entry in enumerate(entries, len(changes) - len(entries)):  # when every model is there
        if "fallbacks" in entry.values and _set_fallbacks(entry) and changes[number].action != "add":
            changes[number] = Change(entry.id, "update", (*changes[number].fields, "fallbacks"))
    if dry_run:
        raise _DryRun(sorted(changes, key=lambda change: change.id))
    return sorted(changes, key=lambda change: change.id)


def _set_fallbacks(entry: Entry) -> bool:
    """Whether that changed them."""
    before = catalog.show(entry.id).fallbacks
    deployments.set_fallbacks(entry.id, entry.values["fallbacks"])
    return catalog.show(entry.id).fallbacks != before


def _set_deployments(entry: Entry) -> bool:
    """Whether that changed them."""
    before = catalog.show(entry.id).deployments
    wanted = entry.values["deployments"]
    for item in wanted:
        plain = {"weight": 1, "priority": 0, "enabled": True, **item}
        deployments.deploy(entry.id, plain.pop("provider"), **plain)
    for old in before:
        if (old.provider, old.upstream) not in {(item["provider"], item["upstream"]) for item in wanted}:
            deployments.undeploy(entry.id, old.provider, upstream=old.upstream)
    return catalog.show(entry.id).deployments != before


def _release_aliases(entries: Sequence[Entry], existing: Mapping[str, catalog.ModelView]) -> None:
    """Remove aliases that the file takes from a model, before another one gets them."""
    for entry in entries:
        view = existing.get(entry.id)
        if view is not None and "aliases" in entry.values:
            for alias in set(view.aliases) - set(entry.values["aliases"]):
                catalog.remove_alias(alias)


def _priced(entry: Entry) -> dict[str, NewPrice] | None:
    if entry.prices is None:
        return None
    return {name: NewPrice(nanos, SOURCE) for name, nanos in entry.prices.items()}


def _add(entry: Entry) -> Change:
    values = entry.values
    if "deployments" in values:
        values = {**values, **{name: values["deployments"][0][name] for name in ("provider", "upstream")}}
    if "provider" not in values:
        raise Invalid(f"Model {entry.id!r} of the catalogue is new and has no provider", 'Add "provider": "…"')
    plain = {name: values[name] for name in _PLAIN if name in values}
    view = catalog.add(
        catalog.NewModel(
            public_id=entry.id,
            provider=values["provider"],
            upstream=values.get("upstream", entry.id),
            prices=_priced(entry) or {},
            aliases=values.get("aliases", ()),
            groups=values.get("groups"),
            **plain,
        )
    )
    if "deployments" in values:
        _set_deployments(entry)
    for name, ppm in (entry.multipliers or {}).items():
        multipliers.set_for("model", view.public_id, ppm, name)
    return Change(entry.id, "add", tuple(values))


def _update(entry: Entry, view: catalog.ModelView) -> Change:
    values = entry.values
    differing: dict[str, Any] = {}
    for name in _PLAIN:
        if name in values and _comparable(values[name]) != _comparable(getattr(view, name)):
            differing[name] = values[name]
    changed = list(differing)
    first = view.deployments[0] if len(view.deployments) == 1 else None
    if "deployments" in values:
        values = {name: value for name, value in values.items() if name not in {"provider", "upstream"}}
    if "provider" in values and (first is None or first.provider != values["provider"]):
        differing["provider"] = values["provider"]
        changed.append("provider")
    if "upstream" in values and (first is None or first.upstream != values["upstream"]):
        differing["upstream"] = values["upstream"]
        changed.append("upstream")
    if entry.prices is not None and entry.prices != {name: price.nanos for name, price in view.prices.items()}:
        differing |= {"new_prices": _priced(entry), "replace_prices": True}
        changed.append("prices")
    if differing:
        catalog.update(entry.id, **differing)
    if "deployments" in values and _set_deployments(entry):
        changed.append("deployments")
    changed += _update_sets(entry, view)
    return Change(entry.id, "update" if changed else "keep", tuple(changed))


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _update_sets(entry: Entry, view: catalog.ModelView) -> list[str]:
    """Aliases, groups and multipliers: what the file says is the whole of it."""
    changed: list[str] = []
    values = entry.values
    if "aliases" in values and set(values["aliases"]) != set(view.aliases):
        for alias in values["aliases"]:
            if alias not in view.aliases:
                catalog.add_alias(alias, entry.id)
        changed.append("aliases")
    if "groups" in values and set(values["groups"]) != set(view.groups):
        for name in sorted(set(values["groups"]) - set(view.groups)):
            groups.allow(name, [entry.id])
        for name in sorted(set(view.groups) - set(values["groups"])):
            groups.deny(name, [entry.id])
        changed.append("groups")
    if entry.multipliers is not None and entry.multipliers != view.multipliers:
        for name, ppm in entry.multipliers.items():
            if view.multipliers.get(name) != ppm:
                multipliers.set_for("model", entry.id, ppm, name)
        for name in sorted(set(view.multipliers) - set(entry.multipliers)):
            multipliers.unset("model", entry.id, name)
        changed.append("multipliers")
    return changed


@reading
def export() -> str:
    """The whole catalogue as a file that `parse` reads."""
    models = [_document(view) for view in catalog.list_all()]
    return json.dumps({"version": VERSION, "models": models}, ensure_ascii=False, indent=2)


def _document(view: catalog.ModelView) -> dict[str, Any]:
    first = view.deployments[0] if view.deployments else None
    document: dict[str, Any] = {
        "id": view.public_id,
        "provider": first.provider if first else "",
        "upstream": first.upstream if first else view.public_id,
    }
    document |= {name: getattr(view, name) for name in _PLAIN}
    document["hosted_tools"] = dict(view.hosted_tools)
    document["service_tiers"] = {tier: money.format_multiplier(ppm) for tier, ppm in view.service_tiers.items()}
    document["prices"] = {name: meters.format_price(name, price.nanos) for name, price in sorted(view.prices.items())}
    document["aliases"] = list(view.aliases)
    document["groups"] = list(view.groups)
    document["multiplier"] = money.format_multiplier(view.multiplier_ppm)
    if len(view.deployments) > 1:
        names = tuple(_OF_DEPLOYMENT)
        document["deployments"] = [{name: getattr(item, name) for name in names} for item in view.deployments]
    if view.fallbacks:
        document["fallbacks"] = list(view.fallbacks)
    own = {name: money.format_multiplier(ppm) for name, ppm in view.multipliers.items() if name != EVERY_METER}
    if own:
        document["multipliers"] = own
    return document
