"""Price a request: usage x price x multipliers, rounded once. Used live by settling, and again by
recomputing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import jiter

from daemon.domain.usage import INPUT_METERS, MAX_COUNT, METERS, OUTPUT_METERS, Usage, meter_of
from db.money import half_up_div

__all__ = [
    "FALLBACK",
    "MAX_COST_NANOS",
    "Bill",
    "Line",
    "Rate",
    "Terms",
    "affordable_output",
    "ceiling",
    "half_up_div",
    "price",
    "unpriced",
]

PPM: Final = 1_000_000  # a multiplier of 1
UNITS: Final = 1_000_000  # a price is per this many units
MULTIPLIER_ONE: Final = PPM**3  # user x group x model, all 1
SCALE: Final = UNITS * MULTIPLIER_ONE * PPM  # divides count x price x multipliers x tier's factor into nano-USD
MAX_COST_NANOS: Final = 2**62

# Where a meter without a price of its own is charged. A meter that is in neither table costs nothing when it
# has no price (an image model counts tokens that nobody prices) and is named in Bill.unpriced, so that it is
# seen.
FALLBACK: Final[dict[str, str]] = {
    "cached_input": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "input",
    "audio_input": "input",
    "audio_output": "output",
    "image_input": "input",
    "image_output": "output",
}
# Service tiers by the names that providers have for them: those at the model's own prices, and those that never cost more.
# Any other tier is dearer (priority, fast), so it needs a factor of its own.
USUAL_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only", "on_demand"})
CHEAPER_TIERS: Final = frozenset({"flex", "batch"})
TOKEN_METERS: Final = INPUT_METERS | OUTPUT_METERS
_TIER: Final = "tier:"  # before the name of a tier, in the text of terms

NO_METERS: Final[Mapping[str, int]] = {}
ORDER: Final = {meter: place for place, meter in enumerate(METERS)}


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one meter: nano-USD per 1,000,000 units, and the multipliers in parts per million. 0 is
    free.
    """

    price_nanos: int
    user_ppm: int = PPM
    group_ppm: int = PPM
    model_ppm: int = PPM

    def __post_init__(self) -> None:
        for value in (self.price_nanos, self.user_ppm, self.group_ppm, self.model_ppm):
            if type(value) is not int or value < 0:
                raise ValueError("a price and its multipliers are integers of at least 0")

    @property
    def multiplier(self) -> int:
        """The product of the three multipliers, exact, in parts per 10^18."""
        return self.user_ppm * self.group_ppm * self.model_ppm


@dataclass(frozen=True, slots=True)
class Terms:
    """The rates a hold was placed at, by price key (see db.meters). They are kept with the hold, so a price change never
    reaches it.

    `tiers`: the factor on the price of tokens by service tier, in parts per million; 1 for all others. `asked`: the tier
    that the request asked for.
    """

    rates: dict[str, Rate]
    tiers: dict[str, int] = field(default_factory=dict)
    asked: str | None = None
    _weights: dict[str, int] = field(init=False, repr=False, compare=False)
    _steps: dict[str, tuple[tuple[int, str], ...]] = field(init=False, repr=False, compare=False)
    _dearest: dict[tuple[frozenset[str], int], tuple[int, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        steps: dict[str, tuple[tuple[int, str], ...]] = {}
        for key in self.rates:
            meter = meter_of(key)
            if meter not in METERS:
                raise ValueError(f"unknown meter {key[:40]!r}")
            if (above := key.removeprefix(meter)).startswith("@"):
                steps[meter] = tuple(sorted((*steps.get(meter, ()), (int(above[1:]), key))))
        if any(type(factor) is not int or factor < 0 for factor in self.tiers.values()):
            raise ValueError("the factor of a tier is an integer of at least 0")
        weights = {key: rate.price_nanos * rate.multiplier for key, rate in self.rates.items()}
        object.__setattr__(self, "_weights", weights)
        object.__setattr__(self, "_steps", steps)
        object.__setattr__(self, "_dearest", {})

    def key(self, counted: str, input_tokens: int = 0) -> str | None:
        """Which price applies to a meter, or variant of one, that was counted; None when it costs nothing.

        Its own; else that of the size without the quality, and of the meter; else by FALLBACK. Where only variants are
        priced, one that is not among them (or not known) costs as much as the dearest: it must not be free. Of a price
        with steps the last one below the request's `input_tokens` applies.
        """
        key = counted
        while key not in self.rates and "/" in key:
            key = key.rpartition("/")[0]
        if key not in self.rates:
            key = FALLBACK.get(key, key)
        if key not in self.rates:
            return max(self._variants(key), key=self._weights.__getitem__, default=None)
        for above, step in self._steps.get(key, ()):
            if input_tokens > above:
                key = step
        return key

    def rate(self, counted: str) -> Rate | None:
        """The rate that applies to it in a short request, None when it costs nothing."""
        key = self.key(counted)
        return None if key is None else self.rates[key]

    def weight(self, counted: str, input_tokens: int = 0) -> int:
        """price x multipliers of one unit, in nano-USD x SCALE / PPM."""
        key = self.key(counted, input_tokens)
        return 0 if key is None else self._weights[key]

    def bound(self, counted: str) -> int:
        """The weight that a hold must cover: of a plain meter, the dearest of its variants, as any of them may be used."""
        variants = [self._weights[key] for key in self._variants(counted)]
        return max([self.weight(counted), *variants])

    def _variants(self, meter: str) -> list[str]:
        return [key for key in self.rates if key.startswith(f"{meter}/")]

    def dearest(self, not_used: frozenset[str], input_bound: int) -> tuple[int, int]:
        """The largest weight of an input-side and of an output-side meter, `not_used` left out.

        `input_bound`: the most input tokens; a step that they do not reach is left out too.
        """
        reached = sorted({above for steps in self._steps.values() for above, _ in steps if above < input_bound})
        found = self._dearest.get((not_used, len(reached)))
        if found is None:
            lengths = (0, *(above + 1 for above in reached))
            found = self._most(INPUT_METERS - not_used, lengths), self._most(OUTPUT_METERS - not_used, lengths)
            self._dearest[not_used, len(reached)] = found
        return found

    def _most(self, meters: frozenset[str], lengths: tuple[int, ...]) -> int:
        return max((self.weight(meter, length) for meter in meters for length in lengths), default=0)

    def factor(self, tier: str | None) -> int:
        """What a service tier multiplies the price of tokens by, in parts per million."""
        return PPM if tier is None else self.tiers.get(tier, PPM)

    @property
    def factor_bound(self) -> int:
        """The factor that a hold must cover: the dearer of the tier that was asked for and the usual one."""
        return max(PPM, self.factor(self.asked))

    def factor_of(self, reported: str | None) -> int:
        """The factor that a request is charged by: of the tier that the provider reports, and never more than was held.

        Where it reports none it may have served the dearer of the tier that was asked for and the usual one.
        """
        return self.factor_bound if reported is None else min(self.factor(reported), self.factor_bound)

    def for_tier(self, asked: str | None) -> Terms:
        """The terms of a request for that tier; the same ones when it has no factor."""
        return Terms(self.rates, self.tiers, asked) if asked in self.tiers else self

    def ordered(self) -> list[tuple[str, Rate]]:
        """The rates in the order of METERS, the plain meter before its variants."""
        return sorted(self.rates.items(), key=lambda item: (ORDER[meter_of(item[0])], item[0]))

    def to_json(self) -> str:
        """Compact text: {"input":[price,user,group,model],...,"tier:priority":factor,"asked":tier}, in the order of METERS."""
        rows = [f'"{key}":[{r.price_nanos},{r.user_ppm},{r.group_ppm},{r.model_ppm}]' for key, r in self.ordered()]
        rows += [f'"{_TIER}{tier}":{factor}' for tier, factor in sorted(self.tiers.items())]
        if self.asked is not None:
            rows.append(f'"asked":"{self.asked}"')
        return "{" + ",".join(rows) + "}"

    @classmethod
    def from_json(cls, text: str) -> Terms:
        """The inverse of to_json; ValueError for anything else."""
        data: Any = jiter.from_json(text.encode(), allow_inf_nan=False, catch_duplicate_keys=True)
        if not isinstance(data, dict):
            raise ValueError("terms are a JSON object")
        rates: dict[str, Rate] = {}
        tiers: dict[str, int] = {}
        asked = data.pop("asked", None)
        if asked is not None and not isinstance(asked, str):
            raise ValueError("the tier that was asked for is not a text")
        for key, row in data.items():
            if key.startswith(_TIER):
                tiers[key.removeprefix(_TIER)] = row
            elif not isinstance(row, list) or len(row) != 4:
                raise ValueError(f"the rate of {key[:40]!r} is not four numbers")
            else:
                rates[key] = Rate(*row)
        return cls(rates, tiers, asked)


@dataclass(frozen=True, slots=True)
class Line:
    """One meter of a bill. `multiplier` is user x group x model in parts per 10^18 (exact); `key`: the price that applied.

    `tier_ppm`: the factor of the service tier, in parts per million.
    """

    meter: str
    count: int
    price_nanos: int
    multiplier: int
    amount_nanos: int
    key: str
    tier_ppm: int = PPM


@dataclass(frozen=True, slots=True)
class Bill:
    """What a request costs its user, what it costs at list price, and how the first is made up (lines sum
    exactly).
    """

    cost_nanos: int
    upstream_cost_nanos: int
    lines: tuple[Line, ...]
    unpriced: tuple[str, ...] = ()


def price(usage: Usage, terms: Terms) -> Bill:
    """The bill of a usage. One half-up rounding at the end; a line is the step that the rounded running total
    makes.

    OverflowError above 2^62 nano-USD, which no price within its limits reaches with counts up to MAX_COUNT.
    """
    exact = upstream = charged = 0
    input_tokens, tier_factor = usage.input_tokens, terms.factor_of(usage.tier)
    lines: list[Line] = []
    missing: list[str] = []
    for meter, count in usage.meters.items():
        if count == 0:
            continue
        if count < 0:
            raise ValueError(f"negative count of {meter}")
        key = terms.key(meter, input_tokens)
        if key is None:
            missing.append(meter)
            continue
        rate = terms.rates[key]
        factor = tier_factor if meter in TOKEN_METERS else PPM
        exact += count * rate.price_nanos * rate.multiplier * factor
        upstream += count * rate.price_nanos * factor
        running = half_up_div(exact, SCALE)
        lines.append(Line(meter, count, rate.price_nanos, rate.multiplier, running - charged, key, factor))
        charged = running
    upstream_nanos = half_up_div(upstream, UNITS * PPM)
    if charged > MAX_COST_NANOS or upstream_nanos > MAX_COST_NANOS:
        raise OverflowError("a bill above 2^62 nano-USD")
    return Bill(charged, upstream_nanos, tuple(lines), tuple(missing))


def unpriced(terms: Terms, needed: tuple[str, ...] = ("input", "output")) -> tuple[str, ...]:
    """Which of the meters a kind of request needs have no price: admission refuses the request when any has
    none.
    """
    return tuple(meter for meter in needed if terms.rate(meter) is None)


def _counted(terms: Terms, extra: Mapping[str, int]) -> int:
    """What neither bound limits, in nano-USD x SCALE: one request, unless `extra` says how many, and the extras."""
    exact = 0 if "request" in extra else terms.weight("request")
    for key, count in extra.items():
        exact += count * terms.bound(key)
    return exact * PPM


def ceiling(
    terms: Terms,
    input_bound: int,
    output_bound: int,
    n: int = 1,
    extra: Mapping[str, int] = NO_METERS,
    not_used: frozenset[str] = frozenset(),
) -> int:
    """The most a request can cost, in nano-USD, rounded up: what a hold must reserve.

    Any split of `input_bound` prompt tokens and `output_bound * n` generated tokens over their meters costs no more:
    each side is taken at the dearest rate of its meters, and of steps those that so many tokens reach. One request is
    counted, and `extra` counts of other meters. `not_used` names meters this request cannot incur (audio on a text
    request), whose dearer rate need not be held.
    """
    dear_input, dear_output = terms.dearest(not_used, input_bound)
    tokens = input_bound * dear_input + output_bound * n * dear_output
    exact = tokens * terms.factor_bound + _counted(terms, extra)
    return -(-exact // SCALE)


def affordable_output(
    terms: Terms,
    input_bound: int,
    n: int,
    available_nanos: int,
    extra: Mapping[str, int] = NO_METERS,
    not_used: frozenset[str] = frozenset(),
) -> int:
    """The largest output_bound whose ceiling is within `available_nanos`; 0 if none, at most MAX_COUNT."""
    dear_input, dear_output = terms.dearest(not_used, input_bound)
    factor = terms.factor_bound
    left = available_nanos * SCALE - input_bound * dear_input * factor - _counted(terms, extra)
    if left < 0:
        return 0
    return min(MAX_COUNT, left // (dear_output * factor * n)) if dear_output else MAX_COUNT
