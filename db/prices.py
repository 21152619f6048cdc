"""Prices: one row per model, time and meter (or variant of a meter, see db.meters).

A row is closed by `valid_to_at`, never changed: what was charged by it stays explainable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from db.errors import Invalid
from db.meters import format_price, price_key
from db.models import CatalogModel, Price
from db.money import MAX_NANOS
from db.names import model_row
from db.reading import reading

BY_HAND = "command line"


@dataclass(frozen=True, slots=True)
class NewPrice:
    """nano-USD per million units, and where the figure comes from."""

    nanos: int
    source: str = BY_HAND
    source_date: str | None = None


@dataclass(frozen=True, slots=True)
class PriceView:
    """A price and the time in which it holds (ms; `valid_to_at` None: now)."""

    model: str
    meter: str
    nanos: int
    valid_from_at: int
    valid_to_at: int | None
    source: str
    source_date: str | None


def check(prices: Mapping[str, NewPrice]) -> None:
    """Every price key is one, and every price is a whole number from 0 to 2^62."""
    for name, price in prices.items():
        price_key(name)
        if isinstance(price.nanos, bool) or not isinstance(price.nanos, int) or not 0 <= price.nanos <= MAX_NANOS:
            raise Invalid(f"The price of {name} is out of range", "Prices are USD, 0 or more")


def store(
    model_id: int, prices: Mapping[str, NewPrice], now: int, *, replace: bool = False, without: Collection[str] = ()
) -> dict[str, str | None]:
    """Close what differs and insert the new rows; `replace` also closes all that is not named, `without` what it names.

    Returns the changed price keys with the earlier price as text. The caller audits and raises the version.
    """
    check(prices)
    rows = {row.meter: row for row in Price.select().where((Price.model == model_id) & Price.valid_to_at.is_null())}
    changed: dict[str, str | None] = {}
    for name, price in prices.items():
        earlier = rows.get(name)
        if earlier is not None and earlier.price_nanos == price.nanos:
            continue
        changed[name] = None if earlier is None else format_price(name, earlier.price_nanos)
    gone = [name for name in rows if name not in prices and (replace or name in without)]
    for name in gone:
        changed[name] = format_price(name, rows[name].price_nanos)
    _check_steps((rows.keys() - gone) | prices.keys())
    if changed:
        closing = (Price.model == model_id) & Price.valid_to_at.is_null() & Price.meter.in_(sorted(changed))
        Price.update(valid_to_at=now).where(closing).execute()
    for name in changed:
        if name in prices:
            new = prices[name]
            Price.insert(
                model=model_id,
                meter=name,
                price_nanos=new.nanos,
                valid_from_at=now,
                source=new.source[:200],
                source_date=new.source_date,
            ).execute()
    return changed


def _check_steps(keys: AbstractSet[str]) -> None:
    """A step is a step from something: Invalid when its meter has no price for shorter requests."""
    for key in sorted(keys):
        found = price_key(key)
        if found.above and found.meter.name not in keys:
            raise Invalid(f"There is a price for {key} and none for {found.meter.name}", f"Add --price {found.meter.name}=USD")


def current(model_id: int | None = None) -> dict[int, dict[str, NewPrice]]:
    """model id → {meter: price in force}, of one model or all."""
    query = Price.select().where(Price.valid_to_at.is_null())
    if model_id is not None:
        query = query.where(Price.model == model_id)
    found: dict[int, dict[str, NewPrice]] = {}
    for row in query.order_by(Price.id):
        found.setdefault(row.model_id, {})[row.meter] = NewPrice(row.price_nanos, row.source, row.source_date)
    return found


@reading
def history(model: str) -> list[PriceView]:
    """Every price a model ever had, the newest first."""
    row = model_row(model)
    query = Price.select(Price, CatalogModel).join(CatalogModel).where(Price.model == row.id)
    return [
        PriceView(
            model=item.model.public_id,
            meter=item.meter,
            nanos=item.price_nanos,
            valid_from_at=item.valid_from_at,
            valid_to_at=item.valid_to_at,
            source=item.source,
            source_date=item.source_date,
        )
        for item in query.order_by(Price.valid_from_at.desc(), Price.id.desc())
    ]
