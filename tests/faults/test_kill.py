"""Row 1: kill -9 of the daemon at random instants under load. What was delivered is charged once, nothing else is."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery, percentile
from tests.faults.oracle import Sampler, read_books, shown, violations, wait_for_quiet
from tests.faults.scene import Customer, Order, Scene, amount
from tests.support.gateway import Gateway
from tests.support.postgres import Server, free_port

KILLS = amount("GATEWAYCTL_TEST_KILLS", 20)
KILLS_POSTGRES = amount("GATEWAYCTL_TEST_KILLS_POSTGRES", 4)
CLIENTS = amount("GATEWAYCTL_TEST_CLIENTS", 200)
PACE_MS = max(30, CLIENTS // 4)  # keeps the chunks a second within what the machine bears
SEED = amount("GATEWAYCTL_TEST_SEED", random.SystemRandom().randrange(2**32))
RESOLVED_LIMIT_S = 5.0


class Load:
    """Clients that ask without a pause, half of them for streams, until their connection breaks."""

    def __init__(self, customers: list[Customer], port: int, dice: random.Random, cycle: int) -> None:
        self.customers, self.port, self.dice, self.cycle = customers, port, dice, cycle
        self.deliveries: list[Delivery] = []
        self.costs: dict[str, Decimal] = {}
        self.over = threading.Event()  # the last kill of the cycle has come

    async def run(self, clients: int) -> None:
        await asyncio.gather(*(self._client(number) for number in range(clients)))

    async def _client(self, number: int) -> None:
        customer = self.customers[number % len(self.customers)]
        client = Client(self.port, customer.key)
        for turn in range(1000):
            order = self._order(f"k{self.cycle}-{number}-{turn}")
            stream = number % 2 == 0
            if order.usage:
                self.costs[order.id] = order.cost
            got = await client.ask(order.body(stream=stream), order.id, stream=stream)
            if got.refused:
                if self.over.is_set():
                    return
                await asyncio.sleep(0.02)
                continue
            self.deliveries.append(got)
            if not got.complete and self.over.is_set():
                return
            if got.status != 200:
                await asyncio.sleep(0.05)

    def _order(self, name: str) -> Order:
        dice = self.dice
        return Order(
            name,
            pieces=dice.choice((1, 5, 20, 40)),
            delay_ms=dice.choice((0, 0, 20, 200)),
            pace_ms=dice.choice((0, 1, 1)) * PACE_MS,
            fault=dice.choice(("", "", "", "", "", "", "", "reset", "refuse_500", "refuse_400")),
            fault_at=dice.randrange(5),
            usage=dice.random() < 0.9,
        )


class Unwaited(Gateway):
    """A daemon that is not waited for: it may be killed while it starts."""

    def _wait(self) -> None:
        pass


def _kills(scene: Scene, gateway: Gateway, delays_s: list[float], over: threading.Event) -> None:
    """Kill the daemon after the first delay; start the next one and kill that too, as often as there are delays."""
    for number, delay_s in enumerate(delays_s):
        if number:
            gateway = Unwaited(scene.home, workers=1, env={}, port=gateway.port)
        time.sleep(delay_s)
        if number == len(delays_s) - 1:
            over.set()
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(10)
        gateway.kill()


def _storm(scene: Scene, kills: int) -> None:
    dice = random.Random(SEED)
    port = free_port()
    print(f"\nseed {SEED}: {kills} kills, {CLIENTS} clients")
    ready: list[float] = []
    resolved: list[float] = []
    done = requests = broken = partial = 0
    topups = {customer.name: sum(customer.topups, Decimal(0)) for customer in scene.customers}
    with Sampler(scene.url) as sampler:
        gateway = scene.start(port=port)
        while done < kills:
            load = Load(scene.customers, port, dice, done)
            delays_s = [dice.uniform(0.02, max(1.2, CLIENTS / 300))]  # a large crowd takes its time to arrive
            if dice.random() < 0.25:
                delays_s.append(dice.uniform(0.05, 2.0))  # while the next one starts or recovers
            killer = threading.Thread(target=_kills, args=(scene, gateway, delays_s, load.over))
            killer.start()
            asyncio.run(load.run(CLIENTS))
            killer.join()
            done += len(delays_s)
            began = time.monotonic()
            gateway = scene.start(port=port)
            ready.append(time.monotonic() - began)
            wait_for_quiet(scene.url, RESOLVED_LIMIT_S)
            resolved.append(time.monotonic() - began)
            found = violations(read_books(scene.url), topups, load.deliveries, scene.kitchen.seen, load.costs)
            assert not found, f"seed {SEED}, kill {done}: {shown(found)}"
            requests += len(load.deliveries)
            broken += sum(not delivery.complete for delivery in load.deliveries)
            partial += sum(not delivery.complete and delivery.output_bytes > 0 for delivery in load.deliveries)
        assert gateway.stop() == 0
    assert not sampler.violations()
    verified = scene.home.json("ledger", "verify")
    assert verified["ok"], verified
    assert partial, "the kills hit nothing"
    figure(
        "1", database=scene.url.partition(":")[0], seed=SEED, kills=done, clients=CLIENTS, requests=requests, broken=broken,
        partial=partial, violations=0, samples=sampler.samples, ready_p50_s=percentile(ready, 0.5), ready_max_s=max(ready),
        resolved_p50_s=percentile(resolved, 0.5), resolved_max_s=max(resolved),
    )  # fmt: skip


def test_kill_9_at_random_instants_loses_and_doubles_nothing(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(balances=("100000", "100000", "100000", "0.3"))
    _storm(scene, KILLS)


@pytest.mark.skipif(KILLS_POSTGRES == 0, reason="switched off")
def test_kill_9_over_postgresql_loses_and_doubles_nothing(scene_with: Callable[..., Scene], postgres: Server) -> None:
    scene = scene_with(balances=("100000", "100000", "100000", "0.3"), url=postgres.new_database())
    _storm(scene, KILLS_POSTGRES)
