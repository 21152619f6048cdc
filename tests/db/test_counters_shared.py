"""The same rules on both counters: windows in the database, and in Redis by its script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from daemon.shared_counters import SharedCounters
from db import clock, engine, limits
from db.limits import Limit, Limits, Standing
from db.models import database as bound
from db.redis_keys import Windows, day_key
from tests.support import records
from tests.support.postgres import Server
from tests.support.redis_server import RedisServer

T = 1_800_000_000_000


class Counting:
    """One of the two: take a request, correct its tokens."""

    def __init__(self, take: Callable[[Limits], Standing], correct: Callable[[Limits, int, int], None]) -> None:
        self.take = take
        self.correct = correct


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    moment = [T]
    monkeypatch.setattr(clock, "now_ms", lambda: moment[0])
    return moment


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def counting(request: pytest.FixtureRequest, now: list[int]) -> Iterator[Counting]:
    if request.param != "redis":
        postgres: Server | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
        if postgres is None:
            url = request.getfixturevalue("sqlite_url")
        else:
            url = postgres.lend(request.getfixturevalue("_postgres_template"))
        engine.open_database(url)
        assert records.user("alice") == 1
        yield Counting(limits.count, _in_transaction)
        engine.close_connection()
        if postgres is not None:
            postgres.take_back(url)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    server.client().flushall()
    with asyncio.Runner() as runner:

        async def opened() -> SharedCounters:
            made = SharedCounters(server.url)
            await made.start()
            assert made.up
            return made

        counters = runner.run(opened())

        def take(asked: Limits) -> Standing:
            found = runner.run(counters.take(asked))
            assert found is not None
            return found

        async def correct(asked: Limits, window: int, more: int) -> None:
            counters.correct(asked, window, more)
            await counters._write()

        yield Counting(take, lambda asked, window, more: runner.run(correct(asked, window, more)))
        runner.run(counters.close())


def _in_transaction(asked: Limits, window: int, more: int) -> None:
    with bound.atomic():
        limits.correct(asked.key_id, window, more, 0)


def asked(tokens: int = 0, **given: int | None) -> Limits:
    fields: dict[str, int | None] = {"rpm": None, "tpm": None, "max_parallel": None, "user_rpm": None}
    return Limits(7, 1, **(fields | given), tokens=tokens)  # type: ignore[arg-type]


def test_s4_33_a_window_begins_with_its_first_request_and_counts_to_the_limit(counting: Counting, now: list[int]) -> None:
    now[0] = T + 1_234
    found = [counting.take(asked(rpm=2)) for _ in range(3)]
    assert [one.refused for one in found] == [None, None, Limit.REQUESTS]
    assert [one.key.requests for one in found] == [1, 2, 2]
    assert {one.key.ends_at for one in found} == {T + 61_000}
    now[0] = T + 60_999
    assert counting.take(asked(rpm=2)).refused is Limit.REQUESTS
    now[0] = T + 61_000
    assert counting.take(asked(rpm=2)).key == limits.Window(T + 61_000, 1, 0)


def test_s4_33_a_raised_limit_counts_in_the_same_window(counting: Counting) -> None:
    counting.take(asked(rpm=1))
    assert counting.take(asked(rpm=1)).refused is Limit.REQUESTS
    assert counting.take(asked(rpm=2)).key.requests == 2


def test_s4_33_tokens_are_reserved_and_corrected_in_their_window(counting: Counting, now: list[int]) -> None:
    first = counting.take(asked(60, tpm=100))
    assert counting.take(asked(60, tpm=100)).refused is Limit.TOKENS
    counting.correct(asked(60, tpm=100), first.key.window_at, -50)
    assert counting.take(asked(60, tpm=100)).key.tokens == 70
    now[0] = T + 60_000
    counting.take(asked(10, tpm=100))
    counting.correct(asked(60, tpm=100), first.key.window_at, -50)
    assert counting.take(asked(10, tpm=100)).key.tokens == 20
    assert counting.take(asked(0, tpm=100)).refused is None


def test_s4_33_more_than_the_whole_limit_takes_the_whole_window(counting: Counting) -> None:
    assert counting.take(asked(10**9, tpm=100)).key.tokens == 100
    assert counting.take(asked(1, tpm=100)).refused is Limit.TOKENS


def test_s4_33_a_users_limit_counts_all_keys_and_is_looked_at_first(counting: Counting) -> None:
    assert counting.take(asked(rpm=9, user_rpm=2)).user == limits.Window(T, 1, 0)
    assert counting.take(replace(asked(rpm=9, user_rpm=2), key_id=8)).refused is None
    refused = counting.take(asked(rpm=9, user_rpm=2))
    assert (refused.refused, refused.key.requests) == (Limit.USER_REQUESTS, 1)


def test_s4_33_a_clock_that_goes_back_a_little_opens_no_window(counting: Counting, now: list[int]) -> None:
    counting.take(asked(rpm=1))
    now[0] = T - 60_000
    assert counting.take(asked(rpm=1)).refused is Limit.REQUESTS
    now[0] = T - 60_001
    assert counting.take(asked(rpm=1)).refused is None


# ------------------------------------------------------------------------------------- Redis alone


def test_s4_33_keys_live_as_long_as_documented(redis_server: RedisServer, now: list[int]) -> None:
    client = redis_server.client()
    client.flushall()

    async def count() -> None:
        counters = SharedCounters(redis_server.url)
        await counters.start()
        await counters.take(asked(5, rpm=3, tpm=9, user_rpm=4))
        for _ in range(2):
            counters.add("user", 1, T, tokens=5, cost_nanos=70)
        counters.add("provider", "openai", T, tokens=5, cost_nanos=30)
        await counters.close()

    asyncio.run(count())
    assert client.hgetall("gw:limit:key:7") == {"at": str(T), "requests": "1", "tokens": "5"}
    assert client.hgetall("gw:limit:user:1") == {"at": str(T), "requests": "1", "tokens": "0"}
    assert 110 < client.ttl("gw:limit:key:7") <= 120
    stem = "gw:day:20270115:user:1"
    assert stem == day_key(T, "user", 1)
    assert [client.get(f"{stem}:{name}") for name in ("requests", "tokens", "cost_nano")] == ["2", "10", "140"]
    assert client.get("gw:day:20270115:provider:openai:cost_nano") == "30"
    assert 47 * 3600 < client.ttl(f"{stem}:requests") <= 48 * 3600
    windows = Windows(redis_server.url)
    assert (windows("key", 7).requests, windows("key", 99).requests) == (1, 0)
    windows.forget("key", 7)
    assert windows("key", 7).requests == 0


def test_s4_33_a_redis_that_is_gone_is_not_waited_for_and_found_again() -> None:
    if RedisServer.program() is None:
        pytest.skip("Redis is not installed: apt install redis-server")

    async def through(server: RedisServer) -> list[float]:
        loop, waits = asyncio.get_running_loop(), []
        counters = SharedCounters(server.url)
        await counters.start()
        for away, back in ((server.kill, server.start), (server.pause, server.resume)):
            assert await counters.take(asked(rpm=10**6)) is not None
            away()
            assert await counters.take(asked(rpm=10**6)) is None
            for _ in range(100):
                began = loop.time()
                assert await counters.take(asked(rpm=10**6)) is None
                waits.append(loop.time() - began)
            counters.add("user", 1, T, tokens=1, cost_nanos=1)
            back()
            for _ in range(200):
                if counters.up:
                    break
                await asyncio.sleep(0.02)
            assert counters.up
        await counters.close()
        return waits

    with RedisServer() as server:
        waits = sorted(asyncio.run(through(server)))
        assert waits[-3] < 0.005
