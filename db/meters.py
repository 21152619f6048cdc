"""The meters that can be priced: unit, and whether a price is written per million units or per one.

To add a meter: 1. a line here; 2. the same name in daemon/domain/usage.py (a test compares the two).
"""

from __future__ import annotations

from dataclasses import dataclass

from db import money
from db.errors import Invalid

EVERY_METER = "*"


@dataclass(frozen=True, slots=True)
class Meter:
    """`per_million`: prices are written in USD per 1,000,000 units, else per one unit."""

    name: str
    unit: str
    per_million: bool


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
        Meter("image", "image", False),
        Meter("character", "character", False),
        Meter("second", "second", False),
        Meter("request", "request", False),
    )
}

# What a model of a type must have a price for before it may be used. A tuple: every one of them; () : any meter.
REQUIRED: dict[str, tuple[str, ...]] = {
    "chat": ("input", "output"),
    "embedding": ("input",),
    "image": (),
    "audio": (),
    "rerank": (),
    "moderation": (),
}


def meter(name: str) -> Meter:
    """The meter of that name, or Invalid."""
    if name not in METERS:
        raise Invalid(f"There is no meter {name!r}", f"Meters: {', '.join(METERS)}")
    return METERS[name]


def parse_price(name: str, text: str) -> int:
    """USD as people write it for that meter → nano-USD per million units."""
    return money.parse_price(text, per_million=meter(name).per_million)


def format_price(name: str, nanos: int) -> str:
    """nano-USD per million units → USD as people write it for that meter."""
    return money.format_price(nanos, per_million=meter(name).per_million)


def missing(model_type: str, priced: set[str]) -> tuple[str, ...]:
    """The meters that still need a price; ('any',) when the type needs at least one."""
    needed = REQUIRED[model_type]
    if not needed:
        return () if priced else ("any",)
    return tuple(name for name in needed if name not in priced)
