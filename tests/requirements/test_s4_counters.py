"""Counters in Redis or in the database, with the same results; a Redis that goes away harms nobody (S4-33, S2-20)."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import User, ask
from tests.support.redis_server import RedisServer
from tests.support.upstream import chat_reply, usage_of
from tests.support.world import World, build

LOAD_S = float(os.environ.get("GATEWAYCTL_TEST_LIMIT_LOAD_S", "4"))  # 60 for the promise in full
RPM = 200
CLIENTS = 8


@pytest.fixture
def redis_of_its_own() -> Iterator[RedisServer]:
    if RedisServer.program() is None:
        pytest.skip("Redis is not installed: apt install redis-server")
    with RedisServer() as server:
        yield server


def made(stack: ExitStack, directory: Path, url: str | None, redis: RedisServer | None, workers: int) -> World:
    env = {} if redis is None else {"GATEWAYCTL_REDIS_URL": redis.url}
    world = build(stack, directory, url=url, workers=workers, balance="1000", env=env)
    world.openai.always(lambda _: chat_reply("hi", usage_of(10, 10)))
    return world


def today(world: World, user: User) -> tuple[int, int, Decimal]:
    """Requests, tokens and cost of a user by its usage records."""
    rows = [row for row in world.home.usage("--user", user.name, "--limit", "10000") if row["status"] == "ok"]
    return (
        len(rows),
        sum(sum(row["usage"].values()) for row in rows),
        sum((Decimal(row["charged"]) for row in rows), Decimal(0)),
    )


def test_s4_33_day_sums_in_redis_equal_the_usage_records(
    tmp_path: Path, new_database: Callable[[], str | None], redis_of_its_own: RedisServer
) -> None:
    with ExitStack() as stack:
        world = made(stack, tmp_path / "home", new_database(), redis_of_its_own, workers=2)
        user = world.person(key=("--rpm", "1000"))
        for _ in range(5):
            assert world.gateway.chat(user.key, max_tokens=20).status_code == 200
        requests, tokens, cost = today(world, user)
        time.sleep(0.3)
        client = redis_of_its_own.client()
        [stem] = {key.rpartition(":")[0] for key in client.keys(f"gw:day:*:key:{user.key_id}:*")}
        found = [int(client.get(f"{stem}:{name}") or 0) for name in ("requests", "tokens", "cost_nano")]
        assert found == [requests, tokens, int(cost * 10**9)] == [5, 100, found[2]]
        assert int(client.get(f"{stem.partition(':key:')[0]}:provider:openai:requests") or 0) == 5
        assert 47 * 3600 < client.ttl(f"{stem}:tokens") <= 48 * 3600
        [row] = world.home.json("limits", "show", "--key", user.key_id)
        assert row["today"] == {"requests": 5, "tokens": 100, "cost": str(cost)}
        shown = world.home.run(
            "limits", "show", "--key", user.key_id, "--json", env={"GATEWAYCTL_REDIS_URL": redis_of_its_own.url}
        )
        [row] = json.loads(shown.out)
        assert (row["requests"], row["tokens"]) == (5, 0)
        env = {"GATEWAYCTL_REDIS_URL": redis_of_its_own.url}
        assert world.home.run("limits", "reset", "--key", user.key_id, env=env).code == 0
        assert world.gateway.chat(user.key, max_tokens=20).headers["x-ratelimit-remaining"] == "999"


def offered(world: World, user: User, seconds: float, rate: float) -> Counter[int]:
    """Calls of several clients at so many a second together; how often each status came."""
    statuses: Counter[int] = Counter()
    lock = threading.Lock()
    began = time.monotonic()

    def client(number: int) -> None:
        with httpx.Client(trust_env=False, timeout=10) as session:
            done = 0
            while (now := time.monotonic()) < began + seconds:
                due = began + (done * CLIENTS + number) / rate
                if now < due:
                    time.sleep(min(due - now, 0.05))
                    continue
                done += 1
                reply = session.post(
                    f"{world.gateway.url}/v1/chat/completions", json=ask(max_tokens=5), headers=world.gateway.headers(user.key)
                )
                with lock:
                    statuses[reply.status_code] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return statuses


@pytest.mark.parametrize("backend", ["database", "redis"])
def test_s2_20_four_workers_admit_what_the_limit_says(
    backend: str, tmp_path: Path, new_database: Callable[[], str | None], request: pytest.FixtureRequest
) -> None:
    """Ten times the limit is offered; in the one window that is open the limit is admitted, and not one more."""
    redis = request.getfixturevalue("redis_of_its_own") if backend == "redis" else None
    with ExitStack() as stack:
        world = made(stack, tmp_path / "home", new_database(), redis, workers=4)
        share = max(1, int(RPM * LOAD_S / 60))  # so that ten times as many come, however short it is
        user = world.person(key=("--rpm", str(share)))
        seconds = min(LOAD_S, 58)
        found = offered(world, user, seconds, 10 * share / seconds)
        assert found[200] == share, found
        assert found[200] + found[429] == found.total() >= 5 * share
        assert len(world.openai.requests) == share
        assert world.home.json("ledger", "verify")["ok"] is True


def test_s4_33_a_redis_that_goes_away_fails_no_request(
    tmp_path: Path, new_database: Callable[[], str | None], redis_of_its_own: RedisServer
) -> None:
    """Killed, started empty, flushed and paused under load: every request is served, charged once, and soon."""
    with ExitStack() as stack:
        world = made(stack, tmp_path / "home", new_database(), redis_of_its_own, workers=2)
        user = world.person(balance="100", key=("--rpm", "1000000", "--tpm", "100000000"))
        results: list[tuple[float, int]] = []
        stop = threading.Event()

        def client() -> None:
            with httpx.Client(base_url=world.gateway.url, trust_env=False, timeout=10) as session:
                for _ in range(20_000):
                    if stop.is_set():
                        return
                    reply = session.post(
                        "/v1/chat/completions", json=ask(max_tokens=5), headers=world.gateway.headers(user.key)
                    )
                    results.append((time.monotonic(), reply.status_code))
                    assert int(reply.headers["x-ratelimit-remaining"]) < 1_000_000

        def state() -> str:
            return str(world.gateway.get("/health").json()["status"])

        def becomes(wanted: str) -> None:
            deadline = time.monotonic() + 5
            while state() != wanted:
                assert time.monotonic() < deadline, state()
                time.sleep(0.05)

        with ThreadPoolExecutor(2) as pool:
            clients = [pool.submit(client) for _ in range(2)]
            time.sleep(0.3)
            assert state() == "healthy"
            redis_of_its_own.kill()
            becomes("degraded")
            time.sleep(0.3)
            redis_of_its_own.start()
            becomes("healthy")
            redis_of_its_own.client().flushall()
            time.sleep(0.3)
            redis_of_its_own.pause()
            becomes("degraded")
            time.sleep(0.3)
            redis_of_its_own.resume()
            becomes("healthy")
            stop.set()
            for one in clients:
                one.result()
        assert {status for _, status in results} == {200}
        books = world.home.json("balances", "show", user.name)
        requests, _, cost = today(world, user)
        assert requests == len(results)
        assert Decimal(books["balance"]) == 100 - cost
        assert world.home.json("ledger", "verify")["ok"] is True
