"""The harness itself, in a few seconds: counting, checking, ratios, the table. The benchmark is `make bench`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.bench import load, payloads, procs, report, systems, upstream

CHAT_C32 = next(metric for metric in report.METRICS if metric.key == "chat_c32")
ADDED = next(metric for metric in report.METRICS if metric.key == "added_c1")


async def _with_upstream(
    use: Callable[[int], Awaitable[load.Result]], pace_s: float = 0.0005
) -> tuple[load.Result, dict[str, int]]:
    """(what `use(port)` returned, what the upstream says it served)."""
    server = await upstream.serve(0, pace_s)
    port = server.sockets[0].getsockname()[1]
    try:
        result = await use(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /stats HTTP/1.1\r\nhost: x\r\n\r\n")
        stats = json.loads((await reader.readuntil(b"}")).rpartition(b"\r\n\r\n")[2])
        writer.close()
        return result, stats
    finally:
        server.close()


@pytest.mark.parametrize(("mode", "kind"), [("chat", "chat"), ("stream", "stream"), ("paced", "stream")])
def test_every_reply_is_counted_once(mode: str, kind: str) -> None:
    async def use(port: int) -> load.Result:
        return await load.measure(load.Job(port, mode, concurrency=4, seconds=0.5, warmup=0.1))

    result, stats = asyncio.run(_with_upstream(use))
    assert result.errors_total == 0, result.error_samples
    assert 0 < result.replies <= result.replies_total == stats[kind]
    assert result.rate == pytest.approx(result.replies / result.seconds, rel=0.5)
    assert result.latency_ms["p50"] >= result.first_ms.get("p50", 0)
    assert bool(result.first_ms) == (mode != "chat")


@pytest.mark.parametrize("include_usage", [False, True])
def test_a_burst_is_the_paced_stream_in_fewer_writes(include_usage: bool) -> None:
    burst, paced = upstream.BURST[include_usage], upstream.PACED[include_usage]
    assert b"".join(burst) == b"".join(paced)
    assert len(burst) == upstream.BURST_WRITES
    body = load.dechunk(b"".join(paced).partition(b"\r\n\r\n")[2])
    assert body == b"".join(payloads.stream_events(include_usage))
    assert payloads.stream_fault(body) is None


def _http(body: bytes, length: int | None = None, status: str = "200 OK") -> bytes:
    announced = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {announced}\r\n\r\n".encode() + body


GOOD = payloads.chat_body()
BROKEN = {
    "other text": _http(GOOD.replace(b"ledger", b"LEDGER", 1)),
    "other usage": _http(GOOD.replace(b'"completion_tokens":60', b'"completion_tokens":61')),
    "status": _http(GOOD, status="500 Internal Server Error"),
    "too short": _http(GOOD[:-5], len(GOOD)),
    "too long": _http(GOOD + b"more", len(GOOD)),
    "not JSON": _http(b"<html>"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_reply_is_an_error_and_not_a_reply(name: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BROKEN[name])
        await writer.drain()
        writer.close()

    async def go() -> load.Result:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        job = load.Job(server.sockets[0].getsockname()[1], "chat", concurrency=1, seconds=0.2, warmup=0.0, drain=1)
        try:
            return await load.measure(job)
        finally:
            server.close()

    result = asyncio.run(go())
    assert (result.replies_total, result.rate) == (0, 0)
    assert result.errors_total > 0
    assert result.error_samples


def _without_last_word(events: list[bytes]) -> list[bytes]:
    return [event for event in events if payloads.WORDS[-1].encode() not in event]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda events: events[:-1], "no [DONE] at the end"),
        (_without_last_word, "other text than the upstream sent"),
        (lambda events: [e.replace(b'_tokens":200', b'_tokens":201') for e in events], "other usage than the upstream sent"),
        (lambda events: [b": a comment\r\n\r\n", *events], None),
    ],
)
def test_a_stream_must_be_whole(change: Callable[[list[bytes]], list[bytes]], fault: str | None) -> None:
    assert payloads.stream_fault(b"".join(change(payloads.stream_events(True)))) == fault


def test_dechunk_knows_whole_from_partial_and_wrong() -> None:
    assert load.dechunk(b"3\r\nabc\r\n0\r\n\r\n") == b"abc"
    assert load.dechunk(b"3\r\nabc\r\n") is None
    with pytest.raises(ValueError):
        load.dechunk(b"3\r\nabcd\r\n0\r\n\r\n")


def test_quantiles_are_nearest_ranks() -> None:
    found = load.quantiles([n / 1000 for n in range(100, 0, -1)])
    assert found == {"min": 1.0, "p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}
    assert load.quantiles([]) == {}


def _cell(system: str, round_: int, rate: float, p50: float = 1.0, scenario: str = "chat_c32") -> dict[str, Any]:
    cell = {"system": system, "scenario": scenario, "round": round_, "rate": rate, "replies": 10, "errors_total": 0}
    shares = {"core_share": 0.99, "foreign_share": 0.0, "cpu_ms": 0.5, "error_samples": []}
    return cell | shares | {"latency_ms": {"p50": p50, "p99": 2 * p50}, "first_ms": {}}


def test_ratios_are_formed_inside_a_round() -> None:
    # The machine is half as fast in the second round: the ratio of the medians would still say 10.
    cells = [_cell("gateway", 0, 2000), _cell("litellm", 0, 200), _cell("gateway", 1, 1000), _cell("litellm", 1, 100)]
    assert report.ratio(CHAT_C32, "litellm", cells) == 10
    assert report.median(CHAT_C32, "gateway", cells) == 1500
    assert report.ratio(CHAT_C32, "portkey", cells) is None


def test_added_latency_is_over_direct_and_less_is_better() -> None:
    latencies = {"direct": 0.1, "gateway": 1.1, "litellm": 5.1}
    cells = [_cell(name, 0, 1, p50, "chat_c1") for name, p50 in latencies.items()]
    assert report.median(ADDED, "gateway", cells) == pytest.approx(1.0)
    assert report.ratio(ADDED, "litellm", cells) == pytest.approx(5.0)
    assert report.median(ADDED, "direct", cells) is None


def _run() -> dict[str, Any]:
    names = ("direct", "gateway", "litellm", "portkey")
    memory = [{"system": "gateway", "scenario": "memory", "round": 0, "rest": 130.0, "after": 140.0}]
    return {
        "systems": {name: {"title": name.title(), "version": "1", "served": {}} for name in names},
        "skipped": {"portkey": "node and npm are not installed"},
        "cells": [_cell("direct", 0, 40000), _cell("gateway", 0, 2600), _cell("litellm", 0, 200), *memory],
        "machine": {"cpu": "x", "kernel": "6", "python": "3", "filesystem": "ext4", "fdatasync_ms": 0.2},
        "options": {"rounds": 1, "seconds": 2.0},
        "date": "today",
        "command": "python -m tests.bench",
        "billing": [{"ok": True, "found": {"requests": 7, "spent": "0.1"}, "faults": []}],
    }


def test_table_targets_and_warnings() -> None:
    text = report.render(_run())
    row = next(line for line in text.splitlines() if "requests/s" in line and line.startswith("|"))
    assert [part.strip() for part in row.split("|")[2:-1]] == ["40,000", "2,600", "200", "13.0×"]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1
    assert "at least 12 × better than LiteLLM: met, 13.0" in text
    assert "at most 120: NOT met, 130" in text
    assert "Portkey did not take part: node and npm are not installed" in text
    assert "7 requests served, as many charges" in text


def test_the_page_keeps_its_prose(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "performance.md"
    report.write_page(page, "first")
    page.write_text(page.read_text() + "\nby hand\n")
    report.write_page(page, "second")
    text = page.read_text()
    assert "second" in text
    assert "first" not in text.split("## How")[0]
    assert text.endswith("\nby hand\n")


def test_the_bill_of_a_request_is_known() -> None:
    assert systems.cost_usd(payloads.CHAT_USAGE) == Decimal("0.0000396")
    assert systems.cost_usd(payloads.STREAM_USAGE) == Decimal("0.0001236")


class FakeGateway(systems.Gateway):
    """Answers the three commands as a ledger of one chat would."""

    entries = 2

    def cli(self, *arguments: str, secret: str = "") -> str:
        replies: dict[str, dict[str, Any]] = {
            "ledger": {"ok": True, "users": 1, "entries": self.entries, "drift": [], "stale_holds": []},
            "balances": {"balance": "99999.9999604", "held": "0", "available": "99999.9999604"},
            "usage": {"total": {"requests": 1}},
        }
        return json.dumps(replies[arguments[0]])


@pytest.mark.parametrize(("entries", "ok"), [(2, True), (3, False)])
def test_a_figure_needs_one_charge_per_reply(entries: int, ok: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "SETTLED_S", 0)
    gateway = FakeGateway(systems.Place(0, 1, Path()))
    gateway.entries = entries
    gateway.served["chat"] = 1
    assert gateway.verify_billing()["ok"] is ok


def test_two_runs_do_not_share_the_cores(tmp_path: Path) -> None:
    with procs.alone(tmp_path), pytest.raises(procs.Unavailable), procs.alone(tmp_path):
        pass


def test_a_process_is_measured_and_ended(tmp_path: Path) -> None:
    script = "import time\nend=time.time()+0.3\nwhile time.time()<end: pass\nprint('done', flush=True)\ntime.sleep(60)"
    core = procs.two_cores()[0]
    process = procs.Process([sys.executable, "-c", script], core, tmp_path / "log", systems.clean_env(), tmp_path)
    for _ in range(200):
        if "done" in process.log.read_text():
            break
        time.sleep(0.05)
    assert process.cpu_s() >= 0.1
    assert process.rss_mb() > 1
    assert process.last_words() == "done"
    process.stop()
    assert process.popen.poll() is not None
