"""The clock: UTC whatever the machine's zone, windows of the calendar, and a file that moves it in tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
instants = st.timedeltas(timedelta(0), timedelta(days=84_000)).map(lambda passed: EPOCH + passed)


def _ms(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


@pytest.fixture(params=["UTC", "Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kathmandu"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The machine's zone: from UTC+14 to UTC-8."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize(
    ("at", "period", "start"),
    [
        ("2026-11-20T12:00:00", "day", "2026-11-20T00:00:00"),
        ("2026-11-20T00:00:00", "day", "2026-11-20T00:00:00"),
        ("2026-11-20T23:59:59.999", "day", "2026-11-20T00:00:00"),
        ("2026-11-20T12:00:00", "week", "2026-11-16T00:00:00"),  # a Friday
        ("2026-11-16T00:00:00", "week", "2026-11-16T00:00:00"),
        ("2026-11-15T23:59:59.999", "week", "2026-11-09T00:00:00"),
        ("2027-01-01T00:00:00", "week", "2026-12-28T00:00:00"),
        ("2026-11-20T12:00:00", "month", "2026-11-01T00:00:00"),
        ("2026-11-30T23:59:59.999", "month", "2026-11-01T00:00:00"),
        ("2028-02-29T12:00:00", "month", "2028-02-01T00:00:00"),
        ("1970-01-01T00:00:00", "month", "1970-01-01T00:00:00"),
    ],
)
def test_windows_begin_by_the_utc_calendar(at: str, period: str, start: str, zone: str) -> None:
    assert clock.window_start(_ms(at), period) == _ms(start)


@given(instants)
def test_windows_are_those_of_the_calendar(moment: datetime) -> None:
    at = (moment - EPOCH) // timedelta(milliseconds=1)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    starts = {
        "day": midnight,
        "week": midnight - timedelta(days=moment.weekday()),
        "month": midnight.replace(day=1),
    }
    for period, start in starts.items():
        found = clock.window_start(at, period)
        assert found == (start - EPOCH) // timedelta(milliseconds=1)
        assert found <= at
        assert clock.window_start(found, period) == found


def test_there_are_three_periods() -> None:
    with pytest.raises(ValueError, match="year"):
        clock.window_start(0, "year")


def test_now_does_not_depend_on_the_zone(zone: str) -> None:
    assert abs(clock.now_ms() - time.time_ns() // 1_000_000) < 1000
    assert not clock.is_fake()


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (None, None),
    ],
)
def test_instants_are_written_in_utc(at: int | None, text: str | None, zone: str) -> None:
    assert clock.iso(at) == text


@given(instants)
def test_days_are_counted_from_the_epoch(moment: datetime) -> None:
    assert clock.day_of((moment - EPOCH) // timedelta(milliseconds=1)) == (moment.date() - EPOCH.date()).days


@pytest.mark.parametrize(
    ("content", "moved_ms"), [("3600", 3_600_000), ("-31536000\n", -31_536_000_000), ("", 0), ("0", 0), (None, 0)]
)
def test_a_file_moves_the_clock(content: str | None, moved_ms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "clock"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(clock, "_fake_path", str(file))
    assert clock.is_fake()
    assert abs(clock.now_ms() - time.time_ns() // 1_000_000 - moved_ms) < 1000


def test_a_file_stops_the_clock_and_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "clock"
    monkeypatch.setattr(clock, "_fake_path", str(file))
    for second in (1_700_000_000, 5):
        file.write_text(f"={second}")
        assert clock.now_ms() == clock.now_ms() == second * 1000


def test_the_variable_names_the_file(tmp_path: Path) -> None:
    """Read once, at the start of the process: nobody moves a running gateway's clock through its environment."""
    file = tmp_path / "clock"
    file.write_text("=86400")
    code = "from db import clock; print(clock.now_ms(), clock.is_fake())"
    environment = {**os.environ, clock.FAKE_CLOCK_VARIABLE: str(file)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["86400000", "True"]
