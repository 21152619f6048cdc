"""Rows 6 and 7 for many: outages of a credential or a provider while clients run, and what they notice of it.

Each scene has a model that two providers serve alike. A few clients ask all the time, whole replies and streams in turn; after
a while one provider (or one of its credentials) fails in some way. Its attempts are counted from the usage records. With the
default of some seconds no breaker tries again; GATEWAYCTL_TEST_OUTAGE_S=65 shows a whole minute.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery
from tests.faults.oracle import read_books, reading, shown, violations, wait_for_quiet
from tests.faults.scene import MODEL, Kitchen, Order, Scene, amount
from tests.support import upstream as up
from tests.support.gateway import Gateway
from tests.support.upstream import Received, ScriptedUpstream

OUTAGE_S = amount("GATEWAYCTL_TEST_OUTAGE_S", 4)
SEED = amount("GATEWAYCTL_TEST_SEED", random.SystemRandom().randrange(2**32))
HEALTHY_S = 1.0
CLIENTS = 3  # what is under way when an outage begins is lost, however many that are
MOST_ATTEMPTS_A_MINUTE = 4
PAUSE_S = 0.02  # between two requests of a client
SHORT = ("--first-byte-timeout", "1", "--read-timeout", "1", "--connect-timeout", "1")


@dataclass
class Outage:
    """What happens to the first provider. `visible`: what clients may notice of it, at most so many failures."""

    name: str
    begin: Callable[[ScriptedUpstream, Kitchen], None]
    visible: int = 0
    attempts: int | None = MOST_ATTEMPTS_A_MINUTE  # None: it is not dead, only unwell
    options: tuple[str, ...] = ()


def _refuse_connections(server: ScriptedUpstream, kitchen: Kitchen) -> None:
    server.on_connect = "reset"
    server.drop_connections()


def _sometimes(server: ScriptedUpstream, kitchen: Kitchen) -> None:
    dice = random.Random(SEED)
    server.always(lambda request: up.error_reply(500) if dice.random() < 0.3 else kitchen(request))


def _cut(server: ScriptedUpstream, kitchen: Kitchen) -> None:
    def answer(request: Received) -> up.Answer:
        if not request.json["stream"]:
            return up.error_reply(503)
        kitchen(request)  # it has seen it, and began
        return up.truncated_stream(("Hel",))

    server.always(answer)


OUTAGES = [
    Outage("dead", _refuse_connections, options=("--on-no-answer", "next")),  # with requests of which nobody knows what became
    Outage("hanging", lambda server, kitchen: server.always(up.stall()), options=("--on-no-answer", "next")),
    # Nobody knows whether a request that was sent was served: by default the client hears of it, and nothing is sent twice.
    Outage("hanging, not repeated", lambda server, kitchen: server.always(up.stall()), visible=CLIENTS),
    Outage("429", lambda server, kitchen: server.always(up.error_reply(429, headers=[("Retry-After", "120")]))),
    Outage("500", lambda server, kitchen: server.always(up.error_reply(500))),
    Outage("500 at 30 %", _sometimes, attempts=None),
    # After the first chunk nobody else can serve it.
    Outage("cut after the first chunk", _cut, visible=CLIENTS),
]


@pytest.fixture
def second() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(record=False) as server:
        yield server


def _run(gateway: Gateway, scene: Scene, fail: Callable[[], None]) -> tuple[list[Delivery], float]:
    """Every request of the clients, and when (epoch ms) the outage began."""
    numbers = itertools.count()
    began_at = 0.0

    async def one(until: float) -> list[Delivery]:
        got = []
        client = Client(gateway.port, scene.customers[0].key)
        while time.monotonic() < until:
            number = next(numbers)
            order, stream = Order(f"o{number}", pieces=3), bool(number % 2)
            got.append(await client.ask(order.body(stream=stream), order.id, stream=stream))
            await asyncio.sleep(PAUSE_S)
        client.close()
        return got

    async def run() -> list[Delivery]:
        nonlocal began_at
        until = time.monotonic() + HEALTHY_S + OUTAGE_S
        fleet = [asyncio.create_task(one(until)) for _ in range(CLIENTS)]
        await asyncio.sleep(HEALTHY_S)
        began_at = time.time() * 1000
        fail()
        return [delivery for got in await asyncio.gather(*fleet) for delivery in got]

    return asyncio.run(run()), began_at


def _failed_attempts(scene: Scene, provider: str, since_at: float) -> int:
    """The failed attempts at a provider, of requests that came since then, the most in any minute."""
    with reading(scene.url) as query:
        rows = query("SELECT at, attempts FROM usage_records WHERE attempts <> '[]' ORDER BY at")
    times = [
        at
        for at, text in rows
        if at >= since_at - 1000
        for attempt in json.loads(text)
        if attempt["provider"] == provider and attempt["error"] is not None
    ]
    return max((sum(start <= at < start + 60_000 for at in times) for start in times), default=0)


def _books(scene: Scene, got: list[Delivery], *kitchens: Kitchen) -> None:
    """No request is charged twice, none without a reply; whatever was delivered is charged."""
    wait_for_quiet(scene.url)
    seen = {name for kitchen in kitchens for name in kitchen.seen}
    found = violations(read_books(scene.url), {"customer-0": Decimal(100)}, got, seen)
    assert not found, shown(found)


@pytest.mark.parametrize("outage", OUTAGES, ids=[outage.name for outage in OUTAGES])
def test_an_outage_of_one_provider_is_not_the_clients(
    scene_with: Callable[..., Scene], second: ScriptedUpstream, outage: Outage
) -> None:
    scene = scene_with(provider=(*SHORT, *outage.options))
    other = Kitchen()
    second.always(other)
    scene.home.ok("providers", "add", "second", "--protocol", "openai", "--base-url", f"{second.url}/v1", "--no-auth", *SHORT)
    scene.home.ok("models", "deploy", MODEL, "--provider", "second")
    with scene.start() as gateway:
        got, began_at = _run(gateway, scene, lambda: outage.begin(scene.upstream, scene.kitchen))
        _books(scene, got, scene.kitchen, other)
        attempts = _failed_attempts(scene, "up", began_at)
    failures = [delivery for delivery in got if not delivery.done]
    figure(
        "6", outage=outage.name, seconds=OUTAGE_S, requests=len(got), failures=len(failures), failed_attempts=attempts,
        twice=0, slowest_s=max(delivery.latency_s for delivery in got),
    )  # fmt: skip
    assert len(scene.kitchen.seen) > 10  # before the outage both served
    assert len(other.seen) > 10
    assert len(failures) <= outage.visible, [(d.status, d.error_code) for d in failures]
    assert attempts >= 1
    if outage.attempts is not None:
        assert attempts <= outage.attempts


def test_a_revoked_credential_is_not_the_clients_either(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(provider=SHORT)
    scene.home.ok("credentials", "add", "up", "--from-env", "S", "--name", "other", env={"S": "sk-the-other-credential"})
    revoked: list[int] = []

    def answer(request: Received) -> up.Answer:
        if request.header("authorization") == "Bearer sk-the-other-credential":
            revoked.append(1)
            return up.error_reply(401, "revoked")
        return scene.kitchen(request)

    with scene.start() as gateway:
        got, _ = _run(gateway, scene, lambda: scene.upstream.always(answer))
        _books(scene, got, scene.kitchen)
    failures = [delivery for delivery in got if not delivery.done]
    figure(
        "6", outage="one of two credentials revoked", seconds=OUTAGE_S, requests=len(got), failures=len(failures),
        failed_attempts=len(revoked), twice=0, slowest_s=max(delivery.latency_s for delivery in got),
    )  # fmt: skip
    assert not failures
    assert 1 <= len(revoked) <= MOST_ATTEMPTS_A_MINUTE
    [benched] = [row for row in scene.home.json("credentials", "list") if row["name"] == "other"]
    assert benched["status"] == "benched"
