"""S4: the providers' own APIs under their names, Anthropic's clients, what everything costs (S4-02, S4-03, S4-04, S4-08)."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.support.gateway import ANTHROPIC_SECRET, CHAT, CLAUDE, IMAGE, OPENAI_SECRET, SECRET
from tests.support.upstream import Answer, Received, json_reply, sse
from tests.support.world import World, error_of

TEXT = "Hello from the scripted upstream."
ASKED: Any = [{"role": "user", "content": "one two three"}]
USAGE = {"input_tokens": 1000, "output_tokens": 1000, "total_tokens": 2000}
COST = "0.003"  # 1000 x 0.6 + 1000 x 2.4 per million


@pytest.fixture
def claude(own: World) -> World:
    """A world whose provider `anthropic` speaks Anthropic's API."""
    own.home.ok("models", "delete", CLAUDE, "--yes")
    own.home.ok("providers", "delete", "anthropic", "--yes")
    own.home.ok("providers", "add", "anthropic", "--base-url", f"{own.claude.url}/v1")  # the preset's protocol
    own.home.ok("credentials", "add", "anthropic", "--from-env", "S", env={"S": ANTHROPIC_SECRET})
    own.home.ok(
        "models", "add", CLAUDE, "--provider", "anthropic", "--input-price", "3", "--output-price", "15", "--group", "g1"
    )
    return own


# ------------------------------------------------------------------------------------------------ S4-02


def responses_server(request: Received) -> Answer:
    body = request.json
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}]}  # fmt: skip
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": body["model"], "status": "completed",
             "output": [item], "usage": USAGE, "error": None, "tools": [], "tool_choice": "auto",
             "parallel_tool_calls": True, "metadata": {}}  # fmt: skip
    if not body.get("stream"):
        return json_reply(whole)
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    events = [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "m", "output_index": 0, "content_index": 0,
         "delta": TEXT, "logprobs": []},
        {"type": "response.completed", "sequence_number": 2, "response": whole},
    ]  # fmt: skip
    return list(sse([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]))


def test_s4_02_openais_responses_are_billed_whole_and_streamed(world: World) -> None:
    world.openai.always(responses_server)
    user = world.person()
    sdk = openai.OpenAI(base_url=f"{world.gateway.url}/v1/openai", api_key=user.key, max_retries=0)
    whole = sdk.responses.create(model=CHAT, input="hi", max_output_tokens=1000)
    assert (whole.output_text, whole.usage and whole.usage.input_tokens) == (TEXT, 1000)
    pieces = [
        event.delta
        for event in sdk.responses.create(model=CHAT, input="hi", max_output_tokens=1000, stream=True)
        if event.type == "response.output_text.delta"
    ]
    assert pieces == [TEXT]
    assert [request.path for request in world.openai.requests] == ["/v1/responses"] * 2
    assert world.openai.requests[0].header("authorization") == f"Bearer {OPENAI_SECRET}"
    records = world.home.usage("--user", user.name)
    assert [(record["endpoint"], record["stream"], record["cost"], record["estimated"]) for record in records] == [
        ("/v1/openai/responses", stream, COST, False) for stream in (True, False)
    ]
    assert world.home.balance(user.name) == "4.994"


# ------------------------------------------------------------------------------------------------ S4-03


@pytest.mark.parametrize("path", ["/v1/anthropic/messages", "/v1/anthropic/v1/messages", "/api/v1/anthropic/messages"])
def test_s4_03_anthropics_messages_carry_our_credential_and_the_clients_version(claude: World, path: str) -> None:
    body = {"model": CLAUDE, "max_tokens": 50, "messages": ASKED}
    sent: tuple[dict[str, str], ...] = (
        {"anthropic-version": "2026-10-21", "anthropic-beta": "one,two", "x-api-key": claude.alice.key},
        {"Authorization": f"Bearer {claude.alice.key}"},
    )
    for headers in sent:
        reply = claude.gateway.post(path, None, body, headers=headers)
        assert reply.status_code == 200, reply.text
        assert reply.json()["content"] == [{"type": "text", "text": TEXT}]
        asked = claude.claude.requests[-1]
        assert (asked.path, asked.json) == ("/v1/messages", body)
        assert asked.header("x-api-key") == ANTHROPIC_SECRET
        assert asked.header("authorization") is None
        assert asked.header("anthropic-version") == headers.get("anthropic-version", "2023-06-01")
        assert asked.header("anthropic-beta") == headers.get("anthropic-beta")
        assert claude.alice.key.encode() not in asked.everything
        record = claude.home.record_of(reply.headers["x-request-id"])
        assert record["usage"] == {"input": 3, "output": 6}


# ------------------------------------------------------------------------------------------------ S4-04


@pytest.mark.parametrize("base", ["", "/v1", "/v1/anthropic", "/api", "/api/v1", "/v1/anthropic/v1", "/ai/v1/anthropic"])
def test_s4_04_the_anthropic_sdk_works_with_every_base_url(claude: World, base: str) -> None:
    sdk = anthropic.Anthropic(base_url=claude.gateway.url + base, api_key=claude.alice.key, max_retries=0)
    whole = sdk.messages.create(model=CLAUDE, max_tokens=50, messages=ASKED)
    assert (whole.model, whole.content[0].to_dict()["text"], whole.usage.output_tokens) == (CLAUDE, TEXT, 6)
    with sdk.messages.stream(model=CLAUDE, max_tokens=50, messages=ASKED) as stream:
        assert "".join(stream.text_stream) == TEXT
    assert {request.path for request in claude.claude.requests} == {"/v1/messages"}
    assert CLAUDE in {model.id for model in sdk.models.list()}
    with pytest.raises(anthropic.NotFoundError if "anthropic" not in base else anthropic.BadRequestError):
        sdk.messages.create(model="no-such-model", max_tokens=50, messages=ASKED)


# ------------------------------------------------------------------------------------------------ S4-08


def pricing(world: World, key: str | None = None) -> dict[str, dict[str, Any]]:
    reply = world.gateway.get("/docs/pricing?format=json", key)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    body = reply.json()
    assert (body["object"], body["currency"]) == ("pricing", "USD")
    assert "multiplier" in body["formula"]
    return {model["id"]: model for model in body["models"]}


def test_s4_08_a_new_price_shows_at_once(world: World) -> None:
    model = world.model("--multiplier", "1.5", "--price", "input@200000=4")
    before = pricing(world)[model]
    assert (before["type"], list(before["prices"])) == ("chat", ["input", "input@200000", "output"])
    assert before["prices"]["input"] == {"unit": "token", "per": 1_000_000, "list": "0.6", "multiplier": "1.5", "price": "0.9"}
    world.home.ok("models", "update", model, "--input-price", "9", "--price", "input@200000=none")
    after = pricing(world)[model]["prices"]
    assert {key: price["price"] for key, price in after.items()} == {"input": "13.5", "output": "3.6"}
    assert pricing(world)[IMAGE]["prices"]


def test_s4_08_a_key_is_told_what_its_owner_pays(world: World) -> None:
    model, dear = world.model("--multiplier", "1.5"), world.person("--multiplier", "1.2")
    shown = pricing(world, dear.key)[model]["prices"]["output"]
    assert (shown["list"], shown["price"], shown["effective"]) == ("2.4", "3.6", "4.32")
    assert "effective" not in pricing(world)[model]["prices"]["output"]
    assert SECRET not in pricing(world)
    assert SECRET in pricing(world, world.bob.key)
    error_of(world.gateway.get("/docs/pricing", "sk-gw-wrong"), 401, "invalid_api_key")


def test_s4_08_what_has_no_price_is_not_shown_as_free(world: World) -> None:
    unpriced, free = world.unpriced_model(), world.model(price=("0", "0"))
    shown = pricing(world)
    assert unpriced not in shown
    assert shown[free]["prices"]["input"]["price"] == "0"
    painter = world.name("painter")
    world.home.ok("models", "add", painter, "--provider", "openai", "--type", "image", "--price", "image=0.04")
    assert pricing(world)[painter]["prices"] == {
        "image": {"unit": "image", "per": 1, "list": "0.04", "multiplier": "1", "price": "0.04"}
    }
