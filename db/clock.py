"""The one clock: integer milliseconds since the epoch, UTC.

Tests may move it: GATEWAYCTL_FAKE_CLOCK names a file that holds a number of seconds to add to the real time
(or `=` and an absolute time in seconds, at which the clock then stands still). Everything that decides by calendar or
expiry reads this clock; durations and leases use the monotonic clock and are not moved.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

FAKE_CLOCK_VARIABLE = "GATEWAYCTL_FAKE_CLOCK"
DAY_MS = 86_400_000

_fake_path = os.environ.get(FAKE_CLOCK_VARIABLE)


def _fake_now_ms(path: str) -> int:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read().strip()
    except FileNotFoundError:
        text = ""
    if text.startswith("="):
        return int(text[1:]) * 1000
    return time.time_ns() // 1_000_000 + int(text or "0") * 1000


def now_ms() -> int:
    """Milliseconds since the epoch."""
    if _fake_path:
        return _fake_now_ms(_fake_path)
    return time.time_ns() // 1_000_000


def is_fake() -> bool:
    """True when a test has taken over the clock."""
    return bool(_fake_path)


def iso(at_ms: int | None) -> str | None:
    """1700000000123 → '2023-11-14T22:13:20.123Z'; None stays None."""
    if at_ms is None:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_of(at_ms: int) -> int:
    """The UTC day as a number of days since the epoch."""
    return at_ms // DAY_MS


def window_start(at_ms: int, period: str) -> int:
    """Start of the UTC calendar day, ISO week (Monday) or month that holds `at_ms`, in milliseconds."""
    day = at_ms // DAY_MS
    if period == "day":
        return day * DAY_MS
    if period == "week":
        return (day - (day + 3) % 7) * DAY_MS  # the epoch was a Thursday
    if period == "month":
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
        first = moment.replace(day=1)
        return (first - datetime(1970, 1, 1, tzinfo=UTC)).days * DAY_MS
    raise ValueError(f"unknown period {period!r}")
