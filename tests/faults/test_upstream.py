"""Rows 6, 7, 8: the provider refuses, resets, stalls, drips, sends garbage. One charge at most, and never another's bytes."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery
from tests.faults.oracle import NANOS, read_books, shown, violations, wait_for_quiet
from tests.faults.scene import MODEL, Kitchen, Order, Scene, amount
from tests.support import upstream as up
from tests.support.upstream import Received, ScriptedUpstream

LEAKS = amount("GATEWAYCTL_TEST_LEAKS", 4000)
SEED = amount("GATEWAYCTL_TEST_SEED", random.SystemRandom().randrange(2**32))
FIRST_BYTE_S, IDLE_S, TOTAL_S = 1.0, 1.0, 3.0
SLACK_S = 1.0
SHORT = (
    "--first-byte-timeout", str(FIRST_BYTE_S), "--read-timeout", str(IDLE_S),
    "--total-timeout", str(TOTAL_S), "--connect-timeout", "1",
)  # fmt: skip


def _ask(gateway_port: int, scene: Scene, orders: list[Order], *, stream: bool | None = None) -> list[Delivery]:
    """All orders at once, each on a connection of its own; odd ones as streams unless told."""

    async def run() -> list[Delivery]:
        key = scene.customers[0].key

        async def one(number: int, order: Order) -> Delivery:
            chosen = bool(number % 2) if stream is None else stream
            client = Client(gateway_port, key, timed=True)
            got = await client.ask(order.body(stream=chosen), order.id, stream=chosen)
            client.close()
            return got

        return list(await asyncio.gather(*(one(number, order) for number, order in enumerate(orders))))

    return asyncio.run(run())


def _checked(scene: Scene, deliveries: list[Delivery]) -> dict[str, int]:
    """No violation; the charges in nano-USD by request."""
    wait_for_quiet(scene.url)
    books = read_books(scene.url)
    found = violations(books, {"customer-0": Decimal(100)}, deliveries, scene.kitchen.seen)
    assert not found, shown(found)
    return {charge.request_id: charge.nanos for charge in books.charges}


# ------------------------------------------------------------------------------------------ row 6


def _second_provider(scene: Scene, url: str) -> None:
    """The same model at a second provider, asked when the first is not there."""
    from db import engine
    from db.models import CatalogModel, Deployment, Provider
    from db.versions import bump_catalog

    scene.home.ok("providers", "add", "second", "--protocol", "openai", "--base-url", f"{url}/v1", "--no-auth")
    engine.open_database(scene.url)
    try:
        model, provider = CatalogModel.get(public_id=MODEL), Provider.get(slug="second")
        Deployment.insert(model=model.id, provider=provider.id, upstream_name=MODEL, priority=1).execute()
        bump_catalog()
    finally:
        engine.close_connection()


def test_a_provider_that_refuses_connections_is_replaced_by_the_next(scene: Scene) -> None:
    scene.home.ok("providers", "update", "up", "--base-url", f"{up.closed_port_url()}/v1")
    _second_provider(scene, scene.upstream.url)
    orders = [Order(f"r{number}") for number in range(60)]
    with scene.start() as gateway:
        got = _ask(gateway.port, scene, orders)
        charges = _checked(scene, got)
    assert all(delivery.done for delivery in got)
    assert scene.kitchen.seen == {order.id: 1 for order in orders}
    assert charges == {order.id: int(order.cost * NANOS) for order in orders}
    figure("6", fault="refused", requests=len(got), successes=len(got), charges=len(charges))


BEFORE_HEADERS: dict[str, tuple[up.Answer, int]] = {
    "reset": (up.reset(), 502),
    "close": (up.hang_up(), 502),
    "stall": (up.stall(), 504),
    "status 500": (up.error_reply(500), 502),
    "status 503": (up.error_reply(503), 502),
    "status 401": (up.error_reply(401), 502),
    "status 429": (up.error_reply(429), 429),
}


@pytest.mark.parametrize("fault", list(BEFORE_HEADERS))
def test_a_failure_before_the_headers_costs_nothing_and_is_not_repeated(scene_with: Callable[..., Scene], fault: str) -> None:
    answer, status = BEFORE_HEADERS[fault]
    scene = scene_with(provider=SHORT)
    seen: list[str] = []

    def fail(request: Received) -> up.Answer:
        seen.append(request.json["messages"][0]["content"])
        return answer

    scene.upstream.always(fail)
    with scene.start() as gateway:
        got = _ask(gateway.port, scene, [Order(f"f{number}") for number in range(10)])
        charges = _checked(scene, got)
    # After some failures the others hear at once that nobody is there, or that the provider's rate is used up.
    assert {delivery.status for delivery in got} - {503} == {status}
    assert 1 <= len(set(seen)) == len(seen) <= 10  # none was sent twice: it could be paid for twice
    assert charges == {}
    assert all(delivery.header("content-type") == "application/json" for delivery in got)


def test_a_provider_that_is_away_is_not_asked_twice_for_everything(scene: Scene) -> None:
    """A crowd that connects again and again keeps a struggling provider down: after a few it hears at once that it is away."""
    scene.upstream.on_connect = "reset"
    requests = 300
    with scene.start() as gateway:
        before = scene.upstream.connections
        got = []
        for turn in range(10):
            got += _ask(gateway.port, scene, [Order(f"a{turn}-{number}") for number in range(requests // 10)])
        charges = _checked(scene, got)
        connections = scene.upstream.connections - before
    away = [delivery for delivery in got if delivery.status == 503]
    assert {delivery.status for delivery in got} == {502, 503}
    assert all(1 <= int(delivery.header("retry-after")) <= 30 for delivery in away)
    assert {delivery.error_code for delivery in away} == {"model_unavailable"}
    assert charges == {}
    figure("6", fault="reset on connect", requests=requests, connections=connections, told_at_once=len(away))
    assert connections <= 2 * (requests // 10)  # those of the first crowd, which came at once


def test_a_mixture_of_failures_leaves_the_books_right(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(provider=SHORT)
    dice = random.Random(SEED)
    print(f"\nseed {SEED}")
    faults = ["", "", "", "", "reset", "close", "stall", "refuse_500", "refuse_429", "refuse_400", "refuse_404"]
    orders = [
        Order(f"m{number}", pieces=8, fault=dice.choice(faults), fault_at=dice.randrange(9), usage=dice.random() < 0.7)
        for number in range(400)
    ]
    with scene.start() as gateway:
        got = _ask(gateway.port, scene, orders)
        charges = _checked(scene, got)
    statuses = {status: sum(delivery.status == status for delivery in got) for status in {d.status for d in got}}
    figure("6", seed=SEED, requests=len(got), statuses=str(statuses), charges=len(charges), violations=0)
    assert None not in statuses
    assert 500 not in statuses
    for order, delivery in zip(orders, got, strict=True):
        if not order.fault:
            assert delivery.done
        elif delivery.status == 200:  # it broke after its first byte: said so, and did not look finished
            assert delivery.error_code in {"upstream_error", "upstream_timeout"}
            assert "[DONE]" not in delivery.events()


# ------------------------------------------------------------------------------------------ row 7


def test_a_stall_in_the_middle_ends_after_the_idle_time_and_charges_what_came(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(provider=SHORT)
    orders = [Order(f"i{number}", pieces=30, fault="stall", fault_at=20) for number in range(20)]
    with scene.start() as gateway:
        got = _ask(gateway.port, scene, orders, stream=True)
        charges = _checked(scene, got)
        record = scene.home.record_of("i0")
    assert {delivery.error_code for delivery in got} == {"upstream_timeout"}
    waits = [max(b - a for a, b in itertools.pairwise(delivery.arrivals)) for delivery in got]
    figure("7", fault="stall mid-stream", deadline_s=IDLE_S, ended_min_s=min(waits), ended_max_s=max(waits))
    assert min(waits) > IDLE_S - 0.1
    assert max(waits) < IDLE_S + SLACK_S
    assert (record["status"], record["estimated"], record["http_status"]) == ("error", True, 504)
    assert all(charges[order.id] > 0 for order in orders)
    assert scene.kitchen.seen == {order.id: 1 for order in orders}  # never again after the first byte


@pytest.mark.parametrize("fault", ["reset", "close"])
def test_a_cut_in_the_middle_is_told_and_charged(scene: Scene, fault: str) -> None:
    orders = [Order(f"c{number}", pieces=30, pace_ms=5, fault=fault, fault_at=20) for number in range(20)]
    with scene.start() as gateway:
        got = _ask(gateway.port, scene, orders, stream=True)
        charges = _checked(scene, got)
    assert {delivery.error_code for delivery in got} == {"upstream_error"}
    assert all(delivery.text.count("canary-reply") == 20 for delivery in got)
    assert all(charges[order.id] > 0 for order in orders)
    assert scene.kitchen.seen == {order.id: 1 for order in orders}


def test_a_stall_before_the_headers_ends_after_the_first_byte_time(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(provider=SHORT)
    scene.upstream.always(up.stall())
    with scene.start() as gateway:
        got = _ask(gateway.port, scene, [Order(f"b{number}") for number in range(10)])
        assert _checked(scene, got) == {}
    waits = [delivery.latency_s for delivery in got]
    assert {delivery.status for delivery in got} == {504}
    figure("7", fault="stall before headers", deadline_s=FIRST_BYTE_S, ended_min_s=min(waits), ended_max_s=max(waits))
    assert min(waits) > FIRST_BYTE_S - 0.1
    assert max(waits) < FIRST_BYTE_S + SLACK_S


def test_comments_alone_do_not_keep_a_stream_alive(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(provider=SHORT)
    scene.upstream.always(lambda request: up.comments_only())
    with scene.start() as gateway:
        [got] = _ask(gateway.port, scene, [Order("quiet")], stream=True)
        charges = _checked(scene, [])
    figure("7", fault="comments only", deadline_s=IDLE_S, ended_s=got.latency_s)
    assert got.error_code == "upstream_timeout"
    assert got.latency_s < IDLE_S + SLACK_S
    assert charges == {}  # it said nothing


def test_a_drip_ends_after_the_total_time(scene_with: Callable[..., Scene]) -> None:
    scene = scene_with(provider=SHORT)
    order = Order("drip", pieces=100, pace_ms=200)
    with scene.start() as gateway:
        [got] = _ask(gateway.port, scene, [order], stream=True)
        charges = _checked(scene, [got])
    figure("7", fault="drip", deadline_s=TOTAL_S, ended_s=got.latency_s)
    assert got.error_code == "upstream_timeout"
    assert TOTAL_S - 0.1 < got.latency_s < TOTAL_S + SLACK_S
    assert charges["drip"] > 0


# ------------------------------------------------------------------------------------------ row 8

GARBAGE: dict[str, Callable[[], up.Answer]] = {
    "invalid JSON": up.invalid_json,
    "HTML with status 200": up.html_reply,
    "an array": lambda: up.json_reply([1, 2, 3]),
    "a number": lambda: up.json_reply(7),
    "an error with status 200": lambda: up.json_reply({"error": {"message": "overloaded", "code": 503}}),
    "no body": lambda: up.Reply(200, [("Content-Type", "application/json")], b""),
    "a body shorter than announced": up.short_body,
    "bytes after the body": lambda: up.extra_bytes(up.chat_reply("mine")),
    "gzip that nobody asked for": lambda: up.gzip_reply({"choices": []}),
    "a huge header": up.giant_header,
    "not HTTP": lambda: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", up.Close()],
    "a status line alone": lambda: [b"HTTP/1.1 200 OK\r\n", up.Close()],
    "two lengths": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\n{}", up.Close()],
    "a negative length": lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}", up.Close()],
    "a chunk of nonsense": lambda: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"],
    "an error in the first event": up.error_frame,
    "an empty event stream": lambda: list(up.sse([])),
    "an event stream of garbage": lambda: list(up.sse([b"data: {not json\n\n", b"data: [1]\n\n"])),
    "an endless line": lambda: up.endless_line(total=4 * 1024 * 1024),
    "invalid UTF-8": lambda: up.Reply(200, [("Content-Type", "application/json")], b'{"choices": "\xff\xfe"}'),
    "a status of 999": lambda: [b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\n{}"],
    "a redirect": lambda: up.Reply(302, [("Location", "http://127.0.0.1:1/")], b""),
    "no content": lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"],
}


@pytest.fixture(scope="module")
def gateway_for_garbage(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """One daemon for the whole table."""
    from tests.faults.scene import make_scene

    with ScriptedUpstream(record=False) as server:
        scene = make_scene(tmp_path_factory.mktemp("garbage") / "home", server, provider=SHORT)
        with scene.start() as gateway:
            yield scene, gateway
        scene.home.close()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", list(GARBAGE))
def test_garbage_becomes_a_502_and_is_not_charged(gateway_for_garbage, kind: str, stream: bool) -> None:  # type: ignore[no-untyped-def]
    scene, gateway = gateway_for_garbage
    scene.upstream.always(scene.kitchen)
    [fine] = _ask(gateway.port, scene, [Order(f"f-{random.getrandbits(40):x}")], stream=stream)
    assert fine.done  # and whatever failed before is not held against the provider
    wait_for_quiet(scene.url)
    scene.upstream.always(lambda request: GARBAGE[kind]())
    before = scene.home.balance("customer-0")
    [got] = _ask(gateway.port, scene, [Order(f"g-{random.getrandbits(40):x}")], stream=stream)
    wait_for_quiet(scene.url)
    assert got.status in (502, 504), bytes(got.raw)[:500]
    assert got.error_code in {"upstream_error", "upstream_timeout"}
    assert b"LEAKED" not in got.raw
    assert scene.home.balance("customer-0") == before


def test_no_byte_of_one_request_stands_in_another(scene_with: Callable[..., Scene]) -> None:
    """A hostile upstream adds bytes to its replies: at once, a moment later, and what looks like the next one's reply."""
    scene = scene_with()
    kitchen = Kitchen()
    dice = random.Random(SEED)
    print(f"\nseed {SEED}")
    secret = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{"choices":[],"x":"LEAKEDLEAK"}'

    def hostile(request: Received) -> up.Answer:
        steps = list(kitchen(request))
        kind = dice.randrange(8)
        if kind == 0 and isinstance(steps[-1], bytes):
            return up.extra_bytes(steps, secret)
        if kind == 1:
            return up.extra_bytes(steps, secret, after_s=dice.choice((0.0, 0.001, 0.01)))
        if kind == 2:
            return up.extra_bytes(steps, b"LEAKED", after_s=0.002)
        return steps

    scene.upstream.always(hostile)
    bad: list[str] = []
    deliveries: list[Delivery] = []

    async def run(port: int) -> None:
        async def one(number: int) -> None:
            client = Client(port, scene.customers[0].key)
            for turn in range(LEAKS // 32):
                order = Order(f"x{number}-{turn}", pieces=3)
                stream = bool(turn % 2)
                got = await client.ask(order.body(stream=stream), order.id, stream=stream)
                deliveries.append(got)
                if b"LEAKED" in got.raw or (got.status == 200 and got.body.count(f":{order.id}:".encode()) != 3):
                    bad.append(f"{order.id}: {bytes(got.raw)[:400]!r}")
                if got.status not in (200, 502, 503):  # 503: after several broken replies the provider rests
                    bad.append(f"{order.id}: status {got.status}")
            client.close()

        await asyncio.gather(*(one(number) for number in range(32)))

    with scene.start() as gateway:
        began = time.monotonic()
        asyncio.run(run(gateway.port))
        spent = time.monotonic() - began
        wait_for_quiet(scene.url)
        found = violations(read_books(scene.url), {"customer-0": Decimal(100)}, deliveries, kitchen.seen)
    assert not bad, bad[:5]
    assert not found, shown(found)
    served = sum(delivery.status == 200 for delivery in deliveries)
    figure("8", seed=SEED, requests=len(deliveries), served=served, foreign_bytes=0, seconds=spent)
    assert served > len(deliveries) / 20  # while it rests nobody is served
