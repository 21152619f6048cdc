"""S1: base URLs, names of models, keys, standing, browsers (requirements S1-01 … S1-20)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.gateway import ALIAS, CHAT, CLAUDE, Home, ask, make_home
from tests.support.upstream import chat_reply, json_reply, usage_of
from tests.support.world import World, error_of, raw_exchange

BASES = ("", "/v1", "/api", "/api/v1", "/ai", "/ai/v1")
JSON = {"Accept": "application/json"}
HASH_CLAUDE = "Claude#Claude-3-5-Sonnet-20240620"


def without_chance(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("id", "created")}


# ------------------------------------------------------------------------------------------------ S1-01


def test_s1_01_every_base_url_answers_alike(world: World) -> None:
    chats = [world.gateway.chat(world.alice.key, path=f"{base}/chat/completions") for base in BASES]
    lists = [world.gateway.get(f"{base}/models", world.alice.key, headers=JSON) for base in BASES]
    assert [reply.status_code for reply in chats + lists] == [200] * 12
    assert all(without_chance(reply.json()) == without_chance(chats[0].json()) for reply in chats)
    assert all(reply.json() == lists[0].json() for reply in lists)
    assert {request.path for request in world.openai.requests} == {"/v1/chat/completions"}


@pytest.mark.parametrize("base", BASES)
def test_s1_01_slashes_are_forgiven_without_a_redirect(world: World, base: str) -> None:
    for spelling in (f"{base}/chat/completions/", f"{base}//chat/completions", f"/{base}/chat//completions//"):
        reply = world.gateway.post(f"{world.gateway.url}{spelling}", world.alice.key, ask("to be kept"))
        assert reply.status_code == 200, (spelling, reply.text)
        assert world.openai.requests[-1].json["messages"][0]["content"] == "to be kept"
    for spelling in (f"{base}/models/", f"{base}//models"):
        assert world.gateway.get(f"{world.gateway.url}{spelling}", headers=JSON).status_code == 200


def test_s1_01_api_status_is_not_taken_for_a_prefix(world: World) -> None:
    for spelling in ("/api/status", "/api/status/"):
        body = world.gateway.get(spelling).json()
        assert body["success"] is True
        assert body["data"]["status"] == "up"


# ------------------------------------------------------------------------------------------------ S1-02


def test_s1_02_provider_hash_model_is_resolved_and_echoed(world: World) -> None:
    for name in (HASH_CLAUDE, "claude#claude-3-5-sonnet-20240620", "anthropic#CLAUDE-3-5-SONNET-20240620"):
        reply = world.gateway.chat(world.alice.key, model=name)
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"] == name
        assert world.claude.requests[-1].json["model"] == CLAUDE
    assert world.openai.requests == []


def test_s1_02_a_slash_does_as_well_and_an_exact_id_wins(world: World) -> None:
    for name in (
        f"Claude/{CLAUDE}",
        f"anthropic/{CLAUDE.upper()}",
        f"CLAUDE/{CLAUDE}",
        f"Claude%23{CLAUDE}",
        f"claude%2f{CLAUDE}",
    ):
        reply = world.gateway.chat(world.alice.key, model=name)
        assert (reply.status_code, reply.json()["model"]) == (200, name)
        assert world.claude.requests[-1].json["model"] == CLAUDE
    exact = f"anthropic/{world.name('exact')}"
    for model, provider in ((exact, "openai"), (exact.partition("/")[2], "anthropic")):
        prices = ("--input-price", "1", "--output-price", "1")
        world.home.ok("models", "add", model, "--provider", provider, *prices, "--private", "--group", "g1")
    reply = world.gateway.chat(world.alice.key, model=exact)
    assert (reply.headers["x-gateway-provider"], reply.headers["x-gateway-model"]) == ("openai", exact)
    assert [request.json["model"] for request in world.openai.requests] == [exact]


@pytest.mark.parametrize(
    "name",
    ["Nope#gpt-4o-mini", "OpenAI#", "#x", "#", "OpenAI#nothing", "Nope/gpt-4o-mini", "OpenAI/", "/", "OpenAI%2523gpt-4o-mini"],
)
def test_s1_02_a_wrong_hash_name_is_not_found(world: World, name: str) -> None:
    error_of(world.gateway.chat(world.alice.key, model=name), 404, "model_not_found")
    assert world.openai.requests == []


# ------------------------------------------------------------------------------------------------ S1-03


def test_s1_03_a_hash_in_the_path_is_percent_encoded(world: World) -> None:
    found = world.gateway.get("/v1/models/OpenAI%23gpt-4o-mini")
    assert found.status_code == 200
    assert found.json()["id"] == "OpenAI#gpt-4o-mini"
    cut = error_of(world.gateway.get("/v1/models/OpenAI"), 404, "model_not_found")  # what is left of a raw `#`
    assert "%23" in cut["message"]
    assert "%23" not in error_of(world.gateway.get("/v1/models/other"), 404, "model_not_found")["message"]


def test_s1_03_ids_may_hold_slashes(world: World) -> None:
    name = f"meta-llama/{world.name('Llama-3')}"
    world.home.ok("models", "add", name, "--provider", "openai", "--input-price", "1", "--output-price", "1", "--group", "g1")
    for spelling in (
        name,
        name.replace("/", "%2F"),
        f"OpenAI%23{name}",
        f"openai/{name}",
        f"OPENAI%2F{name}",
        f"OpenAI%2523{name}",
    ):
        assert world.gateway.get(f"/v1/models/{spelling}").status_code == 200, spelling
    assert world.gateway.chat(world.alice.key, model=name).json()["model"] == name


# ------------------------------------------------------------------------------------------------ S1-04


def test_s1_04_openai_sdk_lists_and_chats_under_api(world: World) -> None:
    client = openai.OpenAI(base_url=f"{world.gateway.url}/api", api_key=world.alice.key, max_retries=0)
    models = list(client.models.list())
    assert CHAT in {model.id for model in models}
    assert all(model.object == "model" and model.owned_by and isinstance(model.created, int) for model in models)
    reply = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": "hi"}])
    assert reply.choices[0].message.content == "Hello from the scripted upstream."


def test_s1_04_the_list_has_the_fields_that_the_sdk_types_require(world: World) -> None:
    body = world.gateway.get("/api/models", world.alice.key).json()
    assert body["object"] == "list"
    for item in body["data"]:
        assert (type(item["id"]), item["object"], type(item["created"]), type(item["owned_by"])) == (str, "model", int, str)


# ------------------------------------------------------------------------------------------------ S1-05


def test_s1_05_every_id_that_works_is_listed_and_works(own: World) -> None:
    listed = own.gateway.get("/api/models", own.alice.key).json()["data"]
    ids = {item["id"]: item for item in listed}
    assert {CHAT, f"OpenAI#{CHAT}", ALIAS, f"Claude#{CLAUDE}"} <= set(ids)
    assert ids[f"OpenAI#{CHAT}"]["canonical_id"] == CHAT
    for name, item in ids.items():
        if item["type"] == "chat":
            assert own.gateway.chat(own.alice.key, model=name).status_code == 200, name
    unlisted = "openai#GPT-4O-MINI"
    assert unlisted not in ids
    assert own.gateway.chat(own.alice.key, model=unlisted).json()["model"] == unlisted


# ------------------------------------------------------------------------------------------------ S1-06


def test_s1_06_every_provider_is_paid_from_one_balance(world: World) -> None:
    theirs = world.name("host")
    world.home.ok("providers", "add", theirs, "--protocol", "anthropic", "--base-url", f"{world.claude.url}/v1", "--no-auth")
    claude, user = world.model(provider=theirs, price=("3", "15")), world.person()
    world.openai.script(chat_reply("x", usage_of(1000, 100)))
    world.claude.script(
        json_reply({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "x"}],
                    "stop_reason": "end_turn", "usage": {"input_tokens": 1000, "output_tokens": 100}})
    )  # fmt: skip
    for model in (CHAT, claude):
        assert world.gateway.chat(user.key, model=model, max_tokens=100).status_code == 200
    records = world.home.usage("--user", user.name)
    assert {record["provider"]: record["cost"] for record in records} == {"openai": "0.00084", theirs: "0.0045"}
    assert world.home.balance(user.name) == "4.99466"  # 5 - 0.00084 - 0.0045


# ------------------------------------------------------------------------------------------------ S1-07


def test_s1_07_keys_are_unique_and_only_their_hash_is_stored(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.ok("users", "create", "alice")
    made = [home.json("keys", "create", "--user", "alice", "--name", f"app{n}") for n in (1, 2)]
    assert made[0]["key"] != made[1]["key"]
    assert re.fullmatch(r"sk-gw-[A-Za-z0-9]{8}_[A-Za-z0-9_-]{38,}", made[0]["key"])
    assert made[0]["key"].startswith(made[0]["prefix"])
    dumped = subprocess.run(["sqlite3", str(home.home / "gateway.db"), ".dump"], capture_output=True, text=True, check=True)
    assert made[0]["id"] in dumped.stdout
    for issued in made:
        secret = issued["key"].partition("_")[2]
        for text in (dumped.stdout, *_everything_shown(home, issued["id"])):
            assert secret not in text


def _everything_shown(home: Home, key_id: str) -> list[str]:
    shown = [home.ok("keys", "show", key_id), home.ok("keys", "show", key_id, "--json"), home.ok("keys", "list")]
    shown += [home.ok("keys", "list", "--json"), home.ok("audit", "list", "--json")]
    return [result.out + result.err for result in shown]


# ------------------------------------------------------------------------------------------------ S1-08


def test_s1_08_endpoints_prints_every_base_url(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    printed = home.ok("endpoints", env={"GATEWAYCTL_PUBLIC_BASE_URL": "https://gateway.example.org"}).out
    for path in ("/api", "/api/v1", "/v1", "/v1/openai", "/v1/anthropic", "/ai/v1"):
        assert re.search(rf"https://gateway\.example\.org{path}(\s|$)", printed), path


# ------------------------------------------------------------------------------------------------ S1-09


def test_s1_09_an_old_key_is_named_by_doctor(tmp_path: Path) -> None:
    home = make_home(tmp_path, fake_clock=True)
    home.clock.forward(-200 * 86_400)
    home.ok("users", "create", "alice")
    old = home.json("keys", "create", "--user", "alice")
    home.clock.forward(0)
    young = home.json("keys", "create", "--user", "alice")
    listed = {key["id"]: key for key in home.json("keys", "list")}
    assert listed[old["id"]]["age"] == "200d"
    assert {"created_at", "last_used_at"} <= set(listed[old["id"]])
    warned = [finding for finding in home.run("doctor", "--json").json["checks"] if finding["name"] == "old keys"]
    assert f"alice/{old['id']}, 200 days" in warned[0]["detail"]
    assert f"alice/{young['id']}" not in warned[0]["detail"]


# ------------------------------------------------------------------------------------------------ S1-15


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("Bearer", "invalid_api_key"),
        ("Bearer  x", "invalid_api_key"),
        ("Basic dXNlcjpwYXNzd29yZA==", "invalid_api_key"),
        ("Bearer sk-gw-AAAAAAAA_0123456789012345678901234567890123456789", "invalid_api_key"),
        ("Bearer sk-something-else-altogether", "invalid_api_key"),
    ],
)
def test_s1_15_a_bad_key_is_401(world: World, header: str | None, code: str) -> None:
    reply = world.gateway.post("/v1/chat/completions", body=ask(), headers={"Authorization": header} if header else {})
    error = error_of(reply, 401, code)
    assert error["type"] == "authentication_error"
    assert "Invalid API key" in error["message"]
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert world.openai.requests == []


def test_s1_15_a_wrong_character_is_401(world: World) -> None:
    key = world.alice.key
    for wrong in (key[:-1], key + "x", key[:-1] + ("a" if key[-1] != "a" else "b"), key.upper(), key[6:]):
        error_of(world.gateway.chat(wrong), 401, "invalid_api_key")


@pytest.mark.parametrize("template", ["bearer %s", "BEARER %s", "Bearer   %s", "   Bearer %s   ", "\tBearer %s\t"])
def test_s1_15_case_and_spaces_around_a_good_key_are_forgiven(world: World, template: str) -> None:
    head = f"GET /v1/key HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization:{template % world.alice.key}\r\n\r\n"
    status, _, body = raw_exchange(world.gateway, head.encode())
    assert status == 200, body


# ------------------------------------------------------------------------------------------------ S1-16


def test_s1_16_a_suspended_account_is_403_for_all_its_keys_at_once(world: World) -> None:
    user = world.person()
    other = world.home.key(user.name)
    assert world.gateway.chat(user.key).status_code == 200
    world.home.ok("users", "suspend", user.name)
    for key in (user.key, other):
        error_of(world.gateway.chat(key), 403, "account_suspended")
        error_of(world.gateway.get("/v1/key", key), 403, "account_suspended")
    world.home.ok("users", "activate", user.name)
    assert [world.gateway.chat(key).status_code for key in (user.key, other)] == [200, 200]


# ------------------------------------------------------------------------------------------------ S1-17

ORIGIN = {"Origin": "https://sillytavern.example"}


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/api/chat/completions", "/ai/v1/models", "/v1/openai/chat/completions", "/v1/key"]
)
def test_s1_17_preflight_needs_no_key(world: World, path: str) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-new-header"}
    reply = world.gateway.client.options(path, headers=ORIGIN | asked)
    assert reply.status_code == 204
    assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN["Origin"])
    allowed = {name.strip() for name in reply.headers["access-control-allow-headers"].lower().split(",")}
    wanted = {"authorization", "content-type", "x-api-key", "anthropic-version", "anthropic-beta", "x-stainless-lang"}
    assert wanted | {"x-new-header"} <= allowed
    assert "POST" in reply.headers["access-control-allow-methods"]


def test_s1_17_errors_carry_cors_headers(own: World) -> None:
    own.home.ok("providers", "pause", "openai")
    refused = [
        (own.gateway.post("/v1/chat/completions", None, ask(), headers=ORIGIN), 401),
        (own.gateway.post("/v1/chat/completions", own.alice.key, ask(), headers=ORIGIN), 429),
        (own.gateway.get("/v1/nowhere", headers=ORIGIN), 404),
        (own.gateway.get("/v1/chat/completions", headers=ORIGIN), 405),
        (own.gateway.get("/v1/key", headers=ORIGIN), 401),
    ]
    for reply, status in refused:
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] in ("*", ORIGIN["Origin"])
        exposed = reply.headers["access-control-expose-headers"].lower()
        for name in ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after", "x-request-id"):
            assert name in exposed


# ------------------------------------------------------------------------------------------------ S1-20


def test_s1_20_a_new_user_has_the_models_of_everyone(world: World) -> None:
    for_all = world.name("for-all")
    world.home.ok("models", "add", for_all, "--provider", "openai", "--input-price", "1", "--output-price", "1")
    name = world.name("carol")
    carol = world.home.user(name)
    assert world.home.json("users", "show", name)["groups"] == ["everyone"]
    listed = {item["id"] for item in world.gateway.get("/v1/models", carol.key).json()["data"]}
    assert for_all in listed
    assert CHAT not in listed  # granted to g1 only
    assert world.gateway.chat(carol.key, model=for_all).status_code == 200
