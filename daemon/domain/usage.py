"""Usage: how many units of each meter one request consumed, as disjoint counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

__all__ = [
    "INPUT_METERS",
    "MAX_COUNT",
    "METERS",
    "OUTPUT_METERS",
    "InvalidUsage",
    "Meter",
    "Usage",
    "check_within",
    "checked_count",
    "combine",
    "meter_of",
    "with_counted",
]


class InvalidUsage(ValueError):
    """What an upstream reported cannot be true; the caller counts what was delivered instead and flags it
    estimated.
    """


@dataclass(frozen=True, slots=True)
class Meter:
    """One countable thing. `side` says which bound of a request limits it: input, output, or neither (it is
    counted).
    """

    name: str
    unit: str
    side: str
    counts: str


# Disjoint: a token is counted by exactly one meter, so that prices can simply be summed.
# To add a meter: 1 a row here, 2 a fallback (or none) in pricing.FALLBACK, 3 the protocol that reports it.
METERS: Final[dict[str, Meter]] = {
    meter.name: meter
    for meter in (
        Meter("input", "token", "input", "prompt tokens that are in none of the other input meters"),
        Meter("cached_input", "token", "input", "prompt tokens the upstream read from its cache"),
        Meter(
            "cache_write_5m",
            "token",
            "input",
            "prompt tokens written to a cache for 5 minutes, or an unnamed time",
        ),
        Meter("cache_write_1h", "token", "input", "prompt tokens written to a cache for 1 hour"),
        Meter("output", "token", "output", "generated tokens, reasoning included, audio and images excluded"),
        Meter("audio_input", "token", "input", "prompt tokens that are audio"),
        Meter("audio_output", "token", "output", "generated tokens that are audio"),
        Meter("image_input", "token", "input", "prompt tokens that are images, where the host tells them apart"),
        Meter("image_output", "token", "output", "generated tokens that are images"),
        Meter("image", "image", "counted", "images generated"),
        Meter("character", "character", "counted", "characters of text turned to speech"),
        Meter("second", "second", "counted", "seconds of audio transcribed, rounded up"),
        Meter("request", "request", "counted", "requests, 1 each"),
        Meter("hosted_call", "call", "counted", "calls of tools that the provider runs, such as web searches"),
    )
}
INPUT_METERS: Final = frozenset(m.name for m in METERS.values() if m.side == "input")
OUTPUT_METERS: Final = frozenset(m.name for m in METERS.values() if m.side == "output")

# No reply on offer comes near a billion tokens, characters or seconds: more is a fault of the upstream. And a
# billion units at a dollar each are 10^18 nano-USD, a quarter of what a bill may be (2^62).
MAX_COUNT: Final = 1_000_000_000


# What a hold covers is a true bound, but for what a provider counts that no body tells (its own instructions, thoughts that
# ignore the limit). More than so much beyond it is no usage of this request.
BEYOND_FACTOR: Final = 4
BEYOND_TOKENS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts per meter (absent = 0), or per variant of one (`image/1024x1024/high`, see db.meters).

    `reasoning` is part of `output` and only reported; `estimated` = counted by us. `tier` is the service tier at which the
    provider says that it served the request: no count, so it is not compared.
    """

    meters: dict[str, int]
    reasoning: int = 0
    estimated: bool = False
    tier: str | None = field(default=None, compare=False)

    @property
    def input_tokens(self) -> int:
        """Every prompt token: uncached, cached, written to a cache, audio."""
        return sum([count for meter, count in self.meters.items() if meter in INPUT_METERS])

    @property
    def output_tokens(self) -> int:
        """Every generated token: text, reasoning, audio."""
        return sum([count for meter, count in self.meters.items() if meter in OUTPUT_METERS])

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def checked_count(value: object, field: str) -> int:
    """`value` as a believable count; InvalidUsage for anything but an int in 0..MAX_COUNT (true is not an
    int).
    """
    if type(value) is not int:
        raise InvalidUsage(f"{field} is {type(value).__name__}, not an integer")
    if not 0 <= value <= MAX_COUNT:
        raise InvalidUsage(f"{field} is outside 0..{MAX_COUNT}")
    return value


def meter_of(key: str) -> str:
    """The meter of a count or price: 'image/1024x1024/high' → 'image', 'input@200000' → 'input'."""
    return key.partition("/")[0].partition("@")[0]


def with_counted(usage: Usage, counted: Mapping[str, int]) -> Usage:
    """A usage and what the request itself fixes, by meter or variant.

    A count that was reported wins. Of variants the one that was asked for wins, unless the reported one is that more exactly.
    """
    meters = dict(usage.meters)
    for key, count in counted.items():
        meter = meter_of(key)
        reported = [name for name in meters if meter_of(name) == meter]
        if not reported:
            meters[key] = count
            continue
        for name in reported:
            if key != meter and not f"{name}/".startswith(f"{key}/"):
                meters[key] = meters.get(key, 0) + meters.pop(name)
    return replace(usage, meters=meters)


def check_within(usage: Usage, input_bound: int, output_bound: int) -> None:
    """InvalidUsage when the tokens are far beyond what the request was held for: such a fault would drain a balance."""
    for side, count, bound in (("input", usage.input_tokens, input_bound), ("output", usage.output_tokens, output_bound)):
        if count > BEYOND_FACTOR * bound + BEYOND_TOKENS:
            raise InvalidUsage(f"{count} {side} tokens are far beyond the {bound} that the request can have")


def combine(usages: Iterable[Usage]) -> Usage:
    """The sum over the rounds of one request (a tool loop); estimated when any round was."""
    meters: dict[str, int] = {}
    reasoning, estimated = 0, False
    for usage in usages:
        for meter, count in usage.meters.items():
            meters[meter] = meters.get(meter, 0) + count
        reasoning += usage.reasoning
        estimated = estimated or usage.estimated
    return Usage(meters, reasoning, estimated)
