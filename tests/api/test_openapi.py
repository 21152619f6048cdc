"""/openapi.json describes exactly what is served."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from daemon.api.billable import UNIFIED, URL_NAMED
from daemon.api.openapi import document
from daemon.api.openapi.document import FRONT
from daemon.api.openapi.operations import OPERATIONS
from daemon.app import create_app, make_gateway
from daemon.protocols.anthropic_messages import tables as messages
from daemon.protocols.gemini import tables as gemini
from daemon.protocols.openai_chat import tables as chat
from daemon.protocols.openai_responses import tables as responses
from db import __version__, engine, secrets
from db.settings import Settings
from tests.support.gateway import ALIAS, CHAT, make_home
from tests.support.world import World, build

FORMS = {("POST", "/v1/images/edits"), ("POST", "/v1/audio/transcriptions")}  # described, whether they are served or not
FILLED = {"{provider}": "openai", "{model}": CHAT, "{endpoint}": "chat/completions"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield build(stack, Path(tmp_path_factory.mktemp("openapi")) / "home")


@pytest.fixture(scope="module")
def shown(world: World) -> dict[str, Any]:
    reply = world.gateway.get("/openapi.json")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    body: dict[str, Any] = reply.json()
    return body


def operations(shown: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, told)
        for path, item in shown["paths"].items()
        for method, told in item.items()
        if method != "parameters"
    ]


def filled(path: str) -> str:
    return re.sub(r"\{\w+\}", lambda found: FILLED[found[0]], path)


# ------------------------------------------------------------------------------------------------ the document


def test_it_is_valid_openapi_3_1(shown: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(shown).validate()
    assert shown["openapi"].startswith("3.1")
    assert shown["info"]["version"] == __version__
    assert shown["servers"] == [{"url": "/"}]


def test_every_reference_leads_somewhere_and_every_component_is_used(shown: dict[str, Any]) -> None:
    text = json.dumps(shown)
    references = set(re.findall(r'"\$ref": "#/components/([^"]+)"', text))
    there = {f"{kind}/{name}" for kind, group in shown["components"].items() if kind != "securitySchemes" for name in group}
    assert references == there


def test_ids_of_operations_are_unique_and_all_are_described(shown: dict[str, Any]) -> None:
    ids = [told.get("operationId") for _, _, told in operations(shown)]
    assert None not in ids
    assert len(ids) == len(set(ids))
    for _, path, told in operations(shown):
        assert told["summary"], path
        assert set(told["responses"]) - {"200"}, path


def test_the_public_base_url_is_the_server() -> None:
    made = document([("/health", "GET")], title="g", server="https://gateway.example.org")
    assert made["servers"] == [{"url": "https://gateway.example.org"}]


# ------------------------------------------------------------------------------------------------ what is served


def test_every_route_is_described_and_every_description_is_of_a_route(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")

    async def rules() -> set[tuple[str, str]]:
        gateway = await make_gateway(Settings(), secrets.load_master_keys(home.home / "master.key"))
        found = {
            (method, rule.rule)
            for rule in create_app(gateway).url_map.iter_rules()
            for method in rule.methods or ()
            if method != "OPTIONS" and (method != "HEAD" or (method, rule.rule) in OPERATIONS)
        }
        await gateway.store.close()
        gateway.tokens.close()
        return found

    engine.open_database(home.database)
    try:
        served = asyncio.run(rules()) | {(method, rule) for rule, method in FRONT}
    finally:
        engine.close_connection()
    assert served <= set(OPERATIONS), "a route without a line in daemon/api/openapi/operations.py"
    assert set(OPERATIONS) - served <= FORMS, "a line without a route"
    assert {("POST", path) for path in (*UNIFIED, *URL_NAMED)} <= served


def test_every_described_path_answers_as_described(world: World, shown: dict[str, Any]) -> None:
    for method, path, told in operations(shown):
        reply = world.gateway.client.request(method, filled(path), headers={"Accept": "application/json"})
        needs_key = told.get("security") is None
        wanted = 401 if needs_key else 200
        assert reply.status_code == wanted, (method, path, reply.text)
        declared = told["responses"][str(wanted)]
        assert "$ref" in declared or wanted == 200
        assert reply.headers["x-request-id"]


def test_methods_that_are_not_described_are_not_served(world: World, shown: dict[str, Any]) -> None:
    for path, item in shown["paths"].items():
        if path.startswith("/v1/{provider}"):
            continue
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            if method.lower() in item:
                continue
            reply = world.gateway.client.request(method, filled(path), headers=world.gateway.headers(world.alice.key))
            assert reply.status_code in (404, 405), (method, path)


# ------------------------------------------------------------------------------------------------ schemas


def valid(shown: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({"$ref": "#/schema", "schema": schema, "components": shown["components"]}).validate(value)


def errors_of(shown: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator({"$ref": "#/schema", "schema": schema, "components": shown["components"]})
    return [error.message for error in validator.iter_errors(value)]


def reply_schema(shown: dict[str, Any], told: dict[str, Any], reply: httpx.Response) -> dict[str, Any]:
    declared = told["responses"][str(reply.status_code)]
    if "$ref" in declared:
        declared = shown["components"]["responses"][declared["$ref"].rpartition("/")[2]]
    schema: dict[str, Any] = declared["content"]["application/json"]["schema"]
    return schema


@pytest.mark.parametrize("headers", [{}, {"anthropic-version": "2023-06-01"}, {"x-goog-api-client": "x"}])
def test_replies_of_the_gateway_itself_are_as_described(world: World, shown: dict[str, Any], headers: dict[str, str]) -> None:
    looked_at = 0
    for method, path, told in operations(shown):
        if method != "GET" or path in ("/metrics", "/v1/{provider}/{endpoint}"):
            continue
        for key in (world.alice.key, None, "sk-gw-wrong"):
            for name in (CHAT, ALIAS, f"OpenAI%23{CHAT}", "nothing"):
                target = path.replace("{model}", name).replace("{provider}", "openai")
                reply = world.gateway.get(target, key, headers=headers)
                valid(shown, reply_schema(shown, told, reply), reply.json())
                looked_at += 1
                if "{model}" not in path:
                    break
    assert looked_at > 50


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("/v1/chat/completions", chat.REQUEST),
        ("/v1/responses", responses.REQUEST),
        ("/v1/messages", messages.REQUEST),
        ("/v1beta/models/{model}:generateContent", gemini.REQUEST),
    ],
)
def test_bodies_tell_every_field_that_the_protocol_knows(
    shown: dict[str, Any], path: str, table: dict[str, tuple[str, str]]
) -> None:
    schema = shown["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    told = shown["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    assert set(told["properties"]) == {name for name in table if "." not in name}
    assert all(told["properties"][name]["x-in-translation"] == table[name][0] for name in told["properties"])
    assert told["additionalProperties"] is True
    untyped = [name for name, field in told["properties"].items() if not {"type", "anyOf", "$ref", "enum"} & set(field)]
    assert len(untyped) < len(table) / 3, untyped  # what is not well known


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        (
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stop": None, "foo": 1},
            {"model": "m", "messages": [{"role": "wizard", "content": "hi"}]},
        ),
        ("/v1/responses", {"model": "m", "input": "hi"}, {"model": "m", "input": 1}),
        (
            "/v1/messages",
            {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
            {"model": "m", "messages": []},
        ),
        ("/v1beta/models/{model}:generateContent", {"contents": [{"parts": [{"text": "hi"}]}]}, {"contents": []}),
        (
            "/v1/embeddings",
            {"model": "m", "input": ["a", "b"], "dimensions": 8},
            {"model": "m", "input": "a", "dimensions": "8"},
        ),
        ("/v1/rerank", {"model": "m", "query": "q", "documents": ["a"]}, {"model": "m", "query": "q", "documents": []}),
    ],
)
def test_bodies_take_what_is_right_and_not_what_is_wrong(shown: dict[str, Any], path: str, good: Any, bad: Any) -> None:
    schema = shown["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert errors_of(shown, schema, good) == []
    assert errors_of(shown, schema, bad)
