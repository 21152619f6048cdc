"""S2: model lists, provider information, health, allow-lists of keys (S2-15 … S2-19, S2-21, S2-22)."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from db import __version__
from tests.support.gateway import ALIAS, CHAT, CLAUDE, IMAGE, OPENAI_SECRET, SECRET, make_home
from tests.support.postgres import Server
from tests.support.world import World, build, error_of

FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "object": str,
    "owned_by": str,
    "name": str,
    "created": int,
    "description": str,
    "pricing": dict,
    "context_length": (int, type(None)),
    "max_output_length": (int, type(None)),
    "input_modalities": list,
    "output_modalities": list,
    "supported_sampling_parameters": list,
    "supported_features": list,
}


def listed(world: World, key: str | None = None, path: str = "/v1/models") -> dict[str, dict[str, Any]]:
    reply = world.gateway.get(path, key)
    assert reply.status_code == 200, reply.text
    return {item["id"]: item for item in reply.json()["data"]}


# ------------------------------------------------------------------------------------------------ S2-15


def test_s2_15_the_list_is_public_and_complete(world: World) -> None:
    items = listed(world)
    for item in items.values():
        for field, kind in FIELDS.items():
            assert isinstance(item[field], kind), (item["id"], field)
        assert item["object"] == "model"
    assert items[CHAT]["pricing"] == {"prompt": "0.0000006", "completion": "0.0000024"}
    assert "tools" in items[CHAT]["supported_features"]


def test_s2_15_prices_are_strings_without_exponent(world: World) -> None:
    tiny = world.model(price=("0.0001", "0"))
    items = listed(world)
    assert items[tiny]["pricing"] == {"prompt": "0.0000000001", "completion": "0"}
    for item in items.values():
        for price in item["pricing"].values():
            assert re.fullmatch(r"\d+(\.\d+)?", price), (item["id"], price)


def test_s2_15_private_disabled_and_unpriced_models_are_absent(world: World) -> None:
    private, disabled, unpriced = world.model("--private"), world.model(), world.unpriced_model()
    world.home.ok("models", "disable", disabled)
    items = listed(world)
    for name in (SECRET, private, disabled, unpriced):
        assert not [item for item in items if name in item]
        error_of(world.gateway.get(f"/v1/models/{name}"), 404, "model_not_found")


def test_s2_15_nothing_of_the_upstream_shows(world: World) -> None:
    host = world.provider("--name", "Shown", secret="sk-upstream-hidden-1234")
    world.model("--upstream", "their-inner-name-7", provider=host)
    for path in ("/v1/models", "/v1/provider", "/api/status"):
        for key in (None, world.alice.key):
            text = world.gateway.get(path, key).text
            for hidden in (OPENAI_SECRET, "sk-upstream-hidden-1234", "their-inner-name-7", str(world.openai.port)):
                assert hidden not in text, (path, hidden)


def test_s2_15_the_answer_depends_on_the_key_and_says_so(world: World) -> None:
    anonymous, known = world.gateway.get("/v1/models"), world.gateway.get("/v1/models", world.bob.key)
    for reply in (anonymous, known):
        assert {part.strip().lower() for part in reply.headers["vary"].split(",")} >= {"authorization", "x-api-key"}
    assert known.headers["cache-control"] == "no-store"
    assert SECRET in {item["id"] for item in known.json()["data"]}
    error_of(world.gateway.get("/v1/models", "sk-gw-wrong"), 401, "invalid_api_key")  # never silently anonymous


def test_s2_15_a_setting_closes_the_anonymous_list(tmp_path: Path) -> None:
    with ExitStack() as stack:
        closed = build(stack, tmp_path / "home", env={"GATEWAYCTL_LIST_MODELS_ANONYMOUSLY": "false"})
        error_of(closed.gateway.get("/v1/models"), 401, "missing_api_key")
        error_of(closed.gateway.get(f"/v1/models/{CHAT}"), 401, "missing_api_key")
        assert CHAT in listed(closed, closed.alice.key)


# ------------------------------------------------------------------------------------------------ S2-16


def test_s2_16_further_prices_are_present_iff_set(world: World) -> None:
    plain = world.model()
    full = world.model(
        "--price", "cached_input=0.3", "--price", "cache_write_5m=0.75", "--price", "image=0.04", "--price", "request=0.002"
    )  # fmt: skip
    items = listed(world)
    assert set(items[plain]["pricing"]) == {"prompt", "completion"}
    assert items[full]["pricing"] == {
        "prompt": "0.0000006",
        "completion": "0.0000024",
        "input_cache_reads": "0.0000003",
        "input_cache_writes": "0.00000075",
        "image": "0.04",
        "request": "0.002",
    }


def test_s2_16_public_prices_hold_the_models_multiplier_and_a_key_adds_its_own(world: World) -> None:
    model = world.model("--multiplier", "1.5", price=("2", "10"))
    dear = world.person("--multiplier", "1.2")
    assert listed(world)[model]["pricing"] == {"prompt": "0.000003", "completion": "0.000015"}
    shown = listed(world, dear.key)[model]
    assert shown["pricing"] == {"prompt": "0.000003", "completion": "0.000015"}
    assert shown["effective_pricing"] == {"prompt": "0.0000036", "completion": "0.000018"}


# ------------------------------------------------------------------------------------------------ S2-17


def test_s2_17_one_model_is_a_bare_object_under_every_name(world: World) -> None:
    for name in (CHAT, ALIAS, f"OpenAI%23{CHAT}"):
        body = world.gateway.get(f"/v1/models/{name}").json()
        assert body["id"] == name.replace("%23", "#")
        assert body["object"] == "model"
        assert "data" not in body


def test_s2_17_unknown_and_private_are_404_for_strangers(world: World) -> None:
    error_of(world.gateway.get("/v1/models/nope"), 404, "model_not_found")
    error_of(world.gateway.get(f"/v1/models/{SECRET}"), 404, "model_not_found")
    error_of(world.gateway.get(f"/v1/models/{SECRET}", world.alice.key), 404, "model_not_found")
    assert world.gateway.get(f"/v1/models/{SECRET}", world.bob.key).json()["id"] == SECRET


# ------------------------------------------------------------------------------------------------ S2-18


def test_s2_18_provider_describes_the_gateway(own: World) -> None:
    reply = own.gateway.get("/v1/provider")
    assert reply.status_code == 200
    body = reply.json()
    wanted = {"object", "id", "name", "description", "version", "base_url", "endpoints", "capabilities", "modalities",
              "model_count", "docs_url", "pricing_url", "status_url", "auth", "rate_limits"}  # fmt: skip
    assert wanted <= set(body)
    assert (body["object"], body["version"], body["auth"]) == ("provider", __version__, {"type": "bearer"})
    assert {"chat", "streaming", "tools", "json_mode", "embeddings", "images"} <= set(body["capabilities"])
    assert body["model_count"] == 4
    for upstream in (own.openai, own.claude):
        assert str(upstream.port) not in reply.text

    own.home.ok("models", "disable", IMAGE)
    without = own.gateway.get("/v1/provider").json()
    assert "images" not in without["capabilities"]
    assert {"chat", "embeddings"} <= set(without["capabilities"])
    assert without["model_count"] == 3


# ------------------------------------------------------------------------------------------------ S2-19


def test_s2_19_health_has_exactly_these_keys(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with home.start(env={"GATEWAYCTL_SERVICE_NAME": "altllm-gateway"}) as gateway:
        wanted = {"status": "healthy", "service": "altllm-gateway", "version": __version__}
        for path in ("/health", "/health/", "//health"):
            reply = gateway.get(f"{gateway.url}{path}")
            assert (reply.status_code, reply.json()) == (200, wanted)


def test_s2_19_health_is_not_rate_limited(world: World) -> None:
    for _ in range(200):
        reply = world.gateway.get("/health")
        assert reply.status_code == 200
        assert "x-ratelimit-limit" not in reply.headers


def test_s2_19_without_its_database_it_is_unhealthy(postgres: Server, tmp_path: Path) -> None:
    url = postgres.new_database()
    with make_home(tmp_path, url=url).start() as gateway:
        postgres.drop(url)
        reply = gateway.get("/health")
        assert reply.status_code == 503
        assert reply.json()["status"] == "unhealthy"
        assert set(reply.json()) == {"status", "service", "version"}
        assert gateway.get("/health").status_code == 503  # and it still answers


# ------------------------------------------------------------------------------------------------ S2-21


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{CLAUDE}", "/v1/provider", "/health", "/api/status"])
def test_s2_21_public_answers_carry_no_limit(world: World, path: str) -> None:
    for reply in (world.gateway.get(path), world.gateway.get(path)):
        assert reply.status_code == 200
        assert not [name for name in reply.headers if name.startswith("x-ratelimit")]


# ------------------------------------------------------------------------------------------------ S2-22


def test_s2_22_a_key_is_held_to_its_models(world: World) -> None:
    key = world.home.key(world.alice.name, "--model", CHAT)
    error_of(world.gateway.chat(key, model=CLAUDE), 404, "model_not_found")
    assert world.gateway.chat(key, model=CHAT).status_code == 200
    assert world.gateway.chat(key, model=ALIAS).status_code == 200
    assert world.gateway.chat(key, model=f"OpenAI#{CHAT}").status_code == 200
    assert set(listed(world, key)) == {CHAT, ALIAS, f"OpenAI#{CHAT}"}
    error_of(world.gateway.get(f"/v1/models/{CLAUDE}", key), 404, "model_not_found")
    by_alias = world.home.key(world.alice.name, "--model", ALIAS)
    assert world.gateway.chat(by_alias, model=CHAT).status_code == 200
    assert world.claude.requests == []


def test_s2_22_a_key_can_be_disabled_and_enabled(world: World) -> None:
    made = world.home.json("keys", "create", "--user", world.alice.name)
    assert world.gateway.chat(made["key"]).status_code == 200
    world.home.ok("keys", "disable", made["id"])
    error_of(world.gateway.chat(made["key"]), 401, "invalid_api_key")
    error_of(world.gateway.get("/v1/models", made["key"]), 401, "invalid_api_key")
    world.home.ok("keys", "enable", made["id"])
    assert world.gateway.chat(made["key"]).status_code == 200
