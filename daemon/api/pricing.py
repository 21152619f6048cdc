"""GET /docs/pricing: what each model costs, live from the catalogue; with a key also what its owner pays."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Response

from daemon.api.listing import visible
from daemon.api.reply import audience, json_reply
from daemon.domain.catalog import Catalog
from daemon.domain.pricing import MULTIPLIER_ONE, Rate
from daemon.gateway import Gateway
from db.identity import Identity
from db.meters import format_price, price_key
from db.money import format_multiplier, half_up_div
from db.snapshot import StoredModel

VARY = "Authorization, X-Api-Key, X-Goog-Api-Key"
MILLION = 1_000_000
FORMULA = (
    "The cost of a request is the sum over its meters of units / per x list price x model multiplier x group multiplier x user "
    "multiplier, rounded once, half up, to a billionth of a USD. `price` is list price x model multiplier; `effective` is what "
    "the caller pays."
)


def amount(key: str, rate: Rate) -> str:
    """A rate with its multipliers, in USD as people write it for that meter."""
    return format_price(key, half_up_div(rate.price_nanos * rate.multiplier, MULTIPLIER_ONE))


def prices(catalog: Catalog, model: StoredModel, identity: Identity | None) -> dict[str, dict[str, Any]]:
    """Each price of a model by its key (`input`, `image/1024x1024`, `input@200000`)."""
    own = None if identity is None else catalog.terms(model, identity)[0].rates
    shown: dict[str, dict[str, Any]] = {}
    for key, rate in catalog.list_terms(model).ordered():
        meter = price_key(key).meter
        shown[key] = {
            "unit": meter.unit,
            "per": MILLION if meter.per_million else 1,
            "list": format_price(key, rate.price_nanos),
            "multiplier": format_multiplier(rate.model_ppm),
            "price": amount(key, rate),
        }
        if own is not None:
            shown[key]["effective"] = amount(key, own[key])
    return shown


def make_blueprint(gateway: Gateway) -> Blueprint:
    """The route, bound to a gateway."""
    blueprint = Blueprint("pricing", __name__)

    @blueprint.get("/docs/pricing")
    async def pricing() -> Response:
        caller = await audience(gateway)
        catalog = gateway.snapshot.catalog
        identity = caller.identity if caller is not None else None
        models = [
            {"id": model.public_id, "name": model.display_name, "type": model.type, "prices": prices(catalog, model, identity)}
            for model in visible(catalog, caller)
        ]
        headers = {"Vary": VARY} | ({"Cache-Control": "no-store"} if caller is not None else {})
        return json_reply({"object": "pricing", "currency": "USD", "formula": FORMULA, "models": models}, headers=headers)

    return blueprint
