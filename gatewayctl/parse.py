"""Texts of the command line as values: durations, instants, NAME=VALUE, rates, secrets from elsewhere."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from db import money
from gatewayctl.errors import Usage

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION = re.compile(r"(\d{1,6})([smhdw])")
MAX_SECRET_BYTES = 64 * 1024


def duration_s(text: str) -> int:
    """'10m' → 600 seconds; units s m h d w."""
    match = _DURATION.fullmatch(text.strip().lower())
    if not match:
        raise Usage(f"{text!r} is not a duration", "Examples: 30s, 10m, 24h, 30d, 2w")
    return int(match[1]) * _UNITS_S[match[2]]


def instant_ms(text: str, now_ms: int, *, past: bool) -> int:
    """A duration from now (back from now when `past`) or an ISO 8601 date or time (UTC by default) → epoch ms."""
    if _DURATION.fullmatch(text.strip().lower()):
        return now_ms + (-1 if past else 1) * duration_s(text) * 1000
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Usage(
            f"{text!r} is neither a duration nor a date",
            "Examples: 24h, 7d, 2026-01-31, 2026-01-31T12:00:00Z",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def expiry_ms(text: str | None, now_ms: int) -> int | None:
    """'30d' | DATE | 'never' → epoch ms or None; an instant that is over is refused."""
    if text is None or text.strip().lower() == "never":
        return None
    at = instant_ms(text, now_ms, past=False)
    if at <= now_ms:
        raise Usage(f"{text!r} is in the past", "Examples: 30d, 2030-12-31, never")
    return at


def per_day(text: str) -> int:
    """'200/day' or '200' → 200."""
    number, _, unit = text.strip().partition("/")
    if not number.isdecimal() or unit not in {"", "day", "d"}:
        raise Usage(f"{text!r} is not a daily number", "Example: 200/day")
    return int(number)


def allowance(limit: str | None, throttle: str | None, *, removable: bool) -> dict[str, int | None]:
    """'200/day' (or 'none', when removable) and '10m' → the fields of a fair-use allowance that were given."""
    fields: dict[str, int | None] = {}
    if limit is not None:
        fields["fair_use_limit"] = None if removable and limit.strip().lower() == "none" else per_day(limit)
    if throttle is not None:
        fields["fair_use_throttle_s"] = duration_s(throttle)
    return fields


def pairs(items: Iterable[str], what: str) -> dict[str, str]:
    """['a=1', 'b=2'] → {'a': '1', 'b': '2'}."""
    found: dict[str, str] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise Usage(f"{what} {item!r} is not of the form NAME=VALUE", f"Example: {what} name=value")
        found[name.strip()] = value.strip()
    return found


def secret(from_env: str | None, from_file: str | None) -> str:
    """The secret that a variable or a file ('-': stdin) holds, without space around it. Exactly one source."""
    if (from_env is None) == (from_file is None):
        raise Usage("Give exactly one of --from-env VAR and --from-file PATH", "Secrets never stand in arguments")
    if from_env is not None:
        value, where = os.environ.get(from_env, ""), f"The variable {from_env}"
    elif from_file == "-":
        value, where = sys.stdin.read(MAX_SECRET_BYTES + 1), "Standard input"
    else:
        where = f"The file {from_file}"
        try:
            value = Path(str(from_file)).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"{where} cannot be read", "Give a text file, or - for standard input") from error
    value = value.strip()
    if not value:
        raise Usage(f"{where} is empty", "Put the secret there first")
    if len(value) > MAX_SECRET_BYTES or not value.isprintable():
        raise Usage(f"{where} holds more than one line or is too long", "It must hold the secret only")
    return value


def optional_number(text: str) -> int | None:
    """'none' or 0 → None, else a whole number."""
    if text.strip().lower() in {"none", "unlimited", "off"}:
        return None
    if not text.strip().isdecimal():
        raise Usage(f"{text!r} is not a whole number", "Give a number, or none to remove the limit")
    return int(text) or None


def optional_usd(text: str) -> int | None:
    """'none' → None, else USD as nano-USD."""
    return None if text.strip().lower() in {"none", "unlimited", "off"} else money.parse_usd(text)


def timeout_ms(text: str) -> int:
    """Seconds ('2.5') or a duration ('10m') → ms."""
    if _DURATION.fullmatch(text.strip().lower()):
        return duration_s(text) * 1000
    try:
        return int(Decimal(text) * 1000)
    except (ArithmeticError, ValueError):
        raise Usage(f"{text!r} is not a time in seconds", "Examples: 5, 2.5, 10m") from None


def changes(**given: tuple[Any, Callable[[Any], Any] | None]) -> dict[str, Any]:
    """name=(value, convert): the fields whose value was given (is not None), converted."""
    return {
        name: convert(value) if convert is not None else value for name, (value, convert) in given.items() if value is not None
    }
