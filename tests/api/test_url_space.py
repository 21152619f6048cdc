"""Every endpoint answers under every spelling of its address, never with a redirect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.api.billable import UNIFIED
from tests.support.gateway import Gateway, make_home

PREFIXES = ("", "/v1", "/api", "/api/v1", "/ai", "/ai/v1", "/v1/v1", "/api/v1/v1", "/v1beta/openai", "/v1beta/openai/v1")
GEMINI = ("/v1beta", "/v1", "/api/v1beta", "/ai/v1beta", "/v1beta/v1beta", "/v1/v1beta", "/api/v1/v1beta", "/v1/v1")
PROVIDERS = ("/v1", "/api/v1", "/ai/v1", "/v1/v1")
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = make_home(Path(tmp_path_factory.mktemp("urls")) / "home")
    with home.start() as running:
        yield running
    home.close()


def spellings(path: str) -> list[str]:
    return [path, f"{path}/", f"/{path}", path.replace("/", "//")]


def code_of(gateway: Gateway, method: str, path: str) -> tuple[int, str]:
    """Status and code of a request without a key; Google's form says the code in its details."""
    reply = gateway.client.request(method, gateway.url + path, headers=JSON)
    error = reply.json().get("error", {})
    return reply.status_code, str(error["details"][0]["reason"].lower() if "details" in error else error.get("code"))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_costs_wants_a_key_under_every_prefix(gateway: Gateway, prefix: str) -> None:
    for endpoint in (*UNIFIED, "/v1/messages/count_tokens"):
        for spelling in spellings(prefix + endpoint.removeprefix("/v1")):
            assert code_of(gateway, "POST", spelling) == (401, "missing_api_key"), spelling


@pytest.mark.parametrize("prefix", GEMINI)
def test_so_do_geminis_methods(gateway: Gateway, prefix: str) -> None:
    for method in ("generateContent", "streamGenerateContent", "countTokens"):
        for model in ("gemini-2.5-pro", "OpenAI%23gpt-4o", "meta-llama/Llama-3:8b"):
            for spelling in spellings(f"{prefix}/models/{model}:{method}"):
                assert code_of(gateway, "POST", spelling) == (401, "missing_api_key"), spelling


@pytest.mark.parametrize("prefix", PROVIDERS)
def test_so_do_the_providers_own(gateway: Gateway, prefix: str) -> None:
    for version in ("", "/v1", "/v1/v1"):
        for endpoint in ("chat/completions", "messages", "messages/count_tokens", "responses", "files"):
            for spelling in spellings(f"{prefix}/openai{version}/{endpoint}"):
                assert code_of(gateway, "POST", spelling) == (401, "missing_api_key"), spelling


def test_lists_are_answered_under_every_prefix(gateway: Gateway) -> None:
    for prefix in PREFIXES:
        for spelling in spellings(f"{prefix}/models"):
            reply = gateway.client.get(gateway.url + spelling, headers=JSON)
            assert (reply.status_code, reply.json()["object"]) == (200, "list"), spelling
    for prefix in ("/v1", "/api/v1", "/ai/v1", "/v1/v1"):
        for endpoint in ("key", "credits", "usage"):
            assert code_of(gateway, "GET", f"{prefix}/{endpoint}") == (401, "missing_api_key")
        assert gateway.client.get(f"{prefix}/provider").json()["object"] == "provider"


def test_what_is_no_endpoint_stays_unknown(gateway: Gateway) -> None:
    for path in (
        "/v1",
        "/v1beta",
        "/api",
        "/ai/",
        "/v1/chat",
        "/key",
        "/api/key",
        "/api/ai/models",
        "/v2/models",
    ):
        assert code_of(gateway, "GET", path) == (404, "unknown_url"), path
