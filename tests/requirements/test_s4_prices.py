"""S4: prices that depend on the request: its length, its service tier, what is made (S4-23, S4-31, S4-32)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.support.upstream import chat_frames, chat_reply, json_reply, sse, usage_of
from tests.support.world import World, error_of

CHAT = "/v1/chat/completions"


def charged(world: World, reply: Any) -> str:
    """What a request that went well cost, as its record and its ledger entry say."""
    assert reply.status_code == 200, reply.text
    record = world.home.record_of(reply.headers["x-request-id"])
    assert record["cost"] == record["charged"]
    return str(record["charged"])


# ------------------------------------------------------------------------------------------------ S4-23


@pytest.mark.parametrize(
    ("size", "quality", "cost"),
    [
        ("1024x1024", "high", "0.34"),
        ("1024x1024", "low", "0.08"),  # the size has a price, this quality has none of its own
        ("512x512", "high", "0.1"),  # as any other image
        ("auto", "high", "0.1"),
        (None, None, "0.1"),
    ],
)
def test_s4_23_images_are_priced_by_size_and_quality(world: World, size: str | None, quality: str | None, cost: str) -> None:
    painter = world.name("painter")
    prices = ("image=0.05", "image/1024x1024=0.04", "image/1024x1024/high=0.17")
    options = [word for price in prices for word in ("--price", price)]
    world.home.ok("models", "add", painter, "--provider", "openai", "--type", "image", *options, "--group", "g1")
    world.openai.script(json_reply({"created": 1, "data": [{"url": "a"}, {"url": "b"}]}))
    asked = {name: value for name, value in (("size", size), ("quality", quality)) if value is not None}
    body = {"model": painter, "prompt": "a cat", "n": 2, **asked}
    reply = world.gateway.post("/v1/openai/images/generations", world.alice.key, body)
    assert charged(world, reply) == cost


def test_s4_23_an_image_whose_size_the_provider_chooses_is_held_at_the_dearest(world: World) -> None:
    painter = world.name("painter")
    options = ("--price", "image=0.05", "--price", "image/1024x1024/high=0.17")
    world.home.ok("models", "add", painter, "--provider", "openai", "--type", "image", *options, "--group", "g1")
    person = world.person(balance="0.169")
    body = {"model": painter, "prompt": "a cat"}
    error_of(world.gateway.post("/v1/openai/images/generations", person.key, body), 402, "insufficient_balance")
    world.openai.script(json_reply({"created": 1, "data": [{"url": "a"}]}))
    reply = world.gateway.post("/v1/openai/images/generations", person.key, body | {"size": "512x512"})
    assert charged(world, reply) == "0.05"


# ------------------------------------------------------------------------------------------------ S4-31


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (usage_of(1000, 100), "0.003"),  # 2 and 10 per million
        (usage_of(1001, 100), "0.007006"),  # 6 and 10: only the input has a step there
        (usage_of(5001, 100), "0.032006"),  # 6 and 20
        (
            usage_of(5001, 100) | {"prompt_tokens_details": {"cached_tokens": 5000}},
            "0.007006",
        ),  # cached ones count for the length
    ],
)
def test_s4_31_long_requests_cost_by_their_step(world: World, usage: dict[str, Any], cost: str) -> None:
    steps = ("input@1000=6", "output@5000=20", "cached_input=0.2", "cached_input@5000=1")
    model = world.model(*(word for step in steps for word in ("--price", step)), price=("2", "10"))
    world.openai.script(chat_reply("x", usage), list(sse(chat_frames(["x"], usage))))
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, "y" * 6000, model=model, stream=stream)
        assert charged(world, reply) == cost
    detail = world.home.json("usage", "show", reply.headers["x-request-id"])
    assert sum(Decimal(line["amount"]) for line in detail["lines"]) == Decimal(cost)


@pytest.mark.parametrize(
    ("asked", "served", "cost"),
    [
        ("priority", "priority", "0.00175"),
        ("priority", "default", "0.001"),
        ("priority", None, "0.00175"),
        ("flex", "flex", "0.0005"),
        ("flex", "default", "0.001"),
        (None, "default", "0.001"),
        ("auto", "flex", "0.0005"),
        ("auto", "priority", "0.001"),
    ],
)
def test_s4_31_the_tier_that_served_it_decides(world: World, asked: str | None, served: str | None, cost: str) -> None:
    model = world.model("--tier", "priority=1.75", "--tier", "flex=0.5", price=("2", "8"))
    said = {} if served is None else {"service_tier": served}
    frames = [frame if isinstance(frame, str) else frame | said for frame in chat_frames(["x"], usage_of(100, 100))]
    whole = {"id": "c", "object": "chat.completion", "model": "m", "usage": usage_of(100, 100), **said}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    world.openai.script(json_reply(whole | {"choices": [choice]}), list(sse(frames)))
    fields = {} if asked is None else {"service_tier": asked}
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, model=model, stream=stream, **fields)
        assert charged(world, reply) == cost
        record = world.home.record_of(reply.headers["x-request-id"])
        assert record["service_tier"] == (served if served in ("priority", "flex") else None)
    assert all(request.json.get("service_tier") == asked for request in world.openai.requests)


# ------------------------------------------------------------------------------------------------ S4-32


def test_s4_32_a_dearer_tier_is_refused_until_it_has_a_price(world: World) -> None:
    model = world.model(price=("0", "10"))
    person = world.person(balance="0.0011")
    for path in (CHAT, "/v1/openai/chat/completions"):
        reply = world.gateway.chat(person.key, model=model, path=path, service_tier="priority", max_tokens=100)
        error = error_of(reply, 400, "unsupported_parameter")
        assert (error["param"], f"models update {model} --tier" in error["message"]) == ("service_tier", True)
    world.home.ok("models", "update", model, "--tier", "priority=1.5")
    reply = world.gateway.chat(person.key, model=model, service_tier="priority", max_tokens=100)
    error_of(reply, 402, "insufficient_balance")  # the hold covers the tier: 0.0015
    world.openai.script(chat_reply("x", usage_of(1, 50)))
    reply = world.gateway.chat(person.key, model=model, service_tier="priority", max_tokens=70)
    assert charged(world, reply) == "0.00075"
    world.home.ok("models", "update", model, "--tier", "priority=none")
    error_of(world.gateway.chat(person.key, model=model, service_tier="priority"), 400, "unsupported_parameter")


def test_s4_32_a_hold_covers_the_step_that_the_prompt_can_reach(world: World) -> None:
    model = world.model("--price", "output@100000=20", "--price", "input@100000=0", price=("0", "10"))
    person = world.person(balance="0.0015")
    assert world.gateway.chat(person.key, model=model, max_tokens=100).status_code == 200
    reply = world.gateway.chat(person.key, "y " * 95_000, model=model, max_tokens=100)
    error_of(reply, 402, "insufficient_balance")
