"""Rows 25, 26, 27: prices, keys, accounts change while requests run. What was agreed holds; the revoked is refused at once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client, Delivery
from tests.faults.oracle import read_books, shown, violations, wait_for_quiet
from tests.faults.scene import INPUT_USD, MODEL, OUTPUT_USD, PROMPT_TOKENS, Kitchen, Order, Scene, make_scene
from tests.support.gateway import Gateway, make_home
from tests.support.upstream import ScriptedUpstream

PIECES, PACE_MS = 12, 75  # 0.9 s
WORKERS = 2
AGAIN = 20  # new calls after a change: each worker is asked


def _cost(input_usd: Decimal, output_usd: Decimal, pieces: int = PIECES) -> Decimal:
    return (PROMPT_TOKENS * input_usd + pieces * output_usd) / 1_000_000


def _with_running_streams(
    scene: Scene, gateway: Gateway, key: str, change: Callable[[], object], *, streams: int = 10, after: str = "n"
) -> tuple[list[Delivery], list[Delivery]]:
    """Streams that run while `change` happens, and calls that come right after it."""

    async def run() -> tuple[list[Delivery], list[Delivery]]:
        async def ask(order: Order, *, stream: bool) -> Delivery:
            return await Client(gateway.port, key, keep=False).ask(order.body(stream=stream), order.id, stream=stream)

        for number in range(8):  # every worker knows the key, and could remember it wrongly
            await ask(Order(f"{after}-warm{number}"), stream=False)
        known = len(scene.kitchen.seen)
        running = [
            asyncio.create_task(ask(Order(f"{after}-run{number}", pieces=PIECES, pace_ms=PACE_MS), stream=True))
            for number in range(streams)
        ]
        for _ in range(1000):
            if len(scene.kitchen.seen) >= known + streams:
                break
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)
        change()  # in this process and thread: the very next request comes after it
        new = [await ask(Order(f"{after}{number}"), stream=False) for number in range(AGAIN)]
        return list(await asyncio.gather(*running)), new

    return asyncio.run(run())


def _checked(scene: Scene, deliveries: list[Delivery]) -> dict[str, Decimal]:
    wait_for_quiet(scene.url)
    books = read_books(scene.url)
    found = violations(books, {}, deliveries, scene.kitchen.seen)
    assert not found, shown(found)
    return {charge.request_id: Decimal(charge.nanos) / 10**9 for charge in books.charges}


# ------------------------------------------------------------------------------------------ row 25


def test_a_price_change_reaches_the_next_request_and_no_running_one(scene: Scene) -> None:
    key = scene.customers[0].key
    changes = [
        (
            lambda: scene.home.ok("models", "update", MODEL, "--input-price", "7", "--output-price", "21"),
            (Decimal(7), Decimal(21)),
        ),
        (lambda: scene.home.ok("multipliers", "set", "--model", MODEL, "2.5"), (Decimal("17.5"), Decimal("52.5"))),
        (lambda: scene.home.ok("multipliers", "set", "--user", "customer-0", "0.5"), (Decimal("8.75"), Decimal("26.25"))),
        (lambda: scene.home.ok("multipliers", "set", "--user", "customer-0", "0"), (Decimal(0), Decimal(0))),
        (lambda: scene.home.ok("multipliers", "unset", "--user", "customer-0"), (Decimal("17.5"), Decimal("52.5"))),
    ]
    before = (INPUT_USD, OUTPUT_USD)
    mismatches = 0
    with scene.start(workers=WORKERS) as gateway:
        for number, (change, prices) in enumerate(changes):
            running, new = _with_running_streams(scene, gateway, key, change, after=f"p{number}")
            assert all(delivery.done for delivery in [*running, *new])
            wait_for_quiet(scene.url)
            charged = {charge.request_id: Decimal(charge.nanos) / 10**9 for charge in read_books(scene.url).charges}
            mismatches += sum(charged[delivery.request_id] != _cost(*before) for delivery in running)
            mismatches += sum(charged[delivery.request_id] != _cost(*prices, 10) for delivery in new)
            before = prices
    figure("25", changes=len(changes), requests=len(changes) * (10 + AGAIN), workers=WORKERS, mismatches=mismatches)
    assert mismatches == 0


@pytest.mark.parametrize("value", ["-1", "-0.5", "NaN", "nan", "inf", "Infinity", "1e999", "", "abc", "0x10", "1,5"])
def test_a_multiplier_or_price_without_a_value_is_refused_when_saved(scene: Scene, value: str) -> None:
    commands = [
        ("multipliers", "set", "--model", MODEL, "--", value),
        ("multipliers", "set", "--user", "customer-0", "--", value),
        ("models", "update", MODEL, f"--input-price={value}"),
        ("models", "update", MODEL, f"--price=output={value}"),
        ("models", "add", "another", "--provider", "up", f"--input-price={value}", "--output-price", "1"),
    ]
    for command in commands:
        result = scene.home.run(*command)
        assert result.code in (1, 2), f"{command}: {result.code} {result.out}"
        assert result.err
    assert scene.home.json("multipliers", "list") == []
    shown_model = scene.home.json("models", "show", MODEL)
    assert {meter: Decimal(price) for meter, price in shown_model["prices"].items()} == {
        "input": INPUT_USD,
        "output": OUTPUT_USD,
    }


# ------------------------------------------------------------------------------------------ row 26

# What is stopped: the command (with a customer's name or key id), what the next call is told, the command that undoes it.
STOPS: dict[str, tuple[str, int, str, str]] = {
    "key revoked": ("keys revoke {key} --yes", 401, "invalid_api_key", ""),
    "key disabled": ("keys disable {key}", 401, "invalid_api_key", ""),
    "account suspended": ("users suspend {user}", 403, "account_suspended", ""),
    "model disabled": (f"models disable {MODEL}", 404, "model_not_found", f"models enable {MODEL}"),
    "provider paused": ("providers pause up", 429, "provider_paused", "providers resume up"),
}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Gateway]]:
    """One daemon of two workers for all that is stopped."""
    with ScriptedUpstream(record=False) as server:
        scene = make_scene(tmp_path_factory.mktemp("stops") / "home", server)
        with scene.start(workers=WORKERS) as gateway:
            yield scene, gateway
        scene.home.close()


@pytest.mark.parametrize("kind", list(STOPS))
def test_what_is_stopped_refuses_the_next_call_and_lets_running_streams_finish(
    two_workers: tuple[Scene, Gateway], kind: str
) -> None:
    scene, gateway = two_workers
    command, status, code, undo = STOPS[kind]
    name = f"stopped-{list(STOPS).index(kind)}"
    user = scene.home.user(name, balance="10")
    stop = command.format(key=user.key_id, user=name).split()
    running, new = _with_running_streams(scene, gateway, user.key, lambda: scene.home.ok(*stop), after=f"{name}-")
    if undo:
        scene.home.ok(*undo.split())
    charged = _checked(scene, [*running, *new])
    assert {(delivery.status, delivery.error_code) for delivery in new} == {(status, code)}
    assert all(delivery.done for delivery in running)
    assert {charged[delivery.request_id] for delivery in running} == {_cost(INPUT_USD, OUTPUT_USD)}
    figure("26", kind=kind, workers=WORKERS, new_calls=len(new), admitted_after=0, streams_finished=len(running))


def test_the_window_between_a_revocation_and_its_effect(scene: Scene) -> None:
    """Calls without a pause on both workers, a revocation by a command of its own: none begun after it returned is served."""
    key = scene.customers[0].key
    found: list[tuple[float, int | None]] = []
    stop = threading.Event()
    with scene.start(workers=WORKERS) as gateway:

        async def run() -> float:
            async def calls(number: int) -> None:
                turn = 0
                while not stop.is_set():
                    turn += 1
                    order = Order(f"v{number}-{turn}")
                    client = Client(gateway.port, key, keep=False)
                    got = await client.ask(order.body(stream=False), order.id, stream=False)
                    found.append((got.sent_at, got.status))

            load = [asyncio.create_task(calls(number)) for number in range(8)]
            await asyncio.sleep(0.7)
            result = await asyncio.to_thread(scene.home.shell, "keys", "revoke", "1", "--yes")
            at = time.monotonic()
            assert result.code == 0, result.err
            await asyncio.sleep(0.7)
            stop.set()
            await asyncio.gather(*load)
            return at

        revoked_at = asyncio.run(run())
    late = [sent_at - revoked_at for sent_at, status in found if status == 200 and sent_at > revoked_at]
    figure(
        "26", kind="key revoked by another process", calls=len(found), served_after=len(late), window_s=max(late, default=0.0)
    )
    assert {status for sent_at, status in found if sent_at > revoked_at} == {401}
    assert 200 in {status for _, status in found}


# ------------------------------------------------------------------------------------------ row 27


def test_a_rolled_key_is_valid_until_its_end_and_not_a_second_longer(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    home = make_home(tmp_path / "home", fake_clock=True)
    kitchen = Kitchen()
    upstream.always(kitchen)
    home.ok("providers", "add", "up", "--protocol", "openai", "--base-url", f"{upstream.url}/v1", "--no-auth")
    home.ok("models", "add", MODEL, "--provider", "up", "--input-price", "3", "--output-price", "15")
    alice = home.user("alice", balance="5")
    now = 1_900_000_000
    home.clock.stand_at(now)
    try:
        with home.start(workers=WORKERS) as gateway:
            numbers = iter(range(1000))

            def statuses(key: str) -> set[int | None]:
                async def run() -> list[Delivery]:
                    found = []
                    for _ in range(8):
                        order = Order(f"r{next(numbers)}")
                        client = Client(gateway.port, key, keep=False)
                        found.append(await client.ask(order.body(stream=False), order.id, stream=False))
                    return found

                return {delivery.status for delivery in asyncio.run(run())}

            assert statuses(alice.key) == {200}
            new = home.json("keys", "rotate", alice.key_id, "--grace", "1h")["key"]
            for at, old_valid in ((0, True), (3599, True), (3601, False), (90_000, False)):
                home.clock.stand_at(now + at)
                assert statuses(alice.key) == ({200} if old_valid else {401}), at
                assert statuses(new) == {200}, at
            home.clock.stand_at(now + 90_001)
            last = home.json("keys", "rotate", alice.key_id, "--now")["key"]
            assert statuses(new) == {401}
            assert statuses(last) == {200}
        wait_for_quiet(home.database)
        found = violations(read_books(home.database), {"alice": Decimal(5)}, [], kitchen.seen)
        assert not found, shown(found)
        [key] = home.json("keys", "list")
        spent = sum(Decimal(row["charged"]) for row in home.usage("--limit", "1000"))
        assert key["id"] == alice.key_id
        assert Decimal(key["spend"]) == spent  # both secrets count for the one key
        assert {row["key_id"] for row in home.usage("--limit", "1000") if row["status"] == "ok"} == {alice.key_id}
    finally:
        home.close()
    figure("27", workers=WORKERS, grace_s=3600, old_valid_at_s=3599, old_refused_at_s=3601)
