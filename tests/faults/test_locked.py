"""Row 16 and X-02: another program locks the database file. Short locks are waited out, long ones refused, the loop runs on."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery, percentile
from tests.faults.oracle import read_books, shown, violations, wait_for_quiet
from tests.faults.scene import Order, Scene

LOCK_WAIT_S = 5.0
LONG_S = 10.0
SLACK_S = 1.0
NEVER_BLOCKED_S = 0.2

LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.execute("ROLLBACK")
"""
WRITE = """
import sys, time
from db import engine, ledger
engine.open_database(sys.argv[1])
print("ready", flush=True)
end, done, longest = time.monotonic() + float(sys.argv[3]), 0, 0.0
while time.monotonic() < end:
    began = time.monotonic()
    ledger.top_up(sys.argv[2], 1_000_000, ref=f"{sys.argv[4]}-{done}")
    longest = max(longest, time.monotonic() - began)
    done += 1
    time.sleep(0.01)
print(done, longest)
"""


def _process(scene: Scene, program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=scene.home.environment(), stdout=subprocess.PIPE, text=True
    )


@contextlib.contextmanager
def _locked(scene: Scene, seconds: float) -> Iterator[None]:
    """Another program holds the write lock for so long, from now on."""
    locker = _process(scene, LOCK, scene.url.removeprefix("sqlite:///"), str(seconds))
    assert locker.stdout is not None
    assert locker.stdout.readline() == "locked\n"
    try:
        yield
    finally:
        assert locker.wait(seconds + 20) == 0


async def _busy(port: int, key: str, seconds: float, clients: int, name: str) -> list[Delivery]:
    """Whole replies one after the other on each of `clients` connections."""
    end = time.monotonic() + seconds
    found: list[Delivery] = []

    async def one(number: int) -> None:
        client, turn = Client(port, key), 0
        while time.monotonic() < end:
            order = Order(f"{name}{number}-{turn}", pieces=2)
            found.append(await client.ask(order.body(stream=False), order.id, stream=False))
            turn += 1
        client.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    return found


def _no_violation(scene: Scene, deliveries: list[Delivery], topups: Decimal = Decimal(100)) -> None:
    wait_for_quiet(scene.url)
    found = violations(read_books(scene.url), {"customer-0": topups}, deliveries, scene.kitchen.seen)
    assert not found, shown(found)


def test_a_lock_of_a_second_is_waited_out(scene: Scene) -> None:
    with scene.start() as gateway:

        async def run() -> list[Delivery]:
            load = asyncio.create_task(_busy(gateway.port, scene.customers[0].key, 3.0, 20, "w"))
            await asyncio.sleep(0.5)
            with _locked(scene, 1.0):
                return await load

        got = asyncio.run(run())
        _no_violation(scene, got)
    assert {delivery.status for delivery in got} == {200}
    slowest = max(delivery.latency_s for delivery in got)
    figure("16", lock_s=1.0, requests=len(got), errors=0, slowest_s=slowest)
    assert slowest < 1.0 + SLACK_S


def test_a_long_lock_refuses_new_calls_in_time_and_loses_no_settlement(scene: Scene) -> None:
    key = scene.customers[0].key
    ending = [Order(f"s{number}", pieces=20, pace_ms=100) for number in range(20)]  # 2 s: they end inside the lock
    leaving = [Order(f"l{number}", pieces=20, pace_ms=100) for number in range(10)]  # their clients leave inside the lock
    beginning = [Order(f"b{number}", delay_ms=2000) for number in range(10)]  # their first byte comes inside the lock
    whole = [Order(f"h{number}", delay_ms=2000) for number in range(10)]
    with scene.start() as gateway:

        def ask(order: Order, *, stream: bool, leave_after_s: float | None = None) -> asyncio.Task[Delivery]:
            client = Client(gateway.port, key)
            return asyncio.create_task(
                client.ask(order.body(stream=stream), order.id, stream=stream, leave_after_s=leave_after_s)
            )

        async def run() -> tuple[list[Delivery], list[Delivery], float]:
            running = [ask(order, stream=True) for order in [*ending, *beginning]]
            running += [ask(order, stream=False) for order in whole]
            running += [ask(order, stream=True, leave_after_s=1.5) for order in leaving]
            await asyncio.sleep(0.8)
            locker = await asyncio.to_thread(_process, scene, LOCK, scene.url.removeprefix("sqlite:///"), str(LONG_S))
            assert locker.stdout is not None
            await asyncio.to_thread(locker.stdout.readline)
            new = []
            for number in range(40):  # they come while the lock is held, for 7 s
                new.append(ask(Order(f"n{number}"), stream=False))
                await asyncio.sleep(0.175)
            answered = await asyncio.gather(*new)
            await asyncio.to_thread(locker.wait, 20)
            began = time.monotonic()
            while (await ask(Order(f"again{time.monotonic_ns()}"), stream=False)).status != 200:
                assert time.monotonic() - began < 10
            return list(await asyncio.gather(*running)), list(answered), time.monotonic() - began

        ended, answered, resumed_s = asyncio.run(run())
        settled_s = wait_for_quiet(scene.url)
        _no_violation(scene, [*ended, *answered])
        records = {order.id: scene.home.record_of(order.id) for order in [*ending, *leaving, *beginning, *whole]}
        assert gateway.stop() == 0
    refused = [delivery for delivery in [*answered, *ended] if delivery.status == 503]
    figure(
        "16", lock_s=LONG_S, new_calls=len(answered), refused=sum(delivery.status == 503 for delivery in answered),
        wait_p50_s=percentile([d.latency_s for d in answered], 0.5), wait_max_s=max(d.latency_s for d in answered),
        resumed_s=resumed_s, settled_after_s=settled_s, running=len(ended),
        whole=sum(delivery.done for delivery in ended), told=sum(delivery.error_code is not None for delivery in ended),
    )  # fmt: skip
    assert {delivery.status for delivery in answered} <= {200, 503}
    assert all(d.header("retry-after") and d.error_code == "database_unavailable" for d in refused)
    assert max(delivery.latency_s for delivery in answered) < LOCK_WAIT_S + SLACK_S
    assert resumed_s < SLACK_S
    for delivery in ended:  # whole, or told that it is not, or the client left
        assert delivery.done or delivery.error_code or delivery.left, bytes(delivery.raw)[-300:]
    for order in ending:  # the provider had said the true usage, and the text was delivered
        assert (records[order.id]["usage"]["output"], records[order.id]["estimated"]) == (20, False)
    assert {records[order.id]["status"] for order in leaving} == {"client_disconnected"}
    for delivery in ended:
        if delivery.status == 503:  # nothing was delivered
            assert Decimal(records[delivery.request_id]["charged"]) == 0, records[delivery.request_id]


def test_three_writers_and_the_command_line_share_the_database(scene: Scene) -> None:
    seconds = 4.0
    with scene.start() as gateway:
        quiet = asyncio.run(_busy(gateway.port, scene.customers[0].key, 1.5, 8, "q"))
        writers = [_process(scene, WRITE, scene.url, "customer-0", str(seconds), f"w{number}") for number in range(3)]
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        got = asyncio.run(_busy(gateway.port, scene.customers[0].key, seconds, 8, "b"))
        counts, longest = [], 0.0
        for writer in writers:
            out, _ = writer.communicate(timeout=30)
            assert writer.returncode == 0
            counts.append(int(out.split()[0]))
            longest = max(longest, float(out.split()[1]))
        began = time.monotonic()
        command = scene.home.shell("topup", "customer-0", "1", "--ref", "by-hand")
        command_s = time.monotonic() - began
        assert command.code == 0, command.err
        _no_violation(scene, [*quiet, *got], Decimal(101) + sum(counts) * Decimal("0.001"))
    assert {delivery.status for delivery in [*quiet, *got]} == {200}
    figure(
        "16", writers=3, top_ups=sum(counts), top_up_slowest_s=longest, requests=len(got), errors=0,
        quiet_p99_s=percentile([d.latency_s for d in quiet], 0.99), quiet_p50_s=percentile([d.latency_s for d in quiet], 0.5),
        p50_s=percentile([d.latency_s for d in got], 0.5), p99_s=percentile([d.latency_s for d in got], 0.99),
        command_s=command_s,
    )  # fmt: skip
    assert longest < LOCK_WAIT_S


def test_a_lock_of_two_seconds_does_not_delay_the_chunks_of_running_streams(scene: Scene) -> None:
    pace_s = 0.05
    with scene.start() as gateway:

        async def run() -> list[Delivery]:
            orders = [Order(f"x{number}", pieces=80, pace_ms=50) for number in range(10)]
            key = scene.customers[0].key
            streams = [
                asyncio.create_task(Client(gateway.port, key, timed=True).ask(order.body(stream=True), order.id, stream=True))
                for order in orders
            ]
            await asyncio.sleep(1.0)
            locker = await asyncio.to_thread(_process, scene, LOCK, scene.url.removeprefix("sqlite:///"), "2")
            assert locker.stdout is not None
            await asyncio.to_thread(locker.stdout.readline)
            new = [Order(f"y{number}") for number in range(5)]  # they wait for the lock meanwhile
            waiting = [
                asyncio.create_task(Client(gateway.port, key).ask(order.body(stream=False), order.id, stream=False))
                for order in new
            ]
            found = await asyncio.gather(*streams, *waiting)
            await asyncio.to_thread(locker.wait, 20)
            return list(found)

        got = asyncio.run(run())
        _no_violation(scene, got)
    assert [(d.request_id, d.status, bytes(d.raw)[-200:]) for d in got if not d.done] == []
    gaps = [
        after - before
        for delivery in got[:10]
        for before, after in zip(delivery.arrivals[:-2], delivery.arrivals[1:-1], strict=True)
    ]
    figure(
        "X-02", lock_s=2.0, chunks=len(gaps), gap_p50_s=percentile(gaps, 0.5), gap_p99_s=percentile(gaps, 0.99),
        gap_max_s=max(gaps),
    )  # fmt: skip
    assert max(gaps) < pace_s + NEVER_BLOCKED_S
