"""The list of models in OpenAI's, Anthropic's and Gemini's shape, read by the clients of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.support.gateway import ALIAS, CHAT, CLAUDE, EMBEDDING, IMAGE, SECRET
from tests.support.world import World, build

ANTHROPIC = {"anthropic-version": "2023-06-01"}
GOOGLE = {"x-goog-api-client": "google-genai-sdk/3.4.0 gl-python/3.11"}
PUBLIC = {CHAT, ALIAS, f"OpenAI#{CHAT}", CLAUDE, f"Claude#{CLAUDE}", EMBEDDING, f"OpenAI#{EMBEDDING}", IMAGE, f"OpenAI#{IMAGE}"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        made = build(stack, Path(tmp_path_factory.mktemp("lists")) / "home")
        made.home.ok("models", "update", CLAUDE, "--display-name", "Claude 3.5 Sonnet", "--context-length", "200000")
        made.home.ok("models", "update", CLAUDE, "--max-output", "8192", "--description", "An older one.")
        yield made


def anthropic_of(world: World, path: str = "/v1/models", key: str | None = None, **query: Any) -> dict[str, Any]:
    reply = world.gateway.get(path, key, headers=ANTHROPIC, params=query)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def gemini_of(world: World, path: str = "/v1beta/models", key: str | None = None, **query: Any) -> dict[str, Any]:
    reply = world.gateway.get(path, key, params=query)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


# ------------------------------------------------------------------------------------------------ which shape


@pytest.mark.parametrize(
    ("path", "headers", "field"),
    [
        ("/v1/models", {}, "object"),
        ("/api/models", {"x-api-key": "KEY"}, "object"),
        ("/v1/models", ANTHROPIC, "has_more"),
        ("/models", ANTHROPIC, "has_more"),
        ("/v1/v1/models", ANTHROPIC, "has_more"),
        ("/v1/anthropic/models", ANTHROPIC, "has_more"),
        ("/v1/anthropic/v1/models", ANTHROPIC, "has_more"),
        ("/v1beta/models", {}, "models"),
        ("/v1beta/models", ANTHROPIC, "models"),
        ("/v1/v1beta/models", {}, "models"),
        ("/v1/openai/v1beta/models", {}, "models"),
        ("/v1beta/openai/models", {}, "object"),
        ("/v1/models", GOOGLE, "models"),
        ("/v1/models", {"x-goog-api-key": "KEY"}, "models"),
        ("/v1/models?key=KEY", {}, "object"),  # a key in a URL is not looked at
    ],
)
def test_the_request_says_whose_shape_it_wants(world: World, path: str, headers: dict[str, str], field: str) -> None:
    key = world.alice.key
    sent = {name: value.replace("KEY", key) for name, value in headers.items()}
    reply = world.gateway.get(path, headers=sent)
    assert reply.status_code == 200, reply.text
    assert {"object", "has_more", "models"} & set(reply.json()) == {field}
    varies = {part.strip().lower() for part in reply.headers["vary"].split(",")}
    assert {"authorization", "x-api-key", "x-goog-api-key", "x-goog-api-client", "anthropic-version"} <= varies
    assert reply.headers.get("cache-control") == ("no-store" if "KEY" in str(headers) else None)


def test_every_shape_lists_what_the_caller_may_use(world: World) -> None:
    for key, hidden in ((None, True), (world.alice.key, True), (world.bob.key, False)):
        ids = {item["id"] for item in anthropic_of(world, key=key, limit=1000)["data"]}
        names = {item["name"] for item in gemini_of(world, key=key, pageSize=1000)["models"]}
        assert (SECRET in ids, f"models/{SECRET}" in names) == (not hidden, not hidden)


def test_the_filters_hold_for_every_shape(world: World) -> None:
    assert {item["id"] for item in anthropic_of(world, type="embedding")["data"]} == {EMBEDDING, f"OpenAI#{EMBEDDING}"}
    assert {item["baseModelId"] for item in gemini_of(world, type="image")["models"]} == {IMAGE}


def test_a_bad_key_is_401_in_every_shape(world: World) -> None:
    for path, headers in (("/v1/models", ANTHROPIC), ("/v1beta/models", {}), ("/v1/models", GOOGLE)):
        reply = world.gateway.get(path, "sk-gw-wrong", headers=headers)
        assert reply.status_code == 401
        assert "Invalid API key" in reply.json()["error"]["message"]


# ------------------------------------------------------------------------------------------------ Anthropic


def test_anthropic_entries_have_what_its_clients_read(world: World) -> None:
    items = {item["id"]: item for item in anthropic_of(world)["data"]}
    assert set(items) == PUBLIC
    claude = items[CLAUDE]
    assert claude == {
        "type": "model", "id": CLAUDE, "display_name": "Claude 3.5 Sonnet", "created_at": claude["created_at"],
        "lifecycle": "active", "max_input_tokens": 200_000, "max_tokens": 8192,
    }  # fmt: skip
    assert items[f"Claude#{CLAUDE}"] == claude | {"id": f"Claude#{CLAUDE}", "canonical_id": CLAUDE}
    one = world.gateway.get(f"/v1/models/{CLAUDE}", headers=ANTHROPIC)
    assert one.json() == claude


def test_anthropic_pages_forwards_and_backwards_meet_every_model_once(world: World) -> None:
    whole = [item["id"] for item in anthropic_of(world, limit=1000)["data"]]
    assert len(whole) == len(set(whole)) == len(PUBLIC)
    for limit in (1, 2, 4, len(whole), len(whole) + 1):
        seen: list[str] = []
        query: dict[str, Any] = {"limit": limit}
        for _ in range(len(whole) + 1):
            body = anthropic_of(world, **query)
            ids = [item["id"] for item in body["data"]]
            assert (body["first_id"], body["last_id"]) == (ids[0], ids[-1])
            seen += ids
            if not body["has_more"]:
                break
            query["after_id"] = body["last_id"]
        assert seen == whole
        back: list[str] = []
        query = {"limit": limit, "before_id": whole[-1]}
        for _ in range(len(whole) + 1):
            body = anthropic_of(world, **query)
            back = [item["id"] for item in body["data"]] + back
            if not body["has_more"]:
                break
            query["before_id"] = body["first_id"]
        assert back == whole[:-1]


def test_an_empty_anthropic_page_says_so(world: World) -> None:
    last = anthropic_of(world)["last_id"]
    assert anthropic_of(world, after_id=last) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("query", "param"),
    [({"limit": "0"}, "limit"), ({"limit": "x"}, "limit"), ({"limit": "-1"}, "limit"), ({"after_id": "nope"}, "after_id"),
     ({"before_id": SECRET}, "before_id"), ({"before_id": CHAT, "after_id": CHAT}, "before_id")],
)  # fmt: skip
def test_a_wrong_place_in_anthropics_list_is_400_in_its_envelope(world: World, query: dict[str, str], param: str) -> None:
    reply = world.gateway.get("/v1/models", headers=ANTHROPIC, params=query)
    assert reply.status_code == 400
    body = reply.json()
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
    assert param in body["error"]["message"]


def test_a_model_that_is_not_there_is_404_in_anthropics_envelope(world: World) -> None:
    for name in ("nothing", SECRET):
        body = world.gateway.get(f"/v1/models/{name}", world.alice.key, headers=ANTHROPIC).json()
        assert (body["type"], body["error"]["code"]) == ("error", "model_not_found")
        assert body["request_id"]


def test_the_anthropic_sdk_lists_and_retrieves(world: World) -> None:
    for base in ("", "/v1", "/v1/anthropic", "/api", "/ai/v1"):
        sdk = anthropic.Anthropic(base_url=world.gateway.url + base, api_key=world.alice.key, max_retries=0)
        models = {model.id: model for model in sdk.models.list(limit=2)}  # pages by itself
        wanted = {CLAUDE, f"Claude#{CLAUDE}"} if base == "/v1/anthropic" else PUBLIC
        assert set(models) == wanted
        assert models[CLAUDE].created_at.year >= 2024
        assert (models[CLAUDE].display_name, models[CLAUDE].max_tokens) == ("Claude 3.5 Sonnet", 8192)
        assert sdk.models.retrieve(f"Claude#{CLAUDE}").id == f"Claude#{CLAUDE}"
        with pytest.raises(anthropic.NotFoundError):
            sdk.models.retrieve(SECRET)


# ------------------------------------------------------------------------------------------------ Gemini


def test_gemini_entries_have_what_its_clients_read(world: World) -> None:
    items = {item["name"]: item for item in gemini_of(world)["models"]}
    assert set(items) == {f"models/{name.replace('#', '/')}" for name in PUBLIC}  # `#` would end the URL it is put into
    claude = items[f"models/{CLAUDE}"]
    assert claude == {
        "name": f"models/{CLAUDE}", "baseModelId": CLAUDE, "version": "1", "displayName": "Claude 3.5 Sonnet",
        "description": "An older one.", "inputTokenLimit": 200_000, "outputTokenLimit": 8192, "thinking": False,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    }  # fmt: skip
    assert items[f"models/{EMBEDDING}"]["supportedGenerationMethods"] == []
    for name in (CLAUDE, f"Claude/{CLAUDE}", f"Claude%2F{CLAUDE}", f"Claude%23{CLAUDE}"):
        one = world.gateway.get(f"/v1beta/models/{name}").json()
        assert one == claude | {"name": f"models/{name.replace('%2F', '/').replace('%23', '#')}"}


def test_gemini_pages_meet_every_model_once(world: World) -> None:
    whole = [item["name"] for item in gemini_of(world)["models"]]
    for size in (1, 2, 4, len(whole), len(whole) + 1):
        seen: list[str] = []
        query: dict[str, Any] = {"pageSize": size}
        for _ in range(len(whole) + 1):
            body = gemini_of(world, **query)
            seen += [item["name"] for item in body["models"]]
            if "nextPageToken" not in body:
                break
            query["pageToken"] = body["nextPageToken"]
        assert seen == whole
    assert [item["name"] for item in gemini_of(world, pageSize=0)["models"]] == whole


@pytest.mark.parametrize("query", [{"pageSize": "x"}, {"pageSize": "-1"}, {"pageToken": "!"}, {"pageToken": "bm9wZQ=="}])
def test_a_wrong_place_in_geminis_list_is_400(world: World, query: dict[str, str]) -> None:
    reply = world.gateway.get("/v1beta/models", params=query)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert next(iter(query)) in error["message"]


def test_a_model_that_is_not_there_is_404_in_googles_envelope(world: World) -> None:
    for path, headers in ((f"/v1beta/models/{SECRET}", {}), (f"/v1/models/{SECRET}", GOOGLE)):
        reply = world.gateway.get(path, world.alice.key, headers=headers)
        assert (reply.status_code, reply.json()["error"]["status"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_the_google_sdk_lists_and_gets(world: World, version: str) -> None:
    genai = pytest.importorskip("google.genai")
    options = {"base_url": world.gateway.url, "api_version": version}
    sdk = genai.Client(api_key=world.alice.key, http_options=options)
    models = {model.name: model for model in sdk.models.list(config={"page_size": 2})}
    assert set(models) == {f"models/{name.replace('#', '/')}" for name in PUBLIC}
    assert models[f"models/{CLAUDE}"].input_token_limit == 200_000
    assert "countTokens" in models[f"models/{CHAT}"].supported_actions
    for name in models:
        assert sdk.models.get(model=name).name == name
    with pytest.raises(genai.errors.ClientError) as caught:
        sdk.models.get(model=SECRET)
    assert caught.value.code == 404
