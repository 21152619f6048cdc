"""Fair use: an allowance a day, a throttle beyond it, lifted by a top-up, visible (S1-10 to S1-14, X-03, X-12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.gateway import CLAUDE, User
from tests.support.upstream import chat_reply, error_reply, usage_of
from tests.support.world import World, build, error_of

NOON = 1_800_014_400  # 2027-01-15T12:00:00Z
MIDNIGHT = NOON + 43_200


@pytest.fixture
def world(tmp_path: Path, new_database: Callable[[], str | None]) -> Iterator[World]:
    """Two workers at noon; the clock moves only when told."""
    with ExitStack() as stack:
        made = build(stack, tmp_path / "home", url=new_database(), workers=2, clock_at=NOON, env={"TZ": "Asia/Ho_Chi_Minh"})
        made.openai.always(lambda _: chat_reply("hi", usage_of(10, 10)))
        yield made


def fair(world: World, allowance: int, *options: str) -> User:
    """A user without money who may ask so often a day."""
    return world.person("--fair-use", f"{allowance}/day", *options, balance=None)


def statuses(world: World, key: str, times: int) -> list[int]:
    return [world.gateway.chat(key).status_code for _ in range(times)]


def test_s1_10_the_daily_allowance_is_the_users_and_free(world: World) -> None:
    user = fair(world, 3)
    other = world.home.key(user.name)
    assert world.gateway.chat(user.key, model="no-such-model").status_code == 404
    assert world.gateway.post("/v1/chat/completions", user.key, b"{").status_code == 400
    assert world.gateway.get("/v1/models", user.key).status_code == 200
    assert statuses(world, user.key, 3) == [200, 200, 200]
    refused = world.gateway.chat(other)
    message = error_of(refused, 429, "daily_limit_throttled")["message"]
    for words in ("3 requests a day", "10 minutes", "top up"):
        assert words in message
    assert world.home.balance(user.name) == "0"
    used = [row for row in world.home.usage("--user", user.name) if row["status"] == "ok"]
    assert len(used) == 3
    assert all(row["charged"] == "0" and Decimal(row["cost"]) > 0 for row in used)
    assert world.gateway.chat(world.alice.key).status_code == 200
    assert world.home.json("ledger", "verify")["ok"] is True


def test_s1_10_it_is_one_allowance_for_all_providers_and_keys_at_once(world: World) -> None:
    user = fair(world, 5)
    keys = [user.key, world.home.key(user.name)]
    models = ("gpt-4o-mini", CLAUDE)
    with ThreadPoolExecutor(20) as pool:
        found = list(
            pool.map(lambda n: world.gateway.chat(keys[n % 2], model=models[n // 2 % 2], max_tokens=10).status_code, range(20))
        )
    assert sorted(found) == [200] * 5 + [429] * 15
    assert world.home.json("users", "show", user.name)["fair_use"]["used_today"] == 5


def test_s1_10_an_upstream_failure_before_the_first_byte_gives_it_back(world: World) -> None:
    user = fair(world, 1)
    world.openai.script(error_reply(500), error_reply(500))
    assert statuses(world, user.key, 2) == [502, 502]
    assert statuses(world, user.key, 2) == [200, 429]
    world.home.clock.stand_at(NOON + 600)
    world.openai.script(error_reply(500))
    assert statuses(world, user.key, 3) == [502, 200, 429]


def test_s1_10_a_group_may_have_it_and_a_default_for_new_users(world: World) -> None:
    group = world.name("club")
    world.home.ok("groups", "create", group, "--fair-use", "2/day")
    user = world.person("--group", group, balance=None)
    own = world.person("--group", group, "--fair-use", "1/day", balance=None)
    assert statuses(world, user.key, 3) == [200, 200, 429]
    assert statuses(world, own.key, 2) == [200, 429]
    world.home.ok("groups", "update", group, "--fair-use", "3/day")
    assert statuses(world, user.key, 2) == [200, 429]
    world.home.ok("groups", "update", group, "--fair-use", "none")
    error_of(world.gateway.chat(user.key), 402, "insufficient_balance")
    made = world.home.run("users", "create", "newcomer", "--json", env={"GATEWAYCTL_DEFAULT_FAIR_USE": "7/day"})
    assert '"limit": 7' in made.out.replace('":7', '": 7')


def test_s1_11_beyond_it_one_request_per_10_minutes(world: World) -> None:
    user = fair(world, 1)
    assert statuses(world, user.key, 2) == [200, 429]
    world.home.clock.stand_at(NOON + 599)
    assert statuses(world, user.key, 1) == [429]
    world.home.clock.stand_at(NOON + 600)
    assert statuses(world, user.key, 2) == [200, 429]
    world.home.clock.stand_at(NOON + 1200)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: world.gateway.chat(user.key).status_code, range(20)))
    assert sorted(found) == [200] + [429] * 19
    world.home.clock.stand_at(MIDNIGHT)
    assert statuses(world, user.key, 2) == [200, 429]
    assert world.home.json("ledger", "verify")["ok"] is True


def test_s1_12_retry_after_says_when_the_next_slot_is(world: World) -> None:
    user = fair(world, 1)
    assert statuses(world, user.key, 1) == [200]
    for passed, wait in ((0, 600), (1, 599), (599, 1)):
        world.home.clock.stand_at(NOON + passed)
        assert world.gateway.chat(user.key).headers["retry-after"] == str(wait)
    late = fair(world, 1)
    world.home.clock.stand_at(MIDNIGHT - 100)
    assert statuses(world, late.key, 1) == [200]
    assert world.gateway.chat(late.key).headers["retry-after"] == "100"
    hourly = fair(world, 1, "--throttle", "1h")
    world.home.clock.stand_at(NOON)
    assert statuses(world, hourly.key, 1) == [200]
    refused = world.gateway.chat(hourly.key)
    assert refused.headers["retry-after"] == "3600"
    assert "1 hour" in error_of(refused, 429, "daily_limit_throttled")["message"]


def test_s1_13_a_top_up_lifts_it_at_once_and_it_returns_when_that_is_spent(world: World) -> None:
    user = fair(world, 1)
    assert statuses(world, user.key, 2) == [200, 429]
    world.home.ok("topup", user.name, "1", "--ref", "inv-1")
    assert statuses(world, user.key, 1) == [200]
    balance = Decimal(world.home.balance(user.name))
    assert balance < 1
    assert world.home.json("topup", user.name, "1", "--ref", "inv-1")["replayed"] is True
    assert Decimal(world.home.balance(user.name)) == balance
    world.home.ok("balances", "adjust", user.name, f"-{balance}", "--reason", "drained", "--yes")
    assert statuses(world, user.key, 1) == [429]


def test_s1_13_what_the_balance_does_not_afford_is_throttled(world: World) -> None:
    user = fair(world, 1)
    world.home.ok("topup", user.name, "0.000001")
    assert [world.gateway.chat(user.key, max_tokens=100).status_code for _ in range(2)] == [200, 429]
    world.home.clock.stand_at(NOON + 600)
    assert [world.gateway.chat(user.key, max_tokens=100).status_code for _ in range(2)] == [200, 429]
    assert world.home.balance(user.name) == "0.000001"


def test_s1_14_it_is_seen_by_command_by_key_and_in_headers(world: World) -> None:
    user = fair(world, 2)
    for used in (1, 2):
        headers = world.gateway.chat(user.key).headers
        assert headers["x-fairuse-limit"] == "2"
        assert headers["x-fairuse-remaining"] == str(2 - used)
        assert headers["x-fairuse-reset"] == str(MIDNIGHT)
        seen = world.gateway.get("/v1/usage", user.key).json()["fair_use"]
        assert (seen["limit"], seen["used_today"], seen["remaining"]) == (2, used, 2 - used)
        assert seen["resets_at"] == "2027-01-16T00:00:00.000Z"
        shown = world.home.json("users", "show", user.name)["fair_use"]
        assert (shown["limit"], shown["used_today"]) == (2, used)
    refused = world.gateway.chat(user.key)
    assert (refused.status_code, refused.headers["x-fairuse-remaining"]) == (429, "0")
    assert world.home.json("users", "show", user.name)["fair_use"]["throttled_until"] == "2027-01-15T12:10:00.000Z"
    assert world.gateway.get("/v1/usage", user.key).json()["fair_use"]["throttled_until"] == "2027-01-15T12:10:00.000Z"
    shown = world.home.json("limits", "show", "--user", user.name)
    assert shown[0]["fair_use"]["used_today"] == 2
    assert "x-fairuse-limit" not in world.gateway.chat(world.alice.key).headers
