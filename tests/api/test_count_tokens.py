"""Counting tokens: by the provider where it can, by the gateway else; free, but not for everybody."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from daemon.domain.estimate import PER_MEDIA, PER_MESSAGE, PER_REPLY, PER_TOOL
from tests.support.gateway import CHAT, EMBEDDING, SECRET
from tests.support.upstream import Answer, Received, Reset, Stall, closed_port_url, error_reply, html_reply, json_reply
from tests.support.world import World, build, refreshed

MESSAGES = "/v1/messages/count_tokens"
PROMPT = "Say hello to everybody in the room."
VERSION = {"anthropic-version": "2023-06-01", "anthropic-beta": "token-counting-2024-11-01"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        made = build(stack, Path(tmp_path_factory.mktemp("count")) / "home")
        for protocol, base in (("anthropic", "v1"), ("gemini", "v1beta")):
            slug, url = f"{protocol}-native", f"{made.claude.url}/{base}"
            made.home.ok("providers", "add", slug, "--protocol", protocol, "--name", slug.title(), "--base-url", url)
            made.home.ok("credentials", "add", slug, "--from-env", "S", env={"S": f"sk-of-{slug}"})
            prices = ("--input-price", "3", "--output-price", "15", "--group", "g1")
            made.home.ok("models", "add", f"my-{protocol}", "--provider", slug, "--upstream", f"their-{protocol}", *prices)
        yield made


@pytest.fixture
def world(built: World) -> Iterator[World]:
    with ExitStack() as stack:
        fresh = refreshed(built, stack)
        for protocol, base in (("anthropic", "v1"), ("gemini", "v1beta")):
            fresh.home.ok("providers", "update", f"{protocol}-native", "--base-url", f"{fresh.claude.url}/{base}")
        yield fresh


def message(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": PROMPT}], **more}


def contents(**more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}], **more}


def of_gemini(model: str) -> str:
    return f"/v1beta/models/{model}:countTokens"


def count(world: World, model: str, *, path: str = MESSAGES, key: str | None = None, **more: Any) -> int:
    """The number of an Anthropic reply that must be whole."""
    reply = world.gateway.post(path, key or world.alice.key, message(model, **more), headers=VERSION)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"input_tokens"}
    found: int = reply.json()["input_tokens"]
    return found


# ------------------------------------------------------------------------------------------------ counted by the provider


def test_an_anthropic_provider_counts_itself(world: World) -> None:
    world.claude.always(json_reply({"input_tokens": 4321, "context_management": {"original_input_tokens": 5000}}))
    body = b'{ "messages":[{"role":"user","content":"hi"}],"model":"my-anthropic", "thinking":{"type":"adaptive"},"new":1.0 }'
    reply = world.gateway.post(f"{MESSAGES}?beta=true", world.alice.key, body, headers=VERSION)
    assert reply.json() == {"input_tokens": 4321, "context_management": {"original_input_tokens": 5000}}
    asked = world.claude.requests[0]
    assert (asked.method, asked.target) == ("POST", "/v1/messages/count_tokens?beta=true")
    assert asked.body == body.replace(b"my-anthropic", b"their-anthropic")  # and no other byte
    assert asked.header("x-api-key") == "sk-of-anthropic-native"
    assert asked.header("anthropic-beta") == VERSION["anthropic-beta"]
    assert world.alice.key.encode() not in asked.everything
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["cost"], record["status"], record["provider"], record["model"]) == (
        "0",
        "ok",
        "anthropic-native",
        "my-anthropic",
    )
    assert record["usage"] == {}


@pytest.mark.parametrize("whole", [False, True])
def test_a_gemini_provider_counts_itself(world: World, whole: bool) -> None:
    theirs = {"totalTokens": 77, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 77}]}
    world.claude.always(json_reply(theirs))
    body = {"generateContentRequest": {"model": "models/my-gemini", **contents()}} if whole else contents()
    for path in (of_gemini("my-gemini"), "/v1/models/my-gemini:countTokens", of_gemini("Gemini-Native%23MY-GEMINI")):
        reply = world.gateway.post(path, None, body, headers={"x-goog-api-key": world.alice.key})
        assert (reply.status_code, reply.json()) == (200, theirs)
        asked = world.claude.requests[-1]
        assert asked.target == "/v1beta/models/their-gemini:countTokens"
        assert asked.header("x-goog-api-key") == "sk-of-gemini-native"
        named = {"model": "models/their-gemini"} if whole else {}
        inner = asked.json["generateContentRequest"] if whole else asked.json
        assert inner == contents() | named


def test_who_is_paused_or_of_another_dialect_is_not_asked(world: World) -> None:
    world.claude.always(json_reply({"input_tokens": 4321}))
    mine = count(world, CHAT)
    assert 0 < mine < 100
    assert world.gateway.post(of_gemini("my-anthropic"), world.alice.key, contents()).json()["totalTokens"] == mine
    assert count(world, "my-gemini") == mine
    world.home.ok("providers", "pause", "anthropic-native")
    assert count(world, "my-anthropic") == mine
    world.home.ok("providers", "resume", "anthropic-native")
    assert world.claude.requests == world.openai.requests == []
    assert count(world, "my-anthropic") == 4321


def failures() -> dict[str, Answer | Callable[[Received], Answer]]:
    return {
        "404": error_reply(404),
        "401": error_reply(401, "sk-of-anthropic-native"),
        "429": error_reply(429),
        "500": error_reply(500),
        "400": error_reply(400, "no such field"),
        "page": html_reply(),
        "no number": json_reply({"input_tokens": "many"}),
        "negative": json_reply({"input_tokens": -1}),
        "a list": json_reply([1]),
        "too long": json_reply({"input_tokens": 1, "x": "x" * 100_000}),
        "reset": [Reset()],
    }


@pytest.mark.parametrize("case", list(failures()))
def test_when_the_provider_does_not_count_well_the_gateway_does(world: World, case: str) -> None:
    world.claude.always(failures()[case])
    assert count(world, "my-anthropic") == count(world, CHAT)
    assert len(world.claude.requests) == 1


def test_a_provider_that_is_silent_or_gone_is_not_waited_for(world: World) -> None:
    world.home.ok("providers", "update", "anthropic-native", "--base-url", f"{closed_port_url()}/v1")
    mine = count(world, CHAT)
    assert count(world, "my-anthropic") == mine
    world.home.ok("providers", "update", "anthropic-native", "--base-url", f"{world.claude.url}/v1")
    world.claude.always([Stall()])
    reply = world.gateway.post(MESSAGES, world.alice.key, message("my-anthropic"), headers=VERSION, timeout=25)
    assert reply.json() == {"input_tokens": mine}


# ------------------------------------------------------------------------------------------------ counted here


def test_the_gateways_count_grows_with_everything_that_a_model_reads(world: World) -> None:
    plain = count(world, CHAT)
    assert 7 <= plain - PER_REPLY - PER_MESSAGE <= 9  # seven words and a full stop
    assert 2 <= count(world, CHAT, system="Be brief.") - plain - PER_MESSAGE <= 4
    tool = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
    assert count(world, CHAT, tools=[tool]) > plain + PER_TOOL
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 5000}}
    with_image = [{"role": "user", "content": [{"type": "text", "text": PROMPT}, image]}]
    assert count(world, CHAT, messages=with_image) == plain + PER_MEDIA
    assert count(world, CHAT, messages=[{"role": "user", "content": PROMPT * 1000}]) > 7000


def test_gemini_bodies_weigh_what_the_same_anthropic_ones_do(world: World) -> None:
    def gemini(**more: Any) -> int:
        reply = world.gateway.post(of_gemini(CHAT), world.alice.key, contents(**more))
        assert reply.status_code == 200, reply.text
        body = reply.json()
        assert body["promptTokensDetails"] == [{"modality": "TEXT", "tokenCount": body["totalTokens"]}]
        return int(body["totalTokens"])

    assert gemini() == count(world, CHAT)
    assert gemini(systemInstruction={"parts": [{"text": "Be brief."}]}) == count(world, CHAT, system="Be brief.")
    assert gemini(system_instruction={"parts": [{"text": "Be brief."}]}) == count(world, CHAT, system="Be brief.")


# ------------------------------------------------------------------------------------------------ who may, and what it costs


def refused(reply: httpx.Response, status: int, word: str) -> None:
    assert reply.status_code == status, reply.text
    assert word in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", [MESSAGES, f"/v1/openai{MESSAGES}", of_gemini("MODEL"), "/v1/models/MODEL:countTokens"])
def test_a_count_is_for_who_may_use_the_model(world: World, path: str) -> None:
    def post(key: str | None, model: str, body: dict[str, Any] | bytes | None = None) -> httpx.Response:
        default = contents() if "MODEL" in path else message(model)
        return world.gateway.post(path.replace("MODEL", model), key, default if body is None else body)

    refused(post(None, CHAT), 401, "Invalid API key")
    refused(post("sk-gw-wrong", CHAT), 401, "Invalid API key")
    refused(post(world.alice.key, SECRET), 404, "does not exist or you do not have access")
    refused(post(world.alice.key, EMBEDDING), 400, "cannot serve this endpoint")
    refused(post(world.alice.key, CHAT, b"{"), 400, "not valid JSON")
    refused(post(world.alice.key, CHAT, {"model": CHAT}), 400, "Missing required parameter")
    if "openai" not in path:
        refused(post(world.alice.key, "nothing"), 404, "does not exist or you do not have access")
    reply = post(world.home.key(world.alice.name, "--model", "my-gemini"), CHAT)
    refused(reply, 404, "does not exist or you do not have access")
    record = world.home.record_of(reply.headers["x-request-id"])
    assert (record["status"], record["http_status"], record["cost"]) == ("refused", 404, "0")


def test_a_count_costs_nothing_and_needs_no_balance(world: World) -> None:
    poor = world.person(balance=None)
    before = world.home.balance("alice")
    assert count(world, CHAT, key=poor.key) == count(world, CHAT)
    assert world.home.balance("alice") == before
    suspended = world.person()
    world.home.ok("users", "suspend", suspended.name)
    refused(world.gateway.post(MESSAGES, suspended.key, message(CHAT)), 403, "suspended")


@pytest.mark.parametrize(
    "prefix", ["", "/v1", "/api", "/api/v1", "/ai/v1", "/v1/v1", "/v1/openai", "/v1/openai/v1", "/api/v1/openai/v1"]
)
def test_every_base_url_counts(world: World, prefix: str) -> None:
    assert count(world, CHAT, path=f"{prefix}/messages/count_tokens") > 0


def test_another_method_is_405_in_the_dialects_envelope(world: World) -> None:
    reply = world.gateway.get(MESSAGES, world.alice.key)
    assert (reply.status_code, reply.headers["allow"], reply.json()["type"]) == (405, "POST", "error")


def test_the_anthropic_sdk_counts(world: World) -> None:
    world.claude.always(json_reply({"input_tokens": 99}))
    for base in ("", "/v1", "/v1/openai"):
        sdk = anthropic.Anthropic(base_url=world.gateway.url + base, api_key=world.alice.key, max_retries=0)
        found = sdk.messages.count_tokens(model=CHAT, messages=[{"role": "user", "content": PROMPT}])
        assert 0 < found.input_tokens < 99
    native = anthropic.Anthropic(base_url=world.gateway.url, api_key=world.alice.key, max_retries=0)
    assert native.messages.count_tokens(model="my-anthropic", messages=[{"role": "user", "content": PROMPT}]).input_tokens == 99
    with pytest.raises(anthropic.NotFoundError):
        native.messages.count_tokens(model=SECRET, messages=[{"role": "user", "content": PROMPT}])


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_the_google_sdk_counts(world: World, version: str) -> None:
    genai = pytest.importorskip("google.genai")
    options = {"base_url": world.gateway.url, "api_version": version}
    sdk = genai.Client(api_key=world.alice.key, http_options=options)
    assert 0 < sdk.models.count_tokens(model=CHAT, contents=PROMPT).total_tokens < 99
    world.claude.always(json_reply({"totalTokens": 99}))
    assert sdk.models.count_tokens(model="my-gemini", contents=PROMPT).total_tokens == 99
    assert json.loads(world.claude.requests[-1].body)["contents"][0]["parts"] == [{"text": PROMPT}]
