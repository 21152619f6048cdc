"""What is priced is what is sent: no spelling of a path, a field or a header buys more than its price."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.gateway import CHAT, ask
from tests.support.upstream import json_reply, usage_of
from tests.support.world import World, error_of


def counted_model(world: World, kind: str, price: str) -> str:
    name = world.name(kind)
    world.home.ok("models", "add", name, "--provider", "openai", "--type", kind, "--price", price, "--group", "g1")
    return name


@pytest.mark.parametrize(
    "path",
    [
        "%69mages/generations",
        "images%2Fgenerations",
        "images/generations;x=1",
        "images;x/generations",
        "%2e/images/generations",
    ],
)
def test_a_disguised_path_does_not_make_images_free(world: World, path: str) -> None:
    model = counted_model(world, "image", "image=0.04")
    reply = world.gateway.post(f"/v1/openai/{path}", world.alice.key, {"model": model, "prompt": "x", "n": 2})
    error_of(reply, 403, "endpoint_not_allowed")
    assert world.openai.requests == []


@pytest.mark.parametrize("path", ["images/generations", "Images/generations", "openai/images/generations"])
def test_images_are_counted_wherever_their_endpoint_stands(world: World, path: str) -> None:
    model = counted_model(world, "image", "image=0.04")
    reply = world.gateway.post(f"/v1/openai/{path}", world.alice.key, {"model": model, "prompt": "x", "n": 2})
    assert reply.headers["x-gateway-cost"] == "0.08"


@pytest.mark.parametrize(
    ("kind", "price", "path"),
    [
        ("image", "image=0.04", "responses"),
        ("audio", "character=0.000015", "responses"),
        ("audio", "second=0.0001", "audio/transcriptions"),  # some hosts take a URL in JSON
    ],
)
def test_a_model_sold_by_a_count_is_refused_where_nothing_is_counted(world: World, kind: str, price: str, path: str) -> None:
    model = counted_model(world, kind, price)
    reply = world.gateway.post(f"/v1/openai/{path}", world.alice.key, {"model": model, "input": "x", "url": "http://x/"})
    error_of(reply, 400, "unsupported_endpoint")
    assert world.openai.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "openai/deployments/gpt-9/chat/completions", "deployments/gpt-9/chat/completions", "engines/gpt-9/completions",
        "models/gpt-9:generateContent", "publishers/google/models/gpt-9:predict", "model/gpt-9/invoke", "Models/gpt-9",
        "realtime/client_secrets", "realtime/sessions", "fine_tuning/jobs", "batches", "threads/t/runs", "files",
        "messages/batches", "chat/%63ompletions", "chat/Completions", "chat/completions;x", "x/chat/completions",
    ],
)  # fmt: skip
def test_endpoints_whose_price_the_body_does_not_decide_are_closed(world: World, path: str) -> None:
    error_of(world.gateway.post(f"/v1/openai/{path}", world.alice.key, ask()), 403, "endpoint_not_allowed")
    assert world.openai.requests == []


def test_chat_is_billed_whatever_is_allow_listed(world: World) -> None:
    slug = world.provider("--allow-endpoint", "POST chat/*")
    model = world.model(provider=slug)
    for path in ("chat/completions", "v1/chat/completions"):
        reply = world.gateway.chat(world.alice.key, model=model, path=f"/v1/{slug}/{path}")
        assert reply.headers["x-gateway-cost"] != "0"
    for path in ("chat/%63ompletions", "chat%2Fcompletions", "chat/Completions", "chat/completions;x"):
        reply = world.gateway.chat(world.alice.key, model=model, path=f"/v1/{slug}/{path}")
        error_of(reply, 403, "endpoint_not_allowed")


@pytest.mark.parametrize("field", ["best_of", "n", "num_generations"])
def test_every_choice_is_held_for(world: World, field: str) -> None:
    person = world.person(balance="0.001")
    body = {"model": world.model(price=("0", "10")), "prompt": "x", "max_tokens": 10, field: 20}
    error_of(world.gateway.post("/v1/openai/completions", person.key, body), 402, "insufficient_balance")
    world.openai.script(json_reply({"usage": usage_of(1, 10)}))
    body[field] = 5
    assert world.gateway.post("/v1/openai/completions", person.key, body).status_code == 200


@pytest.mark.parametrize(
    ("path", "field"), [("responses", "max_tokens"), ("messages", "max_output_tokens"), ("completions", "max_new_tokens")]
)
def test_a_limit_that_the_endpoint_does_not_know_bounds_nothing(world: World, path: str, field: str) -> None:
    person = world.person(balance="0.001")
    body = {"model": world.model(price=("0", "10")), "prompt": "x", field: 1}
    reply = world.gateway.post(f"/v1/openai/{path}", person.key, body)
    assert (reply.status_code, world.openai.requests) == (402, []), reply.text


DEARER: list[dict[str, Any]] = [
    {"service_tier": "priority"}, {"service_tier": 7}, {"speed": "fast"}, {"data_sources": [{}]}, {"enable_search": True},
    {"inference_geo": "us"}, {"tools": [{"type": "web_search", "input_schema": {}}]}, {"tools": {"type": "web_search"}},
    {"tools": [{"google_search": {}}]},
]  # fmt: skip
RAW_ONLY: list[dict[str, Any]] = [
    {"prompt": {"id": "stored"}}, {"input": [{"type": "item_reference", "id": "msg_of_somebody"}]}, {"assistant_id": "a"}
]  # fmt: skip


@pytest.mark.parametrize("fields", DEARER)
def test_fields_that_cost_more_are_refused_in_chat(world: World, fields: dict[str, Any]) -> None:
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        reply = world.gateway.chat(world.alice.key, path=path, **fields)
        assert reply.status_code == 400, reply.text
    assert world.openai.requests == []


@pytest.mark.parametrize("fields", DEARER + RAW_ONLY)
def test_fields_that_cost_more_are_refused_elsewhere(world: World, fields: dict[str, Any]) -> None:
    body = {"model": CHAT, "input": "x", "max_output_tokens": 5, **fields}
    error_of(world.gateway.post("/v1/openai/responses", world.alice.key, body), 400, "unsupported_parameter")
    assert world.openai.requests == []


def test_the_usual_tiers_and_tools_of_clients_pass(world: World) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"Model": {}}}}}
    for tier in (None, "auto", "default", "flex"):
        reply = world.gateway.chat(world.alice.key, service_tier=tier, tools=[tool], metadata={"Model": "x"})
        assert reply.status_code == 200, reply.text
    body = {"model": CHAT, "max_tokens": 5, "messages": [], "tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    assert world.gateway.post("/v1/openai/messages", world.alice.key, body).status_code == 200


@pytest.mark.parametrize("name", ["Model", "MODEL", "Max_Tokens", "N", "Best_Of", "Tools", "me\u017f\u017fages", "Stream"])
@pytest.mark.parametrize("path", ["chat/completions", "openai/chat/completions", "openai/responses"])
def test_a_field_written_in_another_case_is_refused(world: World, path: str, name: str) -> None:
    # Go's decoder matches names in any case, and the last one wins.
    body = json.dumps({**ask(), name: 1}, ensure_ascii=False).encode()
    error_of(world.gateway.post(f"/v1/{path}", world.alice.key, body), 400, "invalid_value")
    assert world.openai.requests == []


def test_parts_are_what_they_say(world: World) -> None:
    part = {"type": "text", "text": "x", "Type": "image_url", "image_url": {"url": "http://x/"}}
    for messages in (
        [{"role": "user", "content": [part]}],
        [{"role": "user", "content": "x", "Content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}],
    ):
        for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
            reply = world.gateway.post(path, world.alice.key, {"model": CHAT, "messages": messages})
            error_of(reply, 400, "invalid_value")


@pytest.mark.parametrize(
    "said", ["application/x-www-form-urlencoded", "application/json; charset=utf-7", "multipart/form-data; boundary=x"]
)
def test_a_body_is_sent_as_what_it_was_read_as(world: World, said: str) -> None:
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        world.gateway.post(path, world.alice.key, ask(), headers={"Content-Type": said})
        assert world.openai.requests[-1].header("content-type") == "application/json"


def test_idempotency_keys_of_two_customers_differ(world: World) -> None:
    other = world.person()
    for key in (world.alice.key, world.alice.key, other.key):
        assert world.gateway.post("/v1/chat/completions", key, ask(), headers={"Idempotency-Key": "abc"}).status_code == 200
    first, again, foreign = (request.header("idempotency-key") for request in world.openai.requests)
    assert first == again
    assert first != foreign
    assert "abc" not in (first, foreign)
