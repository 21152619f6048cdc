"""Rows 17 and 18: SIGTERM during streams, to the daemon, to its group, twice; workers and supervisors that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery, percentile
from tests.faults.oracle import read_books, reading, shown, violations, wait_for_quiet
from tests.faults.scene import Order, Scene, amount
from tests.support.gateway import Gateway
from tests.support.postgres import Server

STREAMS = amount("GATEWAYCTL_TEST_STREAMS", 200)
PIECES, PACE_MS = 10, 200  # 2 s each


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def _wait_dead(pids: list[int], limit_s: float) -> float:
    began = time.monotonic()
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() - began < limit_s, f"{[pid for pid in pids if _alive(pid)]} still run after {limit_s} s"
        time.sleep(0.01)
    return time.monotonic() - began


def _orders(name: str, count: int) -> list[Order]:
    return [Order(f"{name}{number}", pieces=PIECES, pace_ms=PACE_MS) for number in range(count)]


def _checked(scene: Scene, deliveries: list[Delivery]) -> None:
    books = read_books(scene.url)
    costs = {delivery.request_id: Order("", pieces=PIECES).cost for delivery in deliveries}
    found = violations(books, {"customer-0": Decimal(100)}, deliveries, scene.kitchen.seen, costs)
    assert not found, shown(found)


def _send_group(gateway: Gateway) -> None:
    os.killpg(gateway.process.pid, signal.SIGTERM)


def _send_twice(gateway: Gateway) -> None:
    gateway.terminate()
    time.sleep(0.3)
    gateway.terminate()


HOWS: dict[str, Callable[[Gateway], None]] = {
    "to the daemon": Gateway.terminate,
    "to the process group": _send_group,
    "twice": _send_twice,
}


@pytest.mark.parametrize(("how", "workers"), [("to the daemon", 1), ("to the process group", 2), ("twice", 1), ("twice", 2)])
def test_sigterm_lets_running_streams_finish(scene: Scene, how: str, workers: int) -> None:
    with scene.start(workers=workers) as gateway:
        pids = [gateway.process.pid, *gateway.workers()]

        async def run() -> tuple[list[Delivery], list[Delivery], float]:
            key = scene.customers[0].key

            async def ask(order: Order) -> Delivery:
                client = Client(gateway.port, key)
                got = await client.ask(order.body(stream=True), order.id, stream=True)
                client.close()
                return got

            late = [Client(gateway.port, key) for _ in range(10)]  # connections that are open when the stop comes
            for number, client in enumerate(late):
                await client.ask(Order(f"warm{number}").body(stream=False), f"warm{number}", stream=False)
            running = [asyncio.create_task(ask(order)) for order in _orders("t", STREAMS)]
            await _until_seen(scene, STREAMS + 10)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await asyncio.to_thread(HOWS[how], gateway)
            await asyncio.sleep(0.3)
            new = [
                await client.ask(Order(f"new{number}").body(stream=False), f"new{number}", stream=False)
                for number, client in enumerate(late)
            ]
            found = list(await asyncio.gather(*running))
            await asyncio.to_thread(gateway.process.wait, 40)
            return found, new, time.monotonic() - began

        got, new, stopped_s = asyncio.run(run())
        _wait_dead(pids, 1.0)
    figure(
        "17", how=how, workers=workers, streams=len(got), whole=sum(delivery.done for delivery in got),
        exit_code=gateway.process.returncode, stopped_s=stopped_s, longest_stream_s=max(d.latency_s for d in got),
    )  # fmt: skip
    assert gateway.process.returncode == 0
    assert [bytes(delivery.raw)[-300:] for delivery in got if not delivery.done] == []
    assert {delivery.status for delivery in new} <= {503, None}  # told, or the connection was closed
    assert all(delivery.error_code == "shutting_down" for delivery in new if delivery.status)
    assert read_books(scene.url).open_holds == []
    _checked(scene, [*got, *new])


@pytest.mark.parametrize("workers", [1, 2])
def test_streams_longer_than_the_drain_are_cut_told_and_charged(scene: Scene, workers: int) -> None:
    drain_s = 1
    with scene.start(workers=workers, GATEWAYCTL_DRAIN_TIMEOUT_S=str(drain_s)) as gateway:

        async def run() -> tuple[list[Delivery], float]:
            key = scene.customers[0].key
            orders = [Order(f"l{number}", pieces=300, pace_ms=100) for number in range(50)]
            running = [
                asyncio.create_task(Client(gateway.port, key).ask(order.body(stream=True), order.id, stream=True))
                for order in orders
            ]
            silent = Order("silent", delay_ms=30_000)  # nothing was delivered of this one
            running.append(
                asyncio.create_task(Client(gateway.port, key).ask(silent.body(stream=False), silent.id, stream=False))
            )
            await _until_seen(scene, 51)
            await asyncio.sleep(0.5)
            began = time.monotonic()
            gateway.terminate()
            found = list(await asyncio.gather(*running))
            await asyncio.to_thread(gateway.process.wait, 40)
            return found, time.monotonic() - began

        got, stopped_s = asyncio.run(run())
    figure("17", how="longer than the drain", workers=workers, drain_s=drain_s, stopped_s=stopped_s, streams=len(got))
    assert gateway.process.returncode == 0
    assert drain_s <= stopped_s < drain_s + 5
    assert {delivery.error_code for delivery in got} == {"shutting_down"}
    assert read_books(scene.url).open_holds == []
    _checked(scene, got)
    charges = {charge.request_id for charge in read_books(scene.url).charges}
    assert charges == {f"l{number}" for number in range(50)}


def test_a_client_that_reads_nothing_does_not_hold_up_the_stop(scene: Scene) -> None:
    """Its stream is parked in full buffers: cut when the drain is over."""
    drain_s = 1
    with scene.start(GATEWAYCTL_DRAIN_TIMEOUT_S=str(drain_s)) as gateway:

        async def run() -> float:
            order = Order("parked", pieces=200_000)
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
            body = order.body(stream=True, max_tokens=1000)
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {scene.customers[0].key}\r\n"
            writer.write(f"{head}x-request-id: parked\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await reader.readline()
            await asyncio.sleep(1.0)
            began = time.monotonic()
            gateway.terminate()
            await asyncio.to_thread(gateway.process.wait, 40)
            writer.close()
            return time.monotonic() - began

        stopped_s = asyncio.run(run())
    figure("17", how="a client that reads nothing", drain_s=drain_s, stopped_s=stopped_s)
    assert gateway.process.returncode == 0
    assert stopped_s < drain_s + 5
    books = read_books(scene.url)
    assert books.open_holds == []
    assert [charge.request_id for charge in books.charges] == ["parked"]


# ------------------------------------------------------------------------------------------ row 18


def _registered(scene: Scene, pid: int) -> bool:
    with reading(scene.url) as query:
        return query(f"SELECT COUNT(*) FROM processes WHERE pid = {pid} AND ended_at IS NULL") != [(0,)]


async def _until_seen(scene: Scene, count: int) -> None:
    """Until the upstream has seen so many requests."""
    for _ in range(2000):
        if len(scene.kitchen.seen) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the upstream saw {len(scene.kitchen.seen)} of {count} requests")


def _ask_until_end(scene: Scene, gateway: Gateway, act: Callable[[], None]) -> list[Delivery]:
    """Streams on fresh connections, of which some run while `act` does its work, and some come after it."""

    async def run() -> list[Delivery]:
        key = scene.customers[0].key

        async def one(order: Order) -> Delivery:
            return await Client(gateway.port, key, keep=False).ask(order.body(stream=True), order.id, stream=True)

        running = [asyncio.create_task(one(order)) for order in _orders("w", 60)]
        await _until_seen(scene, 60)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(act)
        after = [asyncio.create_task(one(Order(f"after{number}", pieces=PIECES))) for number in range(40)]
        return list(await asyncio.gather(*running, *after))

    return asyncio.run(run())


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_killed_worker_is_replaced_and_the_other_goes_on(
    scene_with: Callable[..., Scene], database: str, request: pytest.FixtureRequest
) -> None:
    url = None
    if database == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        url = server.new_database()
    scene = scene_with(url=url)
    with scene.start(workers=2) as gateway:
        while len(gateway.workers()) < 2:
            time.sleep(0.01)
        first, second = gateway.workers()
        replaced: list[float] = []
        serving: list[float] = []

        def kill() -> None:
            os.kill(first, signal.SIGKILL)
            began = time.monotonic()
            while len([pid for pid in gateway.workers() if pid != first and _alive(pid)]) < 2:
                assert time.monotonic() - began < 10
                time.sleep(0.005)
            replaced.append(time.monotonic() - began)
            [new] = [pid for pid in gateway.workers() if pid not in (first, second)]
            while not _registered(scene, new):
                assert time.monotonic() - began < 20
                time.sleep(0.005)
            serving.append(time.monotonic() - began)

        got = _ask_until_end(scene, gateway, kill)
        quiet_s = wait_for_quiet(scene.url)
        _checked(scene, got)
        assert _alive(second)
        assert len([event for event in gateway.events if event.get("event") == "worker died"]) == 1
        with reading(scene.url) as query:
            owned = query(f"SELECT h.request_id FROM holds h JOIN processes p ON p.id = h.process_id WHERE p.pid = {second}")
        unharmed = {row[0] for row in owned}
        assert gateway.stop() == 0
    whole, latencies = sum(delivery.done for delivery in got[:60]), [delivery.latency_s for delivery in got[60:]]
    figure(
        "18", database=database, killed="worker", replaced_s=replaced[0], serving_s=serving[0], streams=60, whole=whole,
        after=sum(delivery.done for delivery in got[60:]), orphans_closed_s=quiet_s,
        after_p99_s=percentile(latencies, 0.99),
    )  # fmt: skip
    assert replaced[0] <= 1.0
    assert unharmed <= {delivery.request_id for delivery in got if delivery.done}
    assert all(delivery.done for delivery in got[60:])


def test_a_killed_supervisor_leaves_no_orphan(scene: Scene) -> None:
    with scene.start(workers=2) as gateway:
        workers = gateway.workers()
        gone: list[float] = []

        def kill() -> None:
            os.kill(gateway.process.pid, signal.SIGKILL)
            gateway.process.wait(5)
            gone.append(_wait_dead(workers, 10))

        got = _ask_until_end(scene, gateway, kill)
    with scene.start() as gateway:
        wait_for_quiet(scene.url)
        _checked(scene, got[:60])
    told = sum(delivery.error_code == "shutting_down" for delivery in got[:60])
    figure("18", killed="supervisor", orphans_gone_s=gone[0], streams=60, told=told)
    assert gone[0] <= 2.0
