"""Service tiers: at which other price a request asks to be served, and at which the provider says that it served it.

| field | who has it | usual values |
|---|---|---|
| service_tier, of a request | OpenAI, Groq, Anthropic | auto, default, standard, standard_only, on_demand |
| serviceTier, of a request | Gemini, which reads its own requests: gemini.ask | standard, unspecified |
| speed, of a request | Anthropic | standard |
| service_tier, of a reply or its usage | the same | default, standard, on_demand |
| usage.speed, of a reply | Anthropic | standard |

To add a provider's field: 1 its name in ASKED, 2 its usual values in domain.pricing.USUAL_TIERS.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.pricing import USUAL_TIERS

__all__ = ["ASKED", "asked_tier", "carried_tier", "reported_tier"]

ASKED: Final = ("service_tier", "speed")
LONGEST: Final = 40  # of what is kept of a name


def asked_tier(body: dict[str, Any]) -> tuple[str | None, str | None]:
    """(the tier that a request asks for, None for a usual one; a field that asks for what cannot be priced)."""
    tier = None
    for name in ASKED:
        value = body.get(name)
        if value is None or (type(value) is str and value in USUAL_TIERS):
            continue
        if type(value) is not str or tier is not None:  # two at once have no price together
            return tier, name
        tier = value[:LONGEST]
    return tier, None


def carried_tier(body: dict[str, Any]) -> str | None:
    """The tier that is still asked for when a request is translated: a speed is left out then."""
    given = body.get("serviceTier") or body.get("service_tier")
    name = given.lower() if type(given) is str else given
    return None if name == "unspecified" else asked_tier({"service_tier": name})[0]


def reported_tier(holder: dict[str, Any]) -> str | None:
    """The tier that a reply, chunk or usage object names; a speed that is not the usual one is the dearer word."""
    speed = holder.get("speed")
    if type(speed) is str and speed not in USUAL_TIERS:
        return speed[:LONGEST]
    tier = holder.get("service_tier")
    return tier[:LONGEST] if type(tier) is str else None
