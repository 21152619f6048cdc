"""Row 24: two hundred calls at once, a balance for three. Exactly three reach the provider, on one database or the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery, percentile
from tests.faults.oracle import NANOS, Sampler, read_books, reading, shown, violations, wait_for_quiet
from tests.faults.scene import INPUT_USD, OUTPUT_USD, Order, Scene, amount
from tests.support.postgres import Server

RUNS = amount("GATEWAYCTL_TEST_OVERSPEND_RUNS", 5)
AT_ONCE = 200
AFFORDED = 3


def _order(run: int, number: int) -> Order:
    return Order(f"o{run:03}-{number:03}", pieces=20)


def _hold_usd(order: Order, *, stream: bool) -> Decimal:
    """What is held for it: a token a byte of the body, and the output limit."""
    return (len(order.body(stream=stream)) * INPUT_USD + order.pieces * OUTPUT_USD) / 1_000_000


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_no_crowd_spends_more_than_there_is(
    scene_with: Callable[..., Scene], database: str, request: pytest.FixtureRequest
) -> None:
    url = None
    if database == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        url = server.new_database()
    scene = scene_with(url=url)
    price = _hold_usd(_order(0, 0), stream=False)
    customers = [scene.customer(f"poor-{run}", str(price * AFFORDED)) for run in range(RUNS)]
    waits: list[float] = []
    deliveries: list[Delivery] = []
    with Sampler(scene.url) as sampler, scene.start(workers=2) as gateway:
        for run, customer in enumerate(customers):
            gate = scene.kitchen.gate = threading.Event()

            async def crowd(run: int = run, key: str = customer.key, gate: threading.Event = gate) -> list[Delivery]:
                clients = [Client(gateway.port, key, keep=False) for _ in range(AT_ONCE)]
                orders = [_order(run, number) for number in range(AT_ONCE)]
                asking = [
                    asyncio.create_task(client.ask(order.body(stream=False), order.id, stream=False))
                    for client, order in zip(clients, orders, strict=True)
                ]
                # The provider answers when the rest is refused: what is settled early would pay for more requests.
                for number, refusal in enumerate(asyncio.as_completed(asking)):
                    await refusal
                    if number == AT_ONCE - AFFORDED - 1:
                        gate.set()
                return [task.result() for task in asking]

            got = asyncio.run(crowd())
            deliveries += got
            served = [delivery for delivery in got if delivery.status == 200]
            refused = [delivery for delivery in got if delivery.status == 402]
            assert (len(served), len(refused)) == (AFFORDED, AT_ONCE - AFFORDED), {delivery.status for delivery in got}
            assert sum(name.startswith(f"o{run:03}-") for name in scene.kitchen.seen) == AFFORDED
            assert {delivery.error_code for delivery in refused} == {"insufficient_balance"}
            assert {delivery.header("x-should-retry") for delivery in refused} == {"false"}
            waits += [delivery.latency_s for delivery in refused]
        wait_for_quiet(scene.url)
        books = read_books(scene.url)
        found = violations(
            books, {customer.name: price * AFFORDED for customer in customers}, deliveries, scene.kitchen.seen,
            {delivery.request_id: _order(0, 0).cost for delivery in deliveries},
        )  # fmt: skip
        assert not found, shown(found)
        with reading(scene.url) as query:
            [(least, most)] = query("SELECT MIN(amount_nanos), MAX(amount_nanos) FROM holds")
        assert least == most == int(price * NANOS)  # the hold is what this test takes it for
        # One after the other, without the crowd's own queue: what a refusal takes by itself.
        alone = asyncio.run(_one_by_one(gateway.port, customers[0].key))
    assert not sampler.violations()
    figure(
        "24", database=database, runs=RUNS, at_once=AT_ONCE, afforded=AFFORDED, overspent=0, samples=sampler.samples,
        refusal_p50_s=percentile(waits, 0.5), refusal_p99_s=percentile(waits, 0.99),
        alone_p50_s=percentile(alone, 0.5), alone_p99_s=percentile(alone, 0.99),
    )  # fmt: skip


async def _one_by_one(port: int, key: str) -> list[float]:
    client, found = Client(port, key), []
    for number in range(100):
        order = Order(f"alone-{number}", pieces=2000)
        got = await client.ask(order.body(stream=False), order.id, stream=False)
        assert got.status == 402
        found.append(got.latency_s)
    client.close()
    return found
