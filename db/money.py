"""Integer money: nano-USD, prices per million units, multipliers in parts per million. No float, one named rounding."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

NANOS_PER_USD = 1_000_000_000
PPM = 1_000_000
UNITS_PER_PRICE = 1_000_000
MAX_NANOS = 2**62

_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,18})?")


class MoneyError(ValueError):
    """A money, price or multiplier text that cannot be represented exactly."""


def half_up_div(numerator: int, denominator: int) -> int:
    """numerator / denominator for non-negative numerators, rounded half up."""
    if numerator < 0 or denominator <= 0:
        raise MoneyError("half_up_div takes a non-negative numerator and a positive denominator")
    return (2 * numerator + denominator) // (2 * denominator)


def ceil_div(numerator: int, denominator: int) -> int:
    """numerator / denominator for non-negative numerators, rounded up."""
    return -(-numerator // denominator)


def _decimal(text: str, what: str) -> Decimal:
    text = text.strip().removeprefix("$").replace("_", "")
    if not _DECIMAL.fullmatch(text):
        raise MoneyError(f"{what} must be a plain decimal number such as 4.99, not {text[:40]!r}")
    try:
        return Decimal(text)
    except InvalidOperation as error:  # pragma: no cover - the pattern admits only decimals
        raise MoneyError(f"{what} is not a number") from error


def _scaled(text: str, scale: int, what: str) -> int:
    value = _decimal(text, what) * scale
    if value != value.to_integral_value():
        raise MoneyError(f"{what} {text.strip()!r} has more decimal places than can be stored exactly")
    result = int(value)
    if not -MAX_NANOS <= result <= MAX_NANOS:
        raise MoneyError(f"{what} {text.strip()!r} is out of range")
    return result


def parse_usd(text: str) -> int:
    """'4.99' USD → nano-USD. Raises MoneyError for anything that is not exact to the nano-dollar."""
    return _scaled(text, NANOS_PER_USD, "an amount")


def parse_price(text: str, *, per_million: bool) -> int:
    """A price in USD → nano-USD per million units; `per_million` says whether the text is per million or per one unit."""
    price = _scaled(text, NANOS_PER_USD if per_million else NANOS_PER_USD * UNITS_PER_PRICE, "a price")
    if price < 0:
        raise MoneyError("a price must not be negative; 0 makes it free")
    return price


def parse_multiplier(text: str) -> int:
    """'1.25' → 1_250_000 parts per million; 0 … 1000."""
    ppm = _scaled(text, PPM, "a multiplier")
    if not 0 <= ppm <= 1000 * PPM:
        raise MoneyError("a multiplier must be between 0 and 1000")
    return ppm


def _plain(value: int, scale: int) -> str:
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), scale)
    digits = len(str(scale)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def format_usd(nanos: int) -> str:
    """nano-USD → '4.9989875': exact, no exponent, no padding."""
    return _plain(nanos, NANOS_PER_USD)


def format_price(nanos_per_million: int, *, per_million: bool) -> str:
    """A stored price → USD per million units, or per one unit."""
    return _plain(nanos_per_million, NANOS_PER_USD if per_million else NANOS_PER_USD * UNITS_PER_PRICE)


def format_multiplier(ppm: int) -> str:
    """Parts per million → '1.25'."""
    return _plain(ppm, PPM)
