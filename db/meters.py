"""The meters that can be priced: unit, whether a price is written per million units or per one, and what a price may name.

A price is of a meter, or by a *variant* of one kind of it: `image/1024x1024/high`, `hosted_call/web_search`. The plain meter is
the price of every variant that has none of its own. A *step* is the price of tokens of long requests: `input@200000` holds for
all input tokens of a request with more than 200000 of them in all, `output@200000` for its output.

To add a meter: 1. a line here; 2. the same name in daemon/domain/usage.py (a test compares the two).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from db import money
from db.errors import Invalid

EVERY_METER = "*"


@dataclass(frozen=True, slots=True)
class Meter:
    """`per_million`: prices are written in USD per 1,000,000 units, else per one unit. `variants`: what they are, if any."""

    name: str
    unit: str
    per_million: bool
    variants: str = ""


METERS: dict[str, Meter] = {
    meter.name: meter
    for meter in (
        Meter("input", "token", True),
        Meter("cached_input", "token", True),
        Meter("cache_write_5m", "token", True),
        Meter("cache_write_1h", "token", True),
        Meter("output", "token", True),
        Meter("audio_input", "token", True),
        Meter("audio_output", "token", True),
        Meter("image_input", "token", True),
        Meter("image_output", "token", True),
        Meter("image", "image", False, "SIZE or SIZE/QUALITY"),
        Meter("character", "character", False),
        Meter("second", "second", False),
        Meter("request", "request", False),
        Meter("hosted_call", "call", False, "TOOL"),
    )
}
KEY_LENGTH = 40
MOST_STEP = 1_000_000_000
_VARIANT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,27}(/[a-z0-9][a-z0-9_.-]{0,27})?")

# What a model of a type must have a price for before it may be used. A tuple: every one of them; () : any meter.
REQUIRED: dict[str, tuple[str, ...]] = {
    "chat": ("input", "output"),
    "embedding": ("input",),
    "image": (),
    "audio": (),
    "rerank": (),
    "moderation": (),
}


@dataclass(frozen=True, slots=True)
class PriceKey:
    """What a price is of: a meter, of which one variant ("": all), or only in requests of more than `above` input tokens."""

    meter: Meter
    variant: str = ""
    above: int = 0


def meter(name: str) -> Meter:
    """The meter of that name, or Invalid."""
    if name not in METERS:
        raise Invalid(f"There is no meter {name[:60]!r}", f"Meters: {', '.join(METERS)}")
    return METERS[name]


def price_key(text: str) -> PriceKey:
    """`METER`, `METER/VARIANT` or `METER@TOKENS`, as prices are stored and written; Invalid for anything else."""
    name, at, step = text.partition("@")
    if at:
        return _step(meter(name), step)
    name, slash, variant = text.partition("/")
    found = meter(name)
    if slash and not found.variants:
        raise Invalid(f"The meter {name!r} has no variants", f"Those that have: {', '.join(_with_variants())}")
    if slash and (not _VARIANT.fullmatch(variant) or len(text) > KEY_LENGTH):
        raise Invalid(f"{variant[:60]!r} is not a variant of {name}", f"Write {name}/{found.variants}, in lower case")
    return PriceKey(found, variant)


def place(key: str) -> tuple[int, int, str]:
    """Sorts price keys: by the order of METERS, the plain meter before its steps and variants."""
    found = price_key(key)
    return list(METERS).index(found.meter.name), found.above, found.variant


def _step(found: Meter, text: str) -> PriceKey:
    if found.unit != "token":
        raise Invalid(f"{found.name} is not counted in tokens, so its price has no steps", "Example: input@200000")
    if not (text.isascii() and text.isdecimal() and text[0] != "0" and int(text) <= MOST_STEP):
        raise Invalid(f"{text[:60]!r} is not a number of tokens from 1 to {MOST_STEP}", f"Example: {found.name}@200000")
    return PriceKey(found, above=int(text))


def _with_variants() -> list[str]:
    return [f"{item.name}/{item.variants}" for item in METERS.values() if item.variants]


def parse_price(key: str, text: str) -> int:
    """USD as people write it for that meter → nano-USD per million units."""
    return money.parse_price(text, per_million=price_key(key).meter.per_million)


def format_price(key: str, nanos: int) -> str:
    """nano-USD per million units → USD as people write it for that meter."""
    return money.format_price(nanos, per_million=price_key(key).meter.per_million)


def missing(model_type: str, priced: set[str]) -> tuple[str, ...]:
    """The meters that still need a price; ('any',) when the type needs at least one."""
    needed = REQUIRED[model_type]
    if not needed:
        return () if priced else ("any",)
    return tuple(name for name in needed if name not in priced)
