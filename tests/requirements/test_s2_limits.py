"""Limits per key and per user: requests and tokens per minute, parallel requests, and their headers (S2-20, S3-15)."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.support.gateway import CLAUDE, ask
from tests.support.upstream import Stall, Until, chat_frames, chat_reply, error_reply, json_reply, sse, usage_of
from tests.support.world import World, build, error_of, raw_exchange, refreshed

OURS = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


@pytest.fixture(scope="module", params=["database", "redis"])
def _limited(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str | None]
) -> Iterator[World]:
    env = {}
    if request.param == "redis":
        env["GATEWAYCTL_REDIS_URL"] = request.getfixturevalue("redis_server").url
    with ExitStack() as stack:
        home = tmp_path_factory.mktemp("limits") / "home"
        yield build(stack, home, url=new_database(), balance="1000", workers=2, env=env)


@pytest.fixture
def world(_limited: World) -> Iterator[World]:
    """Two workers; users and keys of the test's own."""
    with ExitStack() as stack:
        yield refreshed(_limited, stack)


def figures(reply: httpx.Response) -> tuple[int, int, int]:
    """Limit, remaining, reset."""
    limit, remaining, reset = (int(reply.headers[name]) for name in OURS)
    return limit, remaining, reset


def together(call: Callable[[int], httpx.Response], times: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(call, range(times)))


# ------------------------------------------------------------------------------------------------ S2-20


def test_s2_20_remaining_counts_down_and_then_429(world: World) -> None:
    user = world.person(key=("--rpm", "3"))
    world.openai.always(json_reply({"choices": [], "usage": usage_of(1, 1)}, 200, [("X-RateLimit-Limit", "99999")]))
    replies = [world.gateway.chat(user.key) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert [figures(reply)[:2] for reply in replies] == [(3, 2), (3, 1), (3, 0), (3, 0)]
    [reset] = {figures(reply)[2] for reply in replies}
    wait = int(replies[3].headers["retry-after"])
    assert 1 <= wait <= 60
    assert abs(reset - time.time() - wait) < 2
    message = error_of(replies[3], 429, "rate_limit_exceeded")["message"]
    assert "3 requests per minute" in message
    assert f"{wait} s" in message
    names = [name for name, _ in replies[0].headers.multi_items()]
    assert names.count("x-ratelimit-limit") == 1
    assert len(world.openai.requests) == 3


def test_s2_20_openais_names_stand_beside_them(world: World) -> None:
    user = world.person(key=("--rpm", "10", "--tpm", "100000"))
    reply = world.gateway.chat(user.key, max_tokens=50)
    headers = reply.headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("10", "9")
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert 99_000 < int(headers["x-ratelimit-remaining-tokens"]) < 100_000
    for name in ("requests", "tokens"):
        seconds = headers[f"x-ratelimit-reset-{name}"]
        assert seconds.endswith("s")
        assert 1 <= int(seconds[:-1]) <= 60


def test_s2_20_every_authenticated_reply_carries_them(world: World) -> None:
    gateway, user = world.gateway, world.person(key=("--rpm", "100"))
    calls: list[Callable[[], httpx.Response]] = [
        lambda: gateway.chat(user.key),
        lambda: gateway.chat(user.key, stream=True),
        lambda: gateway.chat(user.key, model="no-such-model"),
        lambda: gateway.post("/v1/chat/completions", user.key, b"{"),
        lambda: gateway.post("/v1/chat/completions", user.key, {"model": 5}),
        lambda: gateway.post("/v1/nobody/chat/completions", user.key, ask()),
        lambda: gateway.post("/v1/openai/files", user.key, {"purpose": "x"}),
        lambda: gateway.post("/v1/openai/chat/completions", user.key, ask()),
        lambda: gateway.post("/v1/messages/count_tokens", user.key, ask(model=CLAUDE)),
        lambda: gateway.get("/v1/models", user.key),
        lambda: gateway.get("/v1/models/no-such-model", user.key),
        lambda: gateway.get("/v1/key", user.key),
        lambda: gateway.get("/v1/credits", user.key),
        lambda: gateway.get("/v1/usage", user.key),
    ]
    resets = set()
    for number, call in enumerate(calls, start=1):
        reply = call()
        limit, remaining, reset = figures(reply)
        assert (limit, remaining) == (100, 100 - number), (number, reply.status_code, reply.text)
        resets.add(reset)
    assert len(resets) == 1
    world.openai.always(error_reply(500))
    assert gateway.chat(user.key).status_code == 502
    assert figures(gateway.chat(user.key))[1] == 100 - len(calls) - 2


def test_s2_20_a_body_that_is_too_large_counts_too(world: World) -> None:
    user = world.person(key=("--rpm", "5"))
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.key}\r\n"
        "Connection: close\r\nContent-Length: 999999999\r\n\r\n"
    )
    status, headers, _ = raw_exchange(world.gateway, head.encode())
    assert (status, headers["x-ratelimit-remaining"]) == (413, "4")


def test_s2_20_two_keys_of_a_user_are_independent_and_none_has_no_headers(world: World) -> None:
    user = world.person(key=("--rpm", "1"))
    assert world.gateway.chat(user.key).status_code == 200
    assert world.gateway.chat(user.key).status_code == 429
    for options in (("--rpm", "1"), ("--rpm", "0"), ()):
        other = world.home.key(user.name, *options)
        reply = world.gateway.chat(other)
        assert reply.status_code == 200
        assert ("x-ratelimit-limit" in reply.headers) is (options == ("--rpm", "1"))
    assert "x-ratelimit-limit" not in world.gateway.get("/health").headers


def test_s2_20_of_20_parallel_calls_exactly_5_are_served(world: World) -> None:
    user = world.person(key=("--rpm", "5"))
    replies = together(lambda _: world.gateway.chat(user.key), 20)
    assert sorted(reply.status_code for reply in replies) == [200] * 5 + [429] * 15
    assert sorted(figures(reply)[1] for reply in replies if reply.status_code == 200) == [0, 1, 2, 3, 4]
    assert len(world.openai.requests) == 5


def test_s2_20_refused_requests_count_and_a_limit_comes_before_other_refusals(world: World) -> None:
    poor = world.person(balance=None, key=("--rpm", "2"))
    assert error_of(world.gateway.chat(poor.key), 402, "insufficient_balance")
    assert world.gateway.chat(poor.key, model="no-such-model").status_code == 404
    for broken in (lambda: world.gateway.chat(poor.key), lambda: world.gateway.post("/v1/chat/completions", poor.key, b"{")):
        reply = broken()
        error_of(reply, 429, "rate_limit_exceeded")
        assert figures(reply)[:2] == (2, 0)
    rows = world.home.usage("--user", poor.name)
    assert [row["error_code"] for row in rows[:2]] == ["rate_limit_exceeded"] * 2


def test_s2_20_a_users_limit_holds_for_all_keys_together(world: World) -> None:
    user = world.person("--rpm", "3", key=("--rpm", "100"))
    second = world.home.key(user.name)
    replies = [world.gateway.chat(key) for key in (user.key, second, user.key, second)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert [figures(reply)[:2] for reply in replies] == [(3, 2), (3, 1), (3, 0), (3, 0)]
    assert "all keys together" in error_of(replies[3], 429, "rate_limit_exceeded")["message"]


def test_s2_20_tokens_are_reserved_before_and_corrected_after(world: World) -> None:
    user = world.person(key=("--tpm", "2000"))
    world.openai.always(lambda _: chat_reply("hi", usage_of(10, 20)))
    first = world.gateway.chat(user.key, max_tokens=1000)
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 1000
    second = world.gateway.chat(user.key, max_tokens=1000)
    assert second.status_code == 200
    assert 2000 - 30 - 1000 - 200 < int(second.headers["x-ratelimit-remaining-tokens"]) < 2000 - 30 - 1000
    world.openai.always(lambda _: chat_reply("hi", usage_of(500, 1400)))
    assert world.gateway.chat(user.key, max_tokens=1000).status_code == 200
    refused = world.gateway.chat(user.key, max_tokens=100)
    assert "2000 tokens per minute" in error_of(refused, 429, "rate_limit_exceeded")["message"]
    assert int(refused.headers["x-ratelimit-remaining-tokens"]) == 2000 - 30 - 30 - 1900


def test_s2_20_a_failure_gives_the_tokens_back(world: World) -> None:
    user = world.person(key=("--tpm", "1500"))
    world.openai.script(error_reply(500), error_reply(500))
    for _ in range(2):
        assert world.gateway.chat(user.key, max_tokens=1000).status_code == 502
    assert world.gateway.chat(user.key, max_tokens=1000).status_code == 200


def test_s2_20_a_request_that_may_need_more_than_the_limit_takes_the_whole_window(world: World) -> None:
    user = world.person(key=("--tpm", "500"))
    reply = world.gateway.chat(user.key, max_tokens=4000)
    assert (reply.status_code, reply.headers["x-ratelimit-remaining-tokens"]) == (200, "0")
    assert world.gateway.chat(user.key, max_tokens=4000).status_code == 429


def test_s2_20_parallel_requests(world: World) -> None:
    user = world.person(key=("--max-parallel", "2"))
    release = threading.Event()
    world.openai.script(*([Until(release), *chat_reply("hi", usage_of(1, 1))] for _ in range(2)))
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(world.gateway.chat, user.key) for _ in range(2)]
        world.openai.wait_for(2)
        third = world.gateway.chat(user.key)
        message = error_of(third, 429, "rate_limit_exceeded")["message"]
        assert "2 requests" in message
        assert third.headers["retry-after"] == "1"
        release.set()
        assert [future.result().status_code for future in running] == [200, 200]
    assert world.gateway.chat(user.key).status_code == 200


def test_s2_20_of_20_parallel_calls_exactly_3_run(world: World) -> None:
    user = world.person(key=("--max-parallel", "3"))
    release = threading.Event()
    world.openai.always(lambda _: [Until(release), *sse(chat_frames(["hi"], usage_of(1, 1)))])
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(world.gateway.chat, user.key, stream=True) for _ in range(20)]
        deadline = time.monotonic() + 10
        while sum(call.done() for call in calls) < 17 and time.monotonic() < deadline:
            time.sleep(0.02)
        release.set()
        assert sorted(call.result().status_code for call in calls) == [200] * 3 + [429] * 17


def test_s2_20_what_a_killed_worker_ran_is_not_counted_for_ever(world: World) -> None:
    user = world.person(key=("--max-parallel", "1"))
    world.openai.script([Stall()])
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(world.gateway.chat, user.key)
        world.openai.wait_for(1)
        for pid in world.gateway.workers():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            call.result()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if world.gateway.chat(user.key).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the slot of the killed worker's request never came back")


def test_s2_20_after_the_reset_it_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path_factory.mktemp("reset") / "home", clock_at=1_800_000_030)
        user = world.person(key=("--rpm", "1"))
        first = world.gateway.chat(user.key)
        assert figures(first) == (1, 0, 1_800_000_090)
        world.home.clock.stand_at(1_800_000_089)
        refused = world.gateway.chat(user.key)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        world.home.clock.stand_at(1_800_000_090)
        again = world.gateway.chat(user.key)
        assert (again.status_code, figures(again)) == (200, (1, 0, 1_800_000_150))
        assert math.isclose(figures(again)[2] - figures(first)[2], 60)


def test_s2_20_explain_says_which_limit_would_refuse(tmp_path_factory: pytest.TempPathFactory) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path_factory.mktemp("explain") / "home")
        user = world.person(key=("--rpm", "1"))
        asked = ("explain", "--key", user.key_id, "--model", "gpt-4o-mini", "--max-tokens", "10")
        assert world.home.json(*asked)["admitted"] is True
        assert world.gateway.chat(user.key).status_code == 200
        found = world.home.run(*asked, "--json")
        told = json.loads(found.out)
        assert (told["admitted"], told["refusal"]["code"]) == (False, "rate_limit_exceeded")
        assert "1 requests per minute" in told["refusal"]["message"]
        assert told["limits"]["requests"] == 1


# ------------------------------------------------------------------------------------------------ S3-15


def test_s3_15_a_raised_limit_counts_from_the_next_call_in_the_same_window(world: World) -> None:
    user = world.person(key=("--rpm", "1"))
    first = world.gateway.chat(user.key)
    assert world.gateway.chat(user.key).status_code == 429
    world.home.ok("keys", "update", user.key_id, "--rpm", "3")
    reply = world.gateway.chat(user.key)
    assert (reply.status_code, figures(reply)) == (200, (3, 1, figures(first)[2]))
    world.home.ok("keys", "update", user.key_id, "--rpm", "none")
    reply = world.gateway.chat(user.key)
    assert (reply.status_code, "x-ratelimit-limit" in reply.headers) == (200, False)
