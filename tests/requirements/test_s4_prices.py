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


def test_s4_23_the_size_that_the_provider_chose_is_billed(world: World) -> None:
    painter = world.name("painter")
    options = ("--price", "image=0.05", "--price", "image/1024x1024/high=0.17")
    world.home.ok("models", "add", painter, "--provider", "openai", "--type", "image", *options, "--group", "g1")
    made = {"created": 1, "data": [{"url": "a"}], "size": "1024x1024", "quality": "high"}
    world.openai.script(json_reply(made), json_reply(made), json_reply(made | {"size": "512x512"}))
    body = {"model": painter, "prompt": "a cat"}
    costs = [
        charged(world, world.gateway.post("/v1/images/generations", world.alice.key, body | asked))
        for asked in ({}, {"size": "512x512"}, {"size": "1024x1024"})
    ]
    # Where the request names a size, that is what is paid for, whatever the reply says.
    assert costs == ["0.17", "0.05", "0.05"]


def test_s4_23_tokens_of_images_have_prices_of_their_own(world: World) -> None:
    painter = world.name("painter")
    prices = ("input=5", "image_input=10", "output=8", "image_output=40", "cached_input=1")
    options = [word for price in prices for word in ("--price", price)]
    world.home.ok("models", "add", painter, "--provider", "openai", "--type", "image", *options, "--group", "g1")
    usage = {
        "input_tokens": 150, "input_tokens_details": {"text_tokens": 50, "image_tokens": 100, "cached_tokens": 20},
        "output_tokens": 1010, "output_tokens_details": {"text_tokens": 10, "image_tokens": 1000}, "total_tokens": 1160,
    }  # fmt: skip
    world.openai.script(json_reply({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}))
    reply = world.gateway.post("/v1/images/generations", world.alice.key, {"model": painter, "prompt": "a cat"})
    # 30 x 5 + 20 x 1 + 100 x 10 + 10 x 8 + 1000 x 40 per million
    assert charged(world, reply) == "0.04125"


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
        kept = asked in ("priority", "flex") or served in ("priority", "flex")
        assert record["service_tier"] == (served if kept else None)
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


SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search"}}
TOKENS = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}


def response(**fields: Any) -> dict[str, Any]:
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": []}]}
    return {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "m",
        "usage": TOKENS,
        "output": [message],
        **fields,
    }


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/openai/responses"])
def test_s4_32_hosted_tools_only_where_the_models_entry_says_what_they_cost(world: World, path: str) -> None:
    provider = world.provider("--chat-api", "both")
    if "openai" in path:
        path = f"/v1/{provider}/responses"
    model = world.model("--context-length", "1000", provider=provider, price=("1", "0"))
    person = world.person(balance="0.0229")
    body = {"model": model, "input": "news?", "tools": [{"type": "web_search"}], "max_output_tokens": 50}
    error = error_of(world.gateway.post(path, person.key, body), 400, "unsupported_parameter")
    assert f"models update {model} --hosted-tool web_search=CALLS" in error["message"]
    assert world.openai.requests == []

    world.home.ok("models", "update", model, "--hosted-tool", "web_search=2", "--price", "hosted_call/web_search=0.01")
    # Two calls, and the window thrice: 0.02 + 0.003.
    error_of(world.gateway.post(path, person.key, body), 402, "insufficient_balance")
    world.openai.script(json_reply(response(output=[SEARCH])))
    reply = world.gateway.post(path, person.key, body | {"max_tool_calls": 1})  # 0.01 + 0.002
    assert charged(world, reply) == "0.0101"
    assert world.openai.requests[0].json["tools"] == [{"type": "web_search"}]
    record = world.home.record_of(reply.headers["x-request-id"])
    assert record["usage"] == {"input": 100, "output": 10, "hosted_call/web_search": 1}
    many = body | {"max_tool_calls": 3}
    assert "allows 2 calls" in error_of(world.gateway.post(path, person.key, many), 400, "invalid_value")["message"]


@pytest.mark.parametrize(
    "fields",
    [{"tools": [{"type": "web_search"}]}, {"mcp_servers": [{}]}, {"previous_response_id": "r"}, {"service_tier": "priority"}],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/openai/completions", "/v1/openai/something", "/v1/chat/completions"])
def test_s4_32_no_endpoint_lets_them_pass_by(world: World, path: str, fields: dict[str, Any]) -> None:
    if path == "/v1/chat/completions" and not fields.keys() & {"tools", "service_tier"}:
        fields = {"tools": [{"type": "code_interpreter"}]}  # this API has none of the others
    body = {"model": world.model(price=("1", "1")), "prompt": "x", "messages": [{"role": "user", "content": "x"}], **fields}
    error_of(world.gateway.post(path, world.alice.key, body), 400, "unsupported_parameter")
    assert world.openai.requests == []


def test_s4_32_hosted_tools_of_the_messages_api(world: World) -> None:
    slug = world.name("host")
    world.home.ok("providers", "add", slug, "--protocol", "anthropic", "--base-url", f"{world.claude.url}/v1", "--no-auth")
    options = ("--context-length", "1000", "--hosted-tool", "web_search=1", "--price", "hosted_call=0.01")
    model = world.model(*options, provider=slug, price=("1", "0"))
    usage = {"input_tokens": 100, "output_tokens": 10, "server_tool_use": {"web_search_requests": 1}}
    told = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "x"}]}
    world.claude.script(json_reply(told | {"stop_reason": "end_turn", "usage": usage}))
    body = {
        "model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "news?"}],
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}],
    }  # fmt: skip
    assert charged(world, world.gateway.post("/v1/messages", world.alice.key, body)) == "0.0101"
    body["tools"][0]["max_uses"] = 2
    reply = world.gateway.post("/v1/messages", world.alice.key, body)
    assert (reply.status_code, "allows 1 calls" in reply.text) == (400, True)


def test_s4_32_stored_state_only_with_the_feature_and_held_as_a_whole_window(world: World) -> None:
    provider = world.provider("--chat-api", "both")
    model = world.model("--context-length", "1000", provider=provider, price=("1", "0"))
    person = world.person(balance="0.0009")
    body = {"model": model, "input": "go on", "previous_response_id": "resp_1", "max_output_tokens": 50}
    error = error_of(world.gateway.post("/v1/responses", person.key, body), 400, "unsupported_parameter")
    assert (error["param"], "--feature stored_responses" in error["message"]) == ("previous_response_id", True)
    features = ("--feature", "streaming", "--feature", "tools", "--feature", "stored_responses")
    world.home.ok("models", "update", model, *features)
    error_of(world.gateway.post("/v1/responses", person.key, body), 402, "insufficient_balance")
    world.openai.script(json_reply(response()))
    reply = world.gateway.post("/v1/responses", world.alice.key, body)
    assert charged(world, reply) == "0.0001"
    assert world.openai.requests[0].json["previous_response_id"] == "resp_1"


@pytest.mark.parametrize(
    ("usage", "believed"),
    [
        (usage_of(5, 10_040), True),
        (usage_of(5, 10_041), False),
        (usage_of(20_000, 5), False),
        (usage_of(5, 999_999_999), False),
    ],
)
def test_s4_32_a_usage_beyond_all_bounds_is_estimated_instead_of_draining_the_balance(
    world: World, usage: dict[str, Any], believed: bool
) -> None:
    model = world.model(price=("1", "1"))
    person = world.person(balance="1")
    world.openai.script(chat_reply("a few words", usage), list(sse(chat_frames(["a few words"], usage))))
    for stream in (False, True):
        reply = world.gateway.chat(person.key, model=model, stream=stream, max_tokens=10)
        record = world.home.record_of(reply.headers["x-request-id"])
        assert record["estimated"] is not believed
        assert record["usage"]["output"] == 10_040 if believed else record["usage"]["output"] < 10
        assert (Decimal(record["charged"]) < Decimal("0.0001")) is not believed
        if not stream and not believed:
            assert reply.json()["usage"]["completion_tokens"] < 10


# ------------------------------------------------------------------------------------------------ what a record holds


def test_s4_31_a_record_keeps_its_meters_prices_and_the_amount_of_each_line(world: World) -> None:
    model = world.model("--price", "request=0.001", "--multiplier", "1.5", price=("2", "10"))
    world.openai.script(chat_reply("x", usage_of(25, 50)))
    reply = world.gateway.chat(world.alice.key, model=model)
    assert charged(world, reply) == "0.002325"
    detail = world.home.json("usage", "show", reply.headers["x-request-id"])
    assert [(line["meter"], line["count"], line["price"], line["multiplier"], line["amount"]) for line in detail["lines"]] == [
        ("input", 25, "2", "1.5", "0.000075"),
        ("output", 50, "10", "1.5", "0.00075"),
        ("request", 1, "0.001", "1.5", "0.0015"),
    ]
    assert (detail["lines_cost"], detail["capped"], detail["absorbed"]) == ("0.002325", "0", "0")
    text = world.home.ok("usage", "show", reply.headers["x-request-id"]).out
    assert ("per request" in text, "total" in text) == (True, True)


def test_s4_31_old_requests_are_priced_again(world: World) -> None:
    model = world.model(price=("2", "10"))
    person = world.person(balance="1")
    world.openai.always(chat_reply("x", usage_of(100, 100)))
    for _ in range(3):
        assert charged(world, world.gateway.chat(person.key, model=model)) == "0.0012"
    assert world.home.balance(person.name) == "0.9964"
    world.home.ok("models", "update", model, "--output-price", "5")
    words = ("usage", "recompute", "--model", model)
    found = world.home.json(*words, "--dry-run")["summary"]
    assert (found["differing"], found["credit"], found["charge"], world.home.balance(person.name)) == (
        3,
        "0.0015",
        "0",
        "0.9964",
    )
    assert world.home.run(*words).code == 5
    for _ in range(2):
        world.home.ok(*words, "--yes")
        assert world.home.balance(person.name) == "0.9979"
    assert charged(world, world.gateway.chat(person.key, model=model)) == "0.0007"
