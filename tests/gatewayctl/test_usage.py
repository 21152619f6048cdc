"""Usage adds up, is divided without loss, explains each price, and leaves as a file."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from db import clock, engine
from tests.support import records
from tests.support.cli import Gateway
from tests.support.records import DAY, HOUR

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LOG_KEYS = [
    "request_id", "at", "user", "key_id", "provider", "model", "served_model", "endpoint", "stream", "status",
    "http_status", "usage", "cost", "upstream_cost", "charged", "estimated", "cached", "latency_ms", "ttft_ms",
    "error_code",
]  # fmt: skip


@pytest.fixture
def used(gateway: Gateway) -> Iterator[Gateway]:
    """alice asked four times with two keys, bob once, over the last three days. The database stays open for the test."""
    engine.open_database(str(gateway.url))
    now = clock.now_ms()
    alice, bob = records.user("alice"), records.user("bob")
    laptop, ci, robot = records.key(alice, "laptop"), records.key(alice, "ci"), records.key(bob, "robot")
    known = {"provider_id": records.provider("openai"), "model_id": records.model("gpt-4o-mini"), "latency_ms": 200}
    records.usage(now - 5, user_id=alice, key_id=laptop, cost=18_000, request_id="newest", stream=True, ttft_ms=20, **known)
    records.usage(now - 10, user_id=alice, key_id=laptop, cost=18_000, charged=10_000, estimated=True, **known)
    records.usage(now - DAY, user_id=alice, key_id=ci, cost=18_000, **known)
    records.usage(
        now - 2 * DAY, user_id=alice, key_id=ci, status="error", http_status=502, error_code="upstream_error", **known
    )
    records.usage(now - 40 * DAY, user_id=bob, key_id=robot, cost=1_000_000_000, request_id="oldest", **known)
    yield gateway
    engine.close_connection()


def test_summary_adds_up(used: Gateway) -> None:
    found = used.json("usage", "summary", "--since", "7d")
    assert (found["requests"], found["errors"], found["estimated"]) == (4, 1, 1)
    assert (found["cost"], found["charged"], found["absorbed"]) == ("0.000054", "0.000046", "0.000008")
    assert (found["input_tokens"], found["output_tokens"]) == (40, 20)
    assert (found["latency_p50_ms"], found["latency_p95_ms"]) == (200, 200)
    assert sum(day["requests"] for day in found["days"]) == 4
    assert used.json("usage", "summary", "--since", "all")["requests"] == 5
    assert used.ok("usage", "summary").lines[2].split() == ["requests", "4"]


@SQLITE
def test_an_empty_gateway_has_no_usage(gateway: Gateway) -> None:
    assert gateway.json("usage", "summary")["requests"] == 0
    assert gateway.json("usage", "summary")["latency_p95_ms"] is None
    assert gateway.json("usage", "by", "model") == []
    assert gateway.json("usage", "log") == []
    assert gateway.ok("usage", "log").out == ""


def test_timeline_has_no_gaps(used: Gateway) -> None:
    days = used.json("usage", "timeline", "--since", "2026-01-01", "--until", "1d")
    assert [int(day["at"][8:10]) for day in days[:3]] == [1, 2, 3]
    hours = used.json("usage", "timeline", "--by", "hour", "--since", "3h")
    assert len(hours) in (3, 4)
    assert sum(hour["requests"] for hour in hours) == 2


def test_by_key_tells_the_keys_of_one_user_apart(used: Gateway) -> None:
    found = {row["key"]: row for row in used.json("usage", "by", "key")}
    assert {name: (row["requests"], row["errors"], row["charged"]) for name, row in found.items()} == {
        "alice/laptop": (2, 0, "0.000028"),
        "alice/ci": (2, 1, "0.000018"),
    }
    assert all(row["last_used_at"].endswith("Z") and row["key_id"].isdecimal() for row in found.values())


@SQLITE
@pytest.mark.parametrize(
    ("dimension", "name"), [("model", "gpt-4o-mini"), ("user", "alice"), ("provider", "openai"), ("group", "(no group)")]
)
def test_by_every_dimension(used: Gateway, dimension: str, name: str) -> None:
    [row] = used.json("usage", "by", dimension)
    assert (row[dimension], row["requests"]) == (name, 4)
    assert used.ok("usage", "by", dimension, "--quiet").lines == [name]


@SQLITE
def test_names_that_do_not_exist_are_not_found(used: Gateway) -> None:
    for option in ("--user", "--key", "--model", "--provider"):
        assert used.run("usage", "summary", option, "nobody").code == 3
    assert used.run("usage", "by", "planet").code == 2
    assert used.run("usage", "log", "--status", "fine").code == 2
    assert used.run("usage", "summary", "--since", "1d", "--until", "2d").code == 2
    assert used.run("usage", "show", "nothing").code == 3


def test_log_has_the_keys_that_scripts_rely_on(used: Gateway) -> None:
    found = used.json("usage", "log", "--user", "alice", "--limit", "3")
    assert [list(row)[: len(LOG_KEYS)] for row in found] == [LOG_KEYS] * 3
    newest = found[0]
    assert newest["request_id"] == "newest"
    assert newest["usage"] == {"input": 10, "output": 5}
    assert (newest["cost"], newest["charged"], newest["provider"], newest["stream"]) == ("0.000018", "0.000018", "openai", True)
    assert isinstance(newest["key_id"], str)
    assert newest["at"].endswith("Z")


@SQLITE
def test_log_finds_one_request_and_one_key(used: Gateway) -> None:
    [row] = used.json("usage", "log", "--request-id", "oldest")
    assert row["user"] == "bob"
    assert [row["request_id"] for row in used.json("usage", "log", "--key", row["key_id"])] == ["oldest"]
    assert [row["error_code"] for row in used.json("usage", "log", "--status", "error")] == ["upstream_error"]
    assert len(used.ok("usage", "log", "--since", "30d").lines) == 5  # with the header


@SQLITE
def test_show_makes_the_price_up_from_the_terms_of_the_record(used: Gateway) -> None:
    found = used.json("usage", "show", "newest")
    assert found["lines"] == [
        {"meter": "input", "count": 10, "price": "0.6", "unit": "per 1M tokens", "multiplier": "1", "amount": "0.000006"},
        {"meter": "output", "count": 5, "price": "2.4", "unit": "per 1M tokens", "multiplier": "1", "amount": "0.000012"},
    ]
    assert found["lines_cost"] == found["cost"] == "0.000018"
    assert "per 1M tokens" in used.ok("usage", "show", "newest").out


@SQLITE
def test_show_multiplies_exactly(used: Gateway) -> None:
    """The worked example: 25 in, 50 out at 2.5/10, user 1.2, model 1.5 → 0.0010125."""
    terms = {
        "input": [2_500_000_000, 1_200_000, 1_000_000, 1_500_000],
        "output": [10_000_000_000, 1_200_000, 1_000_000, 1_500_000],
    }
    records.usage(
        clock.now_ms(),
        cost=1_012_500,
        request_id="worked",
        usage=json.dumps({"input": 25, "output": 50}),
        terms=json.dumps(terms),
    )
    found = used.json("usage", "show", "worked")
    assert found["lines_cost"] == "0.0010125"
    assert {line["multiplier"] for line in found["lines"]} == {"1.8"}


@SQLITE
def test_csv_is_exact_and_runs_no_formula(used: Gateway, tmp_path: Path) -> None:
    records.usage(clock.now_ms(), user_id=1, cost=1, requested_model='=HYPERLINK("http://x")', request_id="formula")
    target = tmp_path / "usage.csv"
    done = used.ok("usage", "export", "--since", "all", "--output", str(target))
    assert "6" in done.err
    rows = list(csv.DictReader(io.StringIO(target.read_text())))
    assert rows[0]["request_id"] == "oldest"
    assert rows[0]["cost"] == "1"
    assert rows[-1]["model"] == '\'=HYPERLINK("http://x")'
    assert sum(Decimal(row["charged"]) for row in rows) == Decimal("1.000046001")
    assert rows[1]["usage_input"] == "10"
    assert rows[1]["latency_ms"] == "200"
    assert not list(tmp_path.glob("*.part"))


@SQLITE
def test_an_empty_csv_has_its_header(gateway: Gateway, tmp_path: Path) -> None:
    gateway.ok("usage", "export", "--output", str(tmp_path / "x"))
    assert (tmp_path / "x").read_text().startswith("request_id,at,user,")


@SQLITE
def test_jsonl_has_the_rows_of_the_log(used: Gateway, tmp_path: Path) -> None:
    target = tmp_path / "usage.jsonl"
    used.ok("usage", "export", "--format", "jsonl", "--output", str(target))
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert rows[::-1] == used.json("usage", "log", "--since", "30d")


@SQLITE
def test_export_to_stdout_is_nothing_but_rows(used: Gateway) -> None:
    done = _subprocess(used, "usage", "export", "--format", "csv")
    assert len(list(csv.reader(io.StringIO(done.stdout)))) == 5
    assert done.stderr == "Requests written: 4\n"


def _subprocess(gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gatewayctl", "--db", str(gateway.url), *arguments],
        env={"GATEWAYCTL_HOME": str(gateway.home)},
        capture_output=True,
        text=True,
        check=True,
    )


@SQLITE
def test_parquet_without_pyarrow_says_what_to_install(used: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = used.run("usage", "export", "--format", "parquet", "--output", str(tmp_path / "x"))
    assert result.code == 1
    assert "gatewayctl[parquet]" in result.err
    assert not (tmp_path / "x").exists()


@SQLITE
def test_parquet_has_exact_amounts_and_real_times(used: Gateway, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    target = tmp_path / "usage.parquet"
    used.ok("usage", "export", "--format", "parquet", "--since", "all", "--output", str(target))
    rows = importlib.import_module("pyarrow.parquet").read_table(target).to_pylist()
    assert rows[0]["cost"] == Decimal(1)
    assert rows[-1]["cost"] == Decimal("0.000018")
    assert rows[-1]["at"].tzinfo is not None
    assert rows[-1]["stream"] is True


@SQLITE
def test_export_refuses_what_cannot_work(used: Gateway, tmp_path: Path) -> None:
    assert used.run("usage", "export", "--json").code == 2
    assert used.run("usage", "export", "--output", str(tmp_path / "nowhere" / "x")).code == 2
    assert used.run("usage", "export", "--format", "xml").code == 2


def test_follow_shows_what_comes(used: Gateway) -> None:
    """In another process, as the daemon would write it while a person watches."""
    command = [
        sys.executable,
        "-m",
        "gatewayctl",
        "--db",
        str(used.url),
        "usage",
        "log",
        "--follow",
        "--for",
        "4s",
        "--limit",
        "1",
    ]
    watcher = subprocess.Popen([*command, "--json"], env={"GATEWAYCTL_HOME": str(used.home)}, stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(watcher.stdout.readline, "")))  # type: ignore[union-attr]
    reader.start()
    try:
        _until(lambda: len(lines) == 1)
        records.usage(clock.now_ms(), request_id="came")
        _until(lambda: len(lines) == 2)
    finally:
        watcher.terminate()
        watcher.wait()
        reader.join()
        watcher.stdout.close()
    assert [json.loads(line)["request_id"] for line in lines] == ["newest", "came"]


def _until(done: object, limit_s: float = 4.0) -> None:
    deadline = time.monotonic() + limit_s
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@SQLITE
def test_plots_appear_only_on_a_terminal(used: Gateway) -> None:
    shown = _on_terminal(used, "usage", "summary", "--since", "7d")
    assert "Charged, USD per day" in shown
    assert "█" in shown
    assert "█" in _on_terminal(used, "usage", "by", "key")
    assert "┤" in _on_terminal(used, "usage", "timeline", "--by", "hour")
    assert "█" not in used.ok("usage", "summary", "--since", "7d").out


def _on_terminal(gateway: Gateway, *arguments: str) -> str:
    """What a person sees on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "gatewayctl", "--db", str(gateway.url), *arguments],
        env={"GATEWAYCTL_HOME": str(gateway.home), "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts).decode()


@SQLITE
def test_an_hour_of_the_log_is_found_by_its_time(used: Gateway) -> None:
    at = clock.now_ms() - 100 * DAY
    records.usage(at, request_id="then")
    since, until = clock.iso(at - HOUR), clock.iso(at + HOUR)
    assert [row["request_id"] for row in used.json("usage", "log", "--since", str(since), "--until", str(until))] == ["then"]
