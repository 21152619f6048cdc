"""What a key is told of itself, its owner's money and their usage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import CHAT, EMBEDDING, IMAGE, User
from tests.support.upstream import chat_reply, usage_of
from tests.support.world import World, build

COST = "0.003"  # 1000 x 0.6 + 1000 x 2.4 per million


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield build(stack, Path(tmp_path_factory.mktemp("account")) / "home")


def shown(world: World, path: str, user: User) -> dict[str, Any]:
    reply = world.gateway.get(path, user.key)
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    body: dict[str, Any] = reply.json()
    return body


def spend(world: World, user: User) -> None:
    world.openai.script(chat_reply("x", usage_of(1000, 1000)))
    assert world.gateway.chat(user.key, max_tokens=1000).headers["x-gateway-cost"] == COST


def test_a_key_is_told_its_limits_spending_and_what_remains(world: World) -> None:
    user = world.person(key=("--name", "app", "--rpm", "600", "--model", CHAT, "--expires", "30d"))
    spend(world, user)
    body = shown(world, "/v1/key", user)
    assert (body["object"], body["id"], body["name"], body["user"]) == ("key", user.key_id, "app", user.name)
    assert (body["models"], body["limits"]) == ([CHAT], {"rpm": 600, "tpm": None, "max_parallel": None, "user_rpm": None})
    assert (body["spend"], body["remaining"], body["budget"]) == (COST, "4.997", None)
    assert body["expires_at"].endswith("Z")
    assert body["today"] == {"requests": 1, "tokens": 2000, "cost": COST}
    assert user.key not in str(body)


def test_what_remains_is_the_less_of_balance_and_budget(world: World) -> None:
    tight = world.person(key=("--budget", "0.01", "--budget-period", "day"))
    spend(world, tight)
    body = shown(world, "/v1/key", tight)
    assert body["budget"] == {"limit": "0.01", "period": "day", "spent": COST, "held": "0", "remaining": "0.007"}
    assert body["remaining"] == "0.007"
    poor = world.person(balance="0.005", key=("--budget", "1"))
    assert shown(world, "/v1/key", poor)["remaining"] == "0.005"
    assert shown(world, "/v1/key", world.person(balance=None))["remaining"] == "0"


def test_credits_and_usage_are_of_the_user_all_keys_together(world: World) -> None:
    user = world.person("--credit-limit", "2")
    other = User(user.name, world.home.key(user.name), "")
    spend(world, user)
    spend(world, other)
    for one in (user, other):
        credits = shown(world, "/v1/credits", one)
        wanted = {"balance": "4.994", "held": "0", "available": "6.994", "credit_limit": "2", "currency": "USD"}
        assert {name: credits[name] for name in wanted} == wanted
        usage = shown(world, "/v1/usage", one)
        assert usage["today"] == {"requests": 2, "tokens": 4000, "cost": "0.006"}
        assert usage["key_today"] == {"requests": 1, "tokens": 2000, "cost": COST}


def test_provider_names_the_endpoints_that_the_models_can_serve(world: World) -> None:
    body = world.gateway.get("/v1/provider").json()
    assert {"/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/models", "/v1/key"} <= set(body["endpoints"])
    assert {"chat", "responses", "messages"} <= set(body["capabilities"])
    for path in body["endpoints"]:
        assert world.gateway.get(path).status_code in (200, 401, 405), path  # it is there
    for model in (CHAT, "claude-3-5-sonnet-20240620"):
        world.home.ok("models", "disable", model)
    without = world.gateway.get("/v1/provider").json()
    assert not {"/v1/chat/completions", "/v1/responses", "/v1/messages"} & set(without["endpoints"])
    assert {item["id"] for item in world.gateway.get("/v1/models").json()["data"]} >= {EMBEDDING, IMAGE}
