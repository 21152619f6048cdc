"""Bills are exact to the nano-dollar, and no usage within its bounds costs more than the ceiling."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.pricing import (
    FALLBACK,
    Line,
    Rate,
    Terms,
    affordable_output,
    ceiling,
    half_up_div,
    price,
    unpriced,
)
from daemon.domain.usage import INPUT_METERS, MAX_COUNT, METERS, OUTPUT_METERS, Usage

USD = 1_000_000_000
GOLDEN = Terms(
    {
        "input": Rate(2_500_000_000, 1_200_000, 1_000_000, 1_500_000),
        "output": Rate(10 * USD, 1_200_000, 1_000_000, 1_500_000),
    }
)

rates = st.builds(
    Rate,
    st.integers(0, 200 * USD),
    st.sampled_from([0, 1, 333_333, 1_000_000, 1_200_000, 99_999_999]),
    st.sampled_from([1_000_000, 900_000, 1_000_001]),
    st.sampled_from([1_000_000, 1_500_000]),
)
STEPS = ("input@1000", "input@200000", "output@200000", "cached_input@200000", "output@1500000")
VARIANTS = ("image/1024x1024", "image/1024x1024/high", "image/512x512/low", "hosted_call/web_search")
terms = st.builds(Terms, st.dictionaries(st.sampled_from(sorted((*METERS, *VARIANTS, *STEPS))), rates))
counts = st.integers(0, 2_000_000)
usages = st.builds(Usage, st.dictionaries(st.sampled_from(sorted((*METERS, *VARIANTS))), counts))


def test_the_worked_example_of_the_requirements_is_exact() -> None:
    bill = price(Usage({"input": 25, "output": 50}), GOLDEN)
    assert bill.cost_nanos == 1_012_500
    assert bill.upstream_cost_nanos == 562_500
    assert bill.lines == (
        Line("input", 25, 2_500_000_000, 1_800_000_000_000_000_000, 112_500, "input"),
        Line("output", 50, 10_000_000_000, 1_800_000_000_000_000_000, 900_000, "output"),
    )
    assert 5 * USD - bill.cost_nanos == 4_998_987_500


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(0, 3, 0), (1, 2, 1), (3, 2, 2), (1, 3, 0), (2, 3, 1), (5, 10, 1), (4, 10, 0)],
)
def test_halves_round_up(numerator: int, denominator: int, expected: int) -> None:
    assert half_up_div(numerator, denominator) == expected


def test_one_rounding_for_the_request_not_one_per_meter() -> None:
    """Two meters of 0.4 nano-USD are 0.8, so 1; rounded each they would be 0."""
    tenth = Terms({"input": Rate(400_000), "output": Rate(400_000)})
    bill = price(Usage({"input": 1, "output": 1}), tenth)
    assert bill.cost_nanos == 1
    assert [line.amount_nanos for line in bill.lines] == [0, 1]


def test_a_zero_multiplier_is_free_for_the_user_and_still_costs_upstream() -> None:
    bill = price(Usage({"input": 1_000_000}), Terms({"input": Rate(USD, user_ppm=0)}))
    assert (bill.cost_nanos, bill.upstream_cost_nanos) == (0, USD)


def test_meters_without_a_price_fall_back_by_the_table() -> None:
    terms = Terms({"input": Rate(3 * USD), "output": Rate(7 * USD)})
    for meter, other in FALLBACK.items():
        assert price(Usage({meter: 1_000_000}), terms).cost_nanos == terms.rates[other].price_nanos
    own = Terms({"input": Rate(3 * USD), "cached_input": Rate(0)})
    assert price(Usage({"cached_input": 1_000_000}), own).cost_nanos == 0


@pytest.mark.parametrize("meter", ["image", "image/1024x1024", "character", "second", "request", "hosted_call"])
def test_a_counted_meter_without_a_price_costs_nothing_and_is_named(meter: str) -> None:
    bill = price(Usage({meter: 3, "input": 0}), GOLDEN)
    assert (bill.cost_nanos, bill.unpriced) == (0, (meter,))


def test_admission_learns_which_prices_are_missing() -> None:
    assert unpriced(GOLDEN) == ()
    assert unpriced(Terms({"input": Rate(0)})) == ("output",)
    assert unpriced(Terms({}), ("image",)) == ("image",)


@pytest.mark.parametrize("bad", [-1, 1.0, "1", True, None])
def test_a_rate_refuses_what_is_not_a_count(bad: object) -> None:
    with pytest.raises(ValueError):
        Rate(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Rate(1, 1, 1, bad)  # type: ignore[arg-type]


def test_a_bill_beyond_62_bits_is_refused() -> None:
    huge = Terms({"input": Rate(10**18, 10**9)})
    with pytest.raises(OverflowError):
        price(Usage({"input": MAX_COUNT}), huge)
    with pytest.raises(ValueError):
        price(Usage({"input": -1}), GOLDEN)


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '{"input":1}', '{"input":[1,1,1]}', '{"input":[1,1,1,-1]}', '{"inputs":[1,1,1,1]}',
             '{"input":[1,1,1,1.0]}', '{"input@":[1,1,1,1]}', '{"input@x":[1,1,1,1]}', '{"input":[1,1,1,1],"input":[1,1,1,1]}']
)  # fmt: skip
def test_terms_that_are_not_terms_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Terms.from_json(text)


@given(terms)
def test_terms_round_trip(terms: Terms) -> None:
    assert Terms.from_json(terms.to_json()) == terms


@settings(max_examples=300)
@given(usages, terms)
def test_a_bill_is_the_exact_sum_rounded_once_with_lines_that_add_up(usage: Usage, terms: Terms) -> None:
    bill = price(usage, terms)
    exact, upstream = Fraction(0), Fraction(0)
    for meter, count in usage.meters.items():
        key = terms.key(meter, usage.input_tokens)
        if key is not None:
            rate = terms.rates[key]
            upstream += Fraction(count * rate.price_nanos, 10**6)
            exact += Fraction(count * rate.price_nanos * rate.user_ppm * rate.group_ppm * rate.model_ppm, 10**24)
    assert bill.cost_nanos == int(exact + Fraction(1, 2))
    assert bill.upstream_cost_nanos == int(upstream + Fraction(1, 2))
    assert sum(line.amount_nanos for line in bill.lines) == bill.cost_nanos
    assert all(line.amount_nanos >= 0 for line in bill.lines)


@settings(max_examples=300)
@given(usages, terms, st.integers(1, 128))
def test_no_usage_within_its_bounds_costs_more_than_the_ceiling(usage: Usage, terms: Terms, n: int) -> None:
    used = {**usage.meters, "request": 1}
    usage = Usage(used)
    extra = {m: c for m, c in used.items() if m not in INPUT_METERS | OUTPUT_METERS and m != "request"}
    output_bound = -(-usage.output_tokens // n)
    assert price(usage, terms).cost_nanos <= ceiling(terms, usage.input_tokens, output_bound, n, extra)
    not_used = (INPUT_METERS | OUTPUT_METERS).difference(used)
    assert price(usage, terms).cost_nanos <= ceiling(terms, usage.input_tokens, output_bound, n, extra, not_used)


def test_meters_that_cannot_occur_need_no_hold() -> None:
    audio = Terms({"input": Rate(USD), "audio_input": Rate(40 * USD), "output": Rate(0)})
    assert ceiling(audio, 1_000_000, 0) == 40 * USD
    assert ceiling(audio, 1_000_000, 0, not_used=frozenset({"audio_input"})) == USD


def test_a_ceiling_is_rounded_up_and_counts_the_request() -> None:
    assert ceiling(Terms({"input": Rate(1)}), 1, 0) == 1
    assert ceiling(Terms({"request": Rate(2_000_000)}), 0, 0) == 2
    assert ceiling(Terms({"request": Rate(2_000_000)}), 0, 0, extra={"request": 3}) == 6


@settings(max_examples=300)
@given(terms, counts, st.integers(1, 128), st.integers(0, 10**13))
def test_the_affordable_output_is_the_largest_that_fits(terms: Terms, bound: int, n: int, have: int) -> None:
    output = affordable_output(terms, bound, n, have)
    assert 0 <= output <= MAX_COUNT
    if output:
        assert ceiling(terms, bound, output, n) <= have
    if output < MAX_COUNT:
        assert ceiling(terms, bound, output + 1, n) > have


SOLD_BY_SIZE = Terms(
    {
        "image": Rate(50),
        "image/1024x1024": Rate(40),
        "image/1024x1024/high": Rate(170),
        "image/512x512/low": Rate(10),
        "hosted_call/web_search": Rate(7),
        "hosted_call/file_search": Rate(9),
    }
)


@pytest.mark.parametrize(
    ("counted", "applies", "most"),
    [
        ("image/1024x1024/high", 170, 170),
        ("image/1024x1024/low", 40, 40),
        ("image/1024x1024", 40, 170),
        ("image/512x512/low", 10, 10),
        ("image/512x512/high", 50, 50),
        ("image/512x512", 50, 50),
        ("image/2048x2048", 50, 50),
        ("image", 50, 170),
        ("hosted_call/web_search", 7, 7),
        ("hosted_call/code_interpreter", 9, 9),  # only variants are priced: what is not among them must not be free
        ("hosted_call", 9, 9),
        ("second", 0, 0),
    ],
)
def test_a_piece_costs_by_its_kind_and_is_held_at_the_dearest_it_may_be(counted: str, applies: int, most: int) -> None:
    million = Usage({counted: 1_000_000})
    assert price(million, SOLD_BY_SIZE).cost_nanos == applies
    assert ceiling(SOLD_BY_SIZE, 0, 0, extra={counted: 1_000_000}) == most


def test_terms_are_written_in_order_and_older_ones_are_read() -> None:
    terms = Terms({"output": Rate(2), "image/s/hd": Rate(4), "image": Rate(3), "input": Rate(1)})
    one = "1000000,1000000,1000000]"
    text = f'{{"input":[1,{one},"output":[2,{one},"image":[3,{one},"image/s/hd":[4,{one}}}'
    assert terms.to_json() == text
    assert Terms.from_json(text) == terms


LONG = Terms(
    {
        "input": Rate(10),
        "input@100": Rate(20),
        "input@200": Rate(40),
        "cached_input": Rate(1),
        "cached_input@200": Rate(3),
        "output": Rate(50),
        "output@200": Rate(30),  # cheaper: a hold must not rely on being long
    }
)


@pytest.mark.parametrize(
    ("tokens", "input_key", "cached_key", "output_key"),
    [
        (1, "input", "cached_input", "output"),
        (100, "input", "cached_input", "output"),
        (101, "input@100", "cached_input", "output"),
        (200, "input@100", "cached_input", "output"),
        (201, "input@200", "cached_input@200", "output@200"),
        (10**9, "input@200", "cached_input@200", "output@200"),
    ],
)
def test_the_step_is_chosen_by_all_input_tokens(tokens: int, input_key: str, cached_key: str, output_key: str) -> None:
    lines = price(Usage({"input": tokens - 1, "cached_input": 1, "output": 5, "audio_input": 0}), LONG).lines
    assert [line.key for line in lines if line.meter != "input" or line.count] == (
        [input_key] * (tokens > 1) + [cached_key, output_key]
    )
    # A meter that falls back takes the steps of what it falls back to.
    assert LONG.key("cache_write_5m", tokens) == input_key


@pytest.mark.parametrize(
    ("input_bound", "dear_input", "dear_output"), [(0, 10, 50), (100, 10, 50), (101, 20, 50), (200, 20, 50), (201, 40, 50)]
)
def test_a_hold_covers_the_dearest_step_that_its_input_can_reach(input_bound: int, dear_input: int, dear_output: int) -> None:
    million = Terms({key: Rate(rate.price_nanos * 1_000_000) for key, rate in LONG.rates.items()})
    assert ceiling(million, input_bound, 7) == input_bound * dear_input + 7 * dear_output
    assert affordable_output(million, input_bound, 1, input_bound * dear_input + 7 * dear_output) == 7


def test_steps_are_kept_with_the_hold() -> None:
    assert Terms.from_json(LONG.to_json()) == LONG
    assert price(Usage({"input": 150}), Terms.from_json(LONG.to_json())) == price(Usage({"input": 150}), LONG)


TIERED = Terms(
    {"input": Rate(1_000_000), "output": Rate(4_000_000, user_ppm=500_000), "request": Rate(1_000_000)},
    {"priority": 1_750_000, "flex": 500_000},
)


@pytest.mark.parametrize(
    ("asked", "reported", "factor", "bound"),
    [
        (None, None, 1_000_000, 1_000_000),
        (None, "default", 1_000_000, 1_000_000),
        (None, "flex", 500_000, 1_000_000),
        (None, "priority", 1_000_000, 1_000_000),  # nobody asked for it, so no more than the usual price was held
        ("priority", "priority", 1_750_000, 1_750_000),
        ("priority", "default", 1_000_000, 1_750_000),  # downgraded
        ("priority", "flex", 500_000, 1_750_000),
        ("priority", None, 1_750_000, 1_750_000),  # not told: it may have been that
        ("flex", "flex", 500_000, 1_000_000),
        ("flex", "default", 1_000_000, 1_000_000),
        ("flex", None, 1_000_000, 1_000_000),
        ("unknown", "unknown", 1_000_000, 1_000_000),
    ],
)
def test_a_request_costs_by_the_tier_that_served_it_within_what_was_held(
    asked: str | None, reported: str | None, factor: int, bound: int
) -> None:
    terms = TIERED.for_tier(asked)
    assert (terms.factor_of(reported), terms.factor_bound) == (factor, bound)
    bill = price(Usage({"input": 4, "output": 8, "request": 1}, tier=reported), terms)
    # Tokens only: what is sold by the piece costs the same in every tier.
    assert bill.cost_nanos == (4 + 8 * 4 // 2) * factor // 1_000_000 + 1
    assert bill.upstream_cost_nanos == (4 + 8 * 4) * factor // 1_000_000 + 1
    assert [line.tier_ppm for line in bill.lines] == [factor, factor, 1_000_000]
    assert ceiling(terms, 4, 8) == -(-(4 + 8 * 4 // 2) * bound // 1_000_000) + 1
    assert affordable_output(terms, 4, 1, ceiling(terms, 4, 8)) == 8
    assert Terms.from_json(terms.to_json()) == terms


def test_a_tier_without_a_factor_changes_nothing() -> None:
    assert TIERED.for_tier("fast") is TIERED
    assert TIERED.for_tier(None) is TIERED
    assert GOLDEN.for_tier("priority") is GOLDEN
    assert "tier" not in GOLDEN.to_json()


@pytest.mark.parametrize("text", ['{"tier:x":[1]}', '{"tier:x":-1}', '{"tier:x":1.5}', '{"tier:x":true}', '{"asked":5}'])
def test_factors_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Terms.from_json(text)
