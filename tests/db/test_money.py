"""Money: what is written is what is stored, to the nano-dollar, and there is one rounding."""

from __future__ import annotations

import ast
import contextlib
import inspect
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import meters, money
from db.money import MAX_NANOS, NANOS_PER_USD, PPM, MoneyError

nanos = st.integers(-MAX_NANOS, MAX_NANOS)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("4.99", 4_990_000_000),
        ("$4.99", 4_990_000_000),
        (" 12 ", 12_000_000_000),
        ("0", 0),
        ("-0", 0),
        ("-1.5", -1_500_000_000),
        ("+1.5", 1_500_000_000),
        ("1_000", 1_000_000_000_000),
        ("0.000000001", 1),
        ("0.100000000000000000", 100_000_000),
        ("4611686018.427387904", MAX_NANOS),
    ],
)
def test_an_amount_is_read(text: str, amount: int) -> None:
    assert money.parse_usd(text) == amount


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", ".", "1.", ".5", "1e3", "1,5", "1.5.5", "NaN", "nan", "inf", "-Infinity", "0x10", "1 000", "1$", "$",
        "--1", "0.0000000001", "4611686018.427387905", "9999999999999", "1" * 5000, "0." + "0" * 19, "٣", "4٫99", "１", "½",
        "1\n2", "1\x00",
    ],
)  # fmt: skip
def test_what_is_not_exactly_an_amount_is_refused(text: str) -> None:
    with pytest.raises(MoneyError):
        money.parse_usd(text)


@given(nanos)
def test_an_amount_comes_back_as_it_went(amount: int) -> None:
    text = money.format_usd(amount)
    assert money.parse_usd(text) == amount
    assert Decimal(text) * NANOS_PER_USD == amount
    assert "e" not in text.lower()
    assert "." not in text or not text.endswith(("0", "."))


@given(st.from_regex(r"[+-]?[0-9]{1,12}(\.[0-9]{1,18})?", fullmatch=True))
def test_an_amount_is_exact_or_refused(text: str) -> None:
    exact = Fraction(text) * NANOS_PER_USD
    fits = exact.denominator == 1 and abs(exact) <= MAX_NANOS
    try:
        assert money.parse_usd(text) == exact
    except MoneyError:
        assert not fits
    else:
        assert fits


@given(st.text(max_size=30))
def test_no_text_does_harm(text: str) -> None:
    for parse in (money.parse_usd, money.parse_multiplier, lambda text: money.parse_price(text, per_million=True)):
        with contextlib.suppress(MoneyError):
            assert abs(parse(text)) <= MAX_NANOS


@pytest.mark.parametrize(
    ("meter", "text", "price"),
    [
        ("input", "0.15", 150_000_000),
        ("output", "0.60", 600_000_000),
        ("input", "0.000000001", 1),
        ("image", "0.04", 40_000_000_000_000),
        ("second", "0.0001", 100_000_000_000),
        ("request", "0.000000000000001", 1),
        ("input", "0", 0),
    ],
)
def test_a_price_is_stored_per_million_units(meter: str, text: str, price: int) -> None:
    assert meters.parse_price(meter, text) == price
    assert Decimal(meters.format_price(meter, price)) == Decimal(text)


@pytest.mark.parametrize("text", ["-0.1", "NaN", "", "0.0000000001"])
def test_a_price_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MoneyError):
        money.parse_price(text, per_million=True)


@given(st.integers(0, MAX_NANOS), st.booleans())
def test_a_price_comes_back_as_it_went(price: int, per_million: bool) -> None:
    assert money.parse_price(money.format_price(price, per_million=per_million), per_million=per_million) == price


@pytest.mark.parametrize(("text", "ppm"), [("1", PPM), ("1.25", 1_250_000), ("0", 0), ("1000", 1000 * PPM), ("0.000001", 1)])
def test_a_multiplier_is_stored_in_parts_per_million(text: str, ppm: int) -> None:
    assert money.parse_multiplier(text) == ppm
    assert money.format_multiplier(ppm) == text


@pytest.mark.parametrize("text", ["-1", "1000.000001", "0.0000001", "NaN", "inf", "", "1x"])
def test_a_multiplier_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MoneyError):
        money.parse_multiplier(text)


@given(st.integers(0, 2**200), st.integers(1, 2**80))
def test_the_rounding_is_half_up(numerator: int, denominator: int) -> None:
    quotient = money.half_up_div(numerator, denominator)
    assert abs(Fraction(numerator, denominator) - quotient) <= Fraction(1, 2)
    assert Fraction(numerator, denominator) - quotient != Fraction(1, 2), "a half goes up"


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_the_roundings_are_those_of_decimal(numerator: int, denominator: int) -> None:
    """Divisors of powers of ten, where Decimal is exact."""
    denominator = 2 ** (denominator % 10) * 5 ** (denominator % 7)
    exact = Decimal(numerator) / Decimal(denominator)
    assert money.half_up_div(numerator, denominator) == exact.to_integral_value(ROUND_HALF_UP)
    assert money.ceil_div(numerator, denominator) == exact.to_integral_value(ROUND_CEILING)


@pytest.mark.parametrize(("numerator", "denominator"), [(-1, 2), (1, 0), (1, -2)])
def test_the_rounding_knows_its_limits(numerator: int, denominator: int) -> None:
    with pytest.raises(MoneyError):
        money.half_up_div(numerator, denominator)


def test_there_is_no_float_in_it() -> None:
    tree = ast.parse(inspect.getsource(money))
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not any(isinstance(number, float) for number in numbers)
    assert not names & {"float", "round"}
    assert not any(isinstance(node, ast.Div) for node in ast.walk(tree))
