"""S3: one base URL, status, and what errors look like (S3-01, S3-03, S3-11 … S3-14, S3-16, S3-17)."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from daemon.api import errors
from tests.support.gateway import CHAT, CLAUDE, OPENAI_SECRET, SECRET, ask, make_home
from tests.support.upstream import Stall, closed_port_url, error_reply, json_reply
from tests.support.world import ENVELOPE, World, build, error_of, raw_exchange

NOW_IN_S = 1_000_000_000


# ------------------------------------------------------------------------------------------------ S3-01


def test_s3_01_one_base_url_serves_every_provider(world: World) -> None:
    assert world.gateway.chat(world.alice.key, model=CHAT).status_code == 200
    assert (len(world.openai.requests), len(world.claude.requests)) == (1, 0)
    assert world.gateway.chat(world.alice.key, model=CLAUDE).status_code == 200
    assert (len(world.openai.requests), len(world.claude.requests)) == (1, 1)


# ------------------------------------------------------------------------------------------------ S3-03


def status_of(world: World) -> dict[str, Any]:
    body = world.gateway.get("/api/status").json()
    assert set(body) == {"success", "message", "data"}
    assert (body["success"], body["message"]) == (True, "")
    data: dict[str, Any] = body["data"]
    return data


def test_s3_03_status_has_the_shape_and_leaks_nothing(world: World) -> None:
    data = status_of(world)
    wanted = {"version", "start_time", "uptime_seconds", "system_name", "server_address", "docs_link", "status", "upstreams"}
    assert wanted <= set(data)
    assert data["status"] == "up"
    names = {upstream["name"] for upstream in data["upstreams"]}
    assert {"OpenAI", "Claude"} <= names
    for upstream in data["upstreams"]:
        assert set(upstream) == {"name", "status", "latency_ms", "checked_at"}
        assert upstream["status"] in {"up", "down", "paused", "no_keys", "unknown"}
    text = world.gateway.get("/api/status").text
    for hidden in (str(world.openai.port), "base_url", OPENAI_SECRET, "sk-"):
        assert hidden not in text


def test_s3_03_it_answers_at_once_and_without_a_limit(world: World) -> None:
    world.openai.always([Stall()])  # nothing waits for a provider
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert world.gateway.get("/api/status").status_code == 200
        took.append(time.monotonic() - began)
    assert sorted(took)[10] < 0.1
    assert world.openai.requests == []


def test_s3_03_uptime_grows_and_a_restart_is_seen(tmp_path: Path) -> None:
    home = make_home(tmp_path, fake_clock=True)
    home.clock.stand_at(NOW_IN_S)
    with home.start() as gateway:
        first = gateway.get("/api/status").json()["data"]
        assert (first["start_time"], first["uptime_seconds"]) == (NOW_IN_S, 0)
        home.clock.stand_at(NOW_IN_S + 75)
        later = gateway.get("/api/status").json()["data"]
        assert (later["start_time"], later["uptime_seconds"]) == (NOW_IN_S, 75)
        assert gateway.stop() == 0
    with home.start() as again:
        data = again.get("/api/status").json()["data"]
        assert (data["start_time"], data["uptime_seconds"]) == (NOW_IN_S + 75, 0)


def test_s3_03_the_state_of_a_provider_shows_at_once(own: World) -> None:
    def state() -> str:
        return str(next(one["status"] for one in status_of(own)["upstreams"] if one["name"] == "OpenAI"))

    own.home.ok("providers", "pause", "openai")
    assert state() == "paused"
    own.home.ok("providers", "resume", "openai")
    own.home.ok("credentials", "disable", "openai/default")
    assert state() == "no_keys"
    own.home.ok("credentials", "enable", "openai/default")
    assert own.gateway.chat(own.alice.key).status_code == 200
    assert state() == "up"
    own.home.ok("providers", "update", "openai", "--base-url", f"{closed_port_url()}/v1")
    assert own.gateway.chat(own.alice.key).status_code == 502
    assert state() == "down"


# ------------------------------------------------------------------------------------------------ S3-11


def test_s3_11_unknown_routes_and_methods_answer_in_json(world: World) -> None:
    for path in ("/v1/nothing", "/nowhere", "/v1/chat", "/v1/chat/completions/more", "/v1/usage/x/y"):
        error = error_of(world.gateway.post(path, world.alice.key, ask()), 404, "unknown_url")
        assert error["message"].startswith("Unknown request URL: POST /")
    for method, path, allow in (
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", f"/v1/models/{CHAT}", "GET, HEAD"),
        ("POST", "/v1/models/a/b", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
    ):
        reply = world.gateway.client.request(method, path, headers={"Accept": "text/html"})
        error_of(reply, 405, "method_not_allowed")
        assert reply.headers["allow"] == allow


def test_s3_11_too_large_a_body_is_413_in_json(world: World) -> None:
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {world.alice.key}\r\nContent-Length: {65 * 1024 * 1024}\r\n\r\n"
    )
    status, headers, body = raw_exchange(world.gateway, head.encode())
    assert (status, headers["content-type"]) == (413, "application/json")
    assert json.loads(body)["error"]["code"] == "payload_too_large"


def test_s3_11_a_defect_is_500_in_json_without_its_words() -> None:
    app = Quart("defective")
    errors.install(app)

    @app.get("/defect")
    async def defect() -> str:
        raise RuntimeError("secret words of a traceback")

    async def ask_it() -> tuple[int, str, bytes]:
        reply = await app.test_client().get("/defect")
        return reply.status_code, reply.headers["content-type"], await reply.get_data(as_text=False)

    status, content_type, body = asyncio.run(ask_it())
    assert (status, content_type) == (500, "application/json")
    error = json.loads(body)["error"]
    assert set(error) >= ENVELOPE
    assert error["code"] == "internal_error"
    assert b"secret words" not in body
    assert b"RuntimeError" not in body


# ------------------------------------------------------------------------------------------------ S3-12


def test_s3_12_revoked_disabled_and_expired_keys_are_401(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = build(stack, tmp_path / "home", fake_clock=True)
        made = {name: world.home.json("keys", "create", "--user", "alice", "--name", name) for name in ("a", "b")}
        expiring = world.home.json("keys", "create", "--user", "alice", "--expires", "1d")
        for key in (*made.values(), expiring):
            assert world.gateway.chat(key["key"]).status_code == 200
        world.home.ok("keys", "revoke", made["a"]["id"], "--yes")
        world.home.ok("keys", "disable", made["b"]["id"])
        world.home.clock.forward(86_401)
        for key in (*made.values(), expiring):
            error = error_of(world.gateway.chat(key["key"]), 401, "invalid_api_key")
            assert error["message"].startswith("Invalid API key")
        assert world.gateway.chat(world.alice.key).status_code == 200


# ------------------------------------------------------------------------------------------------ S3-13


def test_s3_13_without_funds_402_until_a_credit_limit(world: World) -> None:
    poor = world.person(balance=None)
    reply = world.gateway.chat(poor.key)
    error = error_of(reply, 402, "insufficient_balance")
    assert error["type"] == "insufficient_quota"
    assert error["message"].startswith("Insufficient credit balance")
    assert "top up or lower max_tokens" in error["message"]
    assert reply.headers["x-should-retry"] == "false"
    world.home.ok("users", "update", poor.name, "--credit-limit", "1")
    assert world.gateway.chat(poor.key).status_code == 200
    assert float(world.home.balance(poor.name)) < 0


def test_s3_13_a_capped_key_is_402_while_another_of_the_user_is_not(world: World) -> None:
    user = world.person()
    capped = world.home.key(user.name, "--budget", "0.000001", "--budget-period", "day")
    error = error_of(world.gateway.chat(capped), 402, "key_budget_exceeded")
    assert error["type"] == "insufficient_quota"
    assert "budget" in error["message"]
    assert world.gateway.chat(user.key).status_code == 200


# ------------------------------------------------------------------------------------------------ S3-14


def test_s3_14_three_causes_one_body(world: World) -> None:
    disabled = world.model()
    world.home.ok("models", "disable", disabled)
    bodies = set()
    for name in ("never-heard-of", disabled, SECRET):
        reply = world.gateway.chat(world.alice.key, model=name)
        error = error_of(reply, 404, "model_not_found")
        assert error["message"] == f"The model `{name}` does not exist or you do not have access to it."
        bodies.add(reply.content.replace(name.encode(), b"NAME"))
    assert len(bodies) == 1
    assert world.openai.requests == []


# ------------------------------------------------------------------------------------------------ S3-16


def test_s3_16_an_upstream_500_is_a_sanitised_502(world: World) -> None:
    host = f"127.0.0.1:{world.openai.port}"
    world.openai.always(error_reply(500, f"{OPENAI_SECRET} was refused by {host} in /srv/app.py line 7"))
    for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
        for stream in (False, True):
            reply = world.gateway.chat(world.alice.key, path=path, stream=stream)
            error = error_of(reply, 502, "upstream_error")
            assert error["type"] == "upstream_error"
            shown = reply.text + str(reply.headers)
            for hidden in (OPENAI_SECRET, "127.0.0.1", str(world.openai.port), "app.py"):
                assert hidden not in shown


def test_s3_16_a_closed_port_is_502_within_the_connect_timeout(world: World) -> None:
    model = world.model(provider=world.provider("--connect-timeout", "2", url=closed_port_url()))
    began = time.monotonic()
    reply = world.gateway.chat(world.alice.key, model=model)
    assert time.monotonic() - began < 2
    error_of(reply, 502, "upstream_error")


def test_s3_16_a_provider_that_hangs_is_504(world: World) -> None:
    world.openai.always([Stall()])
    model = world.model(provider=world.provider("--first-byte-timeout", "1"))
    before = world.home.balance("alice")
    began = time.monotonic()
    reply = world.gateway.chat(world.alice.key, model=model)
    assert 0.9 < time.monotonic() - began < 3
    error_of(reply, 504, "upstream_timeout")
    assert len(world.openai.requests) == 1  # not sent twice
    assert world.home.balance("alice") == before


# ------------------------------------------------------------------------------------------------ S3-17


def with_two_credentials(world: World) -> tuple[str, str]:
    """A model of a provider with the credentials sk-first-… and sk-second-…."""
    slug = world.provider(secret="sk-first-credential")
    world.home.ok("credentials", "add", slug, "--from-env", "S", "--name", "second", env={"S": "sk-second-credential"})
    return slug, world.model(provider=slug)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_s3_17_a_refused_credential_gives_way_to_the_next(world: World, status: int) -> None:
    slug, model = with_two_credentials(world)
    good = json_reply({"choices": [{"message": {"role": "assistant", "content": "ok"}}]})
    bad = error_reply(status, "Incorrect API key provided: sk-first-credential")

    def answer(request: Any) -> Any:
        return bad if request.header("authorization") == "Bearer sk-first-credential" else good

    world.openai.always(answer)
    for _ in range(4):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    assert {request.header("authorization") for request in world.openai.requests} == {
        "Bearer sk-first-credential",
        "Bearer sk-second-credential",
    }
    listed = {one["name"]: one for one in world.home.json("credentials", "list", slug)}
    assert str(status) in listed["default"]["last_error"]
    assert not listed["second"]["last_error"]
    assert "sk-first-credential" not in json.dumps(listed)


@pytest.mark.parametrize("status", [401, 402, 403])
def test_s3_17_when_all_are_refused_it_is_our_502(world: World, status: int) -> None:
    slug, model = with_two_credentials(world)
    world.openai.always(error_reply(status, "You exceeded your current quota, please check your plan: sk-first-credential"))
    before = world.home.balance("alice")
    for stream in (False, True):
        reply = world.gateway.chat(world.alice.key, model=model, stream=stream)
        error_of(reply, 502, "upstream_error")
        assert "quota" not in reply.text
        assert "sk-first" not in reply.text
        assert {row["status"] for row in world.home.json("credentials", "list", slug)} == {"benched"}
        error_of(world.gateway.chat(world.alice.key, model=model, stream=stream), 503, "no_active_api_keys")
        for row in world.home.json("credentials", "list", slug):
            world.home.ok("credentials", "enable", row["id"])
    assert len(world.openai.requests) == 4  # each credential once
    assert world.home.balance("alice") == before
