"""S4: providers out of service, races for a balance, crashes (S4-16, S4-18, S4-29, S4-32)."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import CLAUDE, ask
from tests.support.postgres import Server
from tests.support.upstream import Answer, Received, Until, chat_frames, chat_reply, chat_stream, sse, usage_of
from tests.support.world import World, build, data_lines, error_of

UNIFIED, PREFIXED = "/v1/chat/completions", "/v1/openai/chat/completions"


# ------------------------------------------------------------------------------------------------ S4-16


def test_s4_16_without_a_usable_credential_503(own: World) -> None:
    own.home.ok("credentials", "disable", "openai/default")
    for path in (UNIFIED, PREFIXED):
        for stream in (False, True):
            error = error_of(own.gateway.chat(own.alice.key, path=path, stream=stream), 503, "no_active_api_keys")
            assert "No active API keys" in error["message"]
            assert "openai" in error["message"]
    shown = own.home.json("balances", "show", "alice")
    assert (shown["balance"], shown["held"]) == ("5", "0")
    assert own.openai.requests == []
    assert own.gateway.chat(own.alice.key, model=CLAUDE).status_code == 200

    own.home.ok("credentials", "enable", "openai/default")
    assert [own.gateway.chat(own.alice.key, path=path).status_code for path in (UNIFIED, PREFIXED)] == [200, 200]


def test_s4_16_a_provider_without_auth_needs_none(world: World) -> None:
    model = world.model(provider=world.provider("--no-auth"))
    assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    assert world.openai.requests[0].header("authorization") is None


# ------------------------------------------------------------------------------------------------ S4-18


def test_s4_18_a_pause_stops_new_requests_at_once_and_running_streams_finish(own: World) -> None:
    rest = threading.Event()
    first, *others = chat_stream(["be", "fore", " and", " after"], usage_of(3, 4), delay_s=0.01)
    own.openai.script([first, Until(rest), *others])
    with own.gateway.client.stream(
        "POST", UNIFIED, json=ask(stream=True), headers=own.gateway.headers(own.alice.key)
    ) as stream:
        pieces = stream.iter_text()
        text = next(pieces)
        own.home.ok("providers", "pause", "openai", "--reason", "invoice open")
        for path in (UNIFIED, PREFIXED):
            reply = own.gateway.chat(own.alice.key, path=path)
            error = error_of(reply, 429, "provider_paused")
            assert "paused" in error["message"]
            assert "invoice open" not in reply.text  # the reason is the admin's
            assert reply.headers["x-should-retry"] == "false"
        assert own.gateway.chat(own.alice.key, model=CLAUDE).status_code == 200
        rest.set()
        text += "".join(pieces)
    assert data_lines(text)[-1] == "[DONE]"
    assert own.home.record_of(stream.headers["x-request-id"])["usage"] == {"input": 3, "output": 4}
    assert len(own.openai.requests) == 1
    own.home.ok("providers", "resume", "openai")
    assert own.gateway.chat(own.alice.key).status_code == 200


# ------------------------------------------------------------------------------------------------ S4-32


def race(world: World, key: str, model: str, *, calls: int = 50) -> list[httpx.Response]:
    """So many calls at the same moment, each on a connection of its own (so that both workers get some)."""
    start = threading.Barrier(calls)
    body = ask(model=model, max_tokens=100)

    def call(_: int) -> httpx.Response:
        with httpx.Client(trust_env=False, verify=False, timeout=30) as client:
            start.wait(30)
            return client.post(f"{world.gateway.url}{UNIFIED}", json=body, headers=world.gateway.headers(key))

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(call, range(calls)))


@pytest.fixture(params=["sqlite", "postgresql"])
def two_workers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = None
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        url = server.new_database()
    with ExitStack() as stack:
        yield build(stack, tmp_path / "home", url=url, workers=2)


def test_s4_32_a_balance_for_four_serves_exactly_four_of_fifty(two_workers: World) -> None:
    world = two_workers
    world.openai.always(chat_reply("x", usage_of(5, 100)))  # uses all that was held
    model = world.model(price=("0", "10"))
    user = world.person(balance="0.0045")
    replies = race(world, user.key, model)
    assert Counter(reply.status_code for reply in replies) == {200: 4, 402: 46}
    for reply in replies:
        if reply.status_code == 402:
            error_of(reply, 402, "insufficient_balance")
    assert len(world.openai.requests) == 4
    shown = world.home.json("balances", "show", user.name)
    assert (shown["balance"], shown["held"]) == ("0.0005", "0")
    assert world.home.json("ledger", "verify")["ok"] is True


def test_s4_32_a_budget_of_a_key_is_held_the_same_way(two_workers: World) -> None:
    world = two_workers
    world.openai.always(chat_reply("x", usage_of(5, 100)))
    model = world.model(price=("0", "10"))
    user = world.person()
    key = world.home.key(user.name, "--budget", "0.0045", "--budget-period", "month")
    replies = race(world, key, model, calls=24)
    assert Counter(reply.status_code for reply in replies) == {200: 4, 402: 20}
    assert len(world.openai.requests) == 4


def test_s4_32_the_charge_never_takes_more_than_there_is(world: World) -> None:
    world.openai.always(chat_reply("x", usage_of(5, 5000)))  # far above the hold
    model = world.model(price=("0", "10"))
    user = world.person(balance="0.001")
    reply = world.gateway.chat(user.key, model=model, max_tokens=50)
    assert reply.status_code == 200
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["cost"], record["charged"], record["absorbed"]) == ("0.05", "0.001", "0.049")
    assert world.home.balance(user.name) == "0"
    error_of(world.gateway.chat(user.key, model=model, max_tokens=50), 402, "insufficient_balance")


def test_s4_32_after_an_overdraft_402_shows_the_negative_balance(world: World) -> None:
    world.openai.always(chat_reply("x", usage_of(5, 5000)))
    model = world.model(price=("0", "10"))
    user = world.person("--credit-limit", "0.05", balance="0.001")
    assert world.gateway.chat(user.key, model=model, max_tokens=50).status_code == 200
    assert world.home.balance(user.name) == "-0.049"
    assert world.gateway.get("/v1/credits", user.key).json()["balance"] == "-0.049"
    error = error_of(world.gateway.chat(user.key, model=model, max_tokens=150), 402, "insufficient_balance")
    assert "the balance is -0.049 USD" in error["message"]
    assert "available are 0.001 USD" in error["message"]


def test_s4_32_without_max_tokens_it_is_lowered_to_what_is_affordable(world: World) -> None:
    model = world.model("--max-output", "4000", price=("0", "10"))
    user = world.person(balance="0.001")
    reply = world.gateway.chat(user.key, model=model)
    assert reply.status_code == 200
    assert reply.headers["x-gateway-max-tokens"] == "100"
    assert world.openai.requests[0].json["max_tokens"] == 100
    rich = world.gateway.chat(world.person().key, model=model)
    assert "x-gateway-max-tokens" not in rich.headers
    assert "max_tokens" not in world.openai.requests[1].json
    prefixed = world.gateway.chat(user.key, model=model, path=PREFIXED)  # the body is the client's there
    error_of(prefixed, 402, "insufficient_balance")


def test_s4_32_without_a_maximum_a_setting_bounds_the_hold(world: World) -> None:
    model = world.model(price=("0", "1"))  # 16,384 tokens: 0.016384
    exact, short = world.person(balance="0.016384"), world.person(balance="0.016383")
    assert "x-gateway-max-tokens" not in world.gateway.chat(exact.key, model=model).headers
    assert world.gateway.chat(short.key, model=model).headers["x-gateway-max-tokens"] == "16383"


# ------------------------------------------------------------------------------------------------ S4-29

CRASHES = 3  # twenty, with two hundred clients and every fault: tests/faults/test_kill.py
CLIENTS = 40
WORDS = 8
COST = (Decimal("0.6") * 9 + Decimal("2.4") * WORDS) / 1_000_000


def slow_words(request: Received) -> Answer:
    """A reply in pieces, for a stream; or one after a moment. Both cost COST."""
    if request.json.get("stream"):
        return sse(chat_frames(["word "] * WORDS, usage_of(9, WORDS)), delay_s=random.uniform(0, 0.05))
    return chat_reply("word " * WORDS, usage_of(9, WORDS))


class Client(threading.Thread):
    """Calls until the daemon dies; which calls came back whole, and which only began."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(daemon=True)
        self.url, self.headers = world.gateway.url, world.gateway.headers(world.alice.key)
        self.stream = number % 2 == 0
        self.whole: list[str] = []
        self.begun: list[str] = []

    def run(self) -> None:
        body = ask(stream=self.stream, max_tokens=50)
        with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
            for _ in range(200):
                try:
                    with client.stream("POST", f"{self.url}{UNIFIED}", json=body, headers=self.headers) as reply:
                        assert reply.status_code == 200
                        self.begun.append(reply.headers["x-request-id"])
                        text = reply.read().decode()
                except httpx.TransportError:
                    return
                if not self.stream or data_lines(text)[-1:] == ["[DONE]"]:
                    self.whole.append(reply.headers["x-request-id"])


def test_s4_29_what_was_delivered_is_charged_once_through_crashes(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home")
        world.openai.always(slow_words)
        whole: set[str] = set()
        begun: set[str] = set()
        for _ in range(CRASHES):
            clients = [Client(world, number) for number in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.3, 0.8))
            world.gateway.kill()
            for client in clients:
                client.join(15)
                whole |= set(client.whole)
                begun |= set(client.begun)
            world.gateway = world.home.start()
        deadline = time.monotonic() + 6
        while world.home.json("balances", "show", "alice")["held"] != "0" and time.monotonic() < deadline:
            time.sleep(0.1)
        books = world.home.json("balances", "show", "alice")
        assert books["held"] == "0"
        entries = world.home.json("ledger", "list", "--user", "alice", "--limit", "100000")
        charges = [entry for entry in entries if entry["kind"] == "charge"]
        count = Counter(entry["request_id"] for entry in charges)
        assert set(count.values()) == {1}
        assert whole
        assert begun <= set(count), "delivered, but not charged"
        amounts = {entry["request_id"]: -Decimal(entry["amount"]) for entry in charges}
        assert {amounts[request_id] for request_id in whole} == {COST}
        assert Decimal(books["balance"]) == sum(Decimal(entry["amount"]) for entry in entries)
        assert world.home.json("ledger", "verify")["ok"] is True
