"""The URL space: every spelling of every endpoint is one path; what has a name of its own stays."""

from __future__ import annotations

import pytest

from daemon.api.paths import RESERVED, is_model_list, normalise, provider_endpoint
from db.names import RESERVED_SLUGS

UNIFIED = (
    "chat/completions", "completions", "responses", "messages", "messages/count_tokens", "embeddings",
    "images/generations", "images/edits", "audio/speech", "audio/transcriptions", "moderations", "rerank",
    "models", "models/gpt-4o-mini", "models/OpenAI%23gpt-4o-mini", "models/meta-llama/Llama-3", "models/a%2Fb",
    "models/gemini-2.5-pro:generateContent", "provider",
)  # fmt: skip
SELF_SERVICE = ("key", "credits", "usage")
PREFIXES = ("", "/v1", "/api", "/api/v1", "/ai", "/ai/v1")
DOUBLED = ("/v1/v1", "/v1/v1/v1", "/api/v1/v1", "/ai/v1/v1", "/v1beta/v1", "/v1beta/openai", "/v1beta/openai/v1")
GEMINI = ("/v1beta", "/api/v1beta", "/ai/v1beta", "/v1beta/v1beta", "/v1/v1beta", "/api/v1/v1beta")
PREFIXED = ("chat/completions", "responses", "messages", "messages/count_tokens", "embeddings", "audio/speech", "models",
            "models/gpt-4o-mini", "some/thing/else")  # fmt: skip


def spellings(path: str) -> list[str]:
    return [path, f"{path}/", f"/{path}", path.replace("/", "//"), f"{path}//"]


@pytest.mark.parametrize("endpoint", UNIFIED)
@pytest.mark.parametrize("prefix", [*PREFIXES, *DOUBLED])
def test_a_unified_endpoint_has_one_path(prefix: str, endpoint: str) -> None:
    for spelling in spellings(f"{prefix}/{endpoint}"):
        assert normalise(spelling, False) == f"/v1/{endpoint}", spelling


@pytest.mark.parametrize("endpoint", SELF_SERVICE)
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/ai/v1", "/v1/v1"])
def test_self_service_has_one_path(prefix: str, endpoint: str) -> None:
    for spelling in spellings(f"{prefix}/{endpoint}"):
        assert normalise(spelling, False) == f"/v1/{endpoint}"
    assert normalise(f"/{endpoint}", False) == f"/{endpoint}"  # not an inference path: no /v1 is put before it


@pytest.mark.parametrize("endpoint", ["models", "models/m", "models/m:generateContent", "models/a%2Fb:countTokens"])
@pytest.mark.parametrize("prefix", GEMINI)
def test_a_gemini_endpoint_has_one_path(prefix: str, endpoint: str) -> None:
    for spelling in spellings(f"{prefix}/{endpoint}"):
        assert normalise(spelling, False) == f"/v1beta/{endpoint}", spelling


@pytest.mark.parametrize("endpoint", PREFIXED)
@pytest.mark.parametrize("prefix", ["/v1", "/api/v1", "/ai/v1", "/v1/v1"])
def test_a_providers_own_endpoint_has_one_path(prefix: str, endpoint: str) -> None:
    for slug in ("openai", "anthropic", "my-host-2"):
        for version in ("", "v1/", "v1/v1/"):
            for spelling in spellings(f"{prefix}/{slug}/{version}{endpoint}"):
                path = normalise(spelling, False)
                assert provider_endpoint(path) == (slug, endpoint), spelling


@pytest.mark.parametrize(
    "path",
    ["/", "/health", "/api/status", "/api/hello", "/docs", "/docs/pricing", "/docs/errors", "/docs/integrations/zed",
     "/metrics", "/status", "/openapi.json", "/ai", "/api", "/v1", "/v1beta", "/api/portal", "/portal/models", "/keys"],
)  # fmt: skip
def test_what_has_a_name_of_its_own_stays(path: str) -> None:
    for html in (False, True):
        assert normalise(path, html) == path
        assert normalise(path + "/", html) == path


def test_a_browser_gets_the_page_of_models_and_only_that() -> None:
    assert normalise("/models", True) == "/models"
    assert normalise("/models/gpt-4o-mini", True) == "/models/gpt-4o-mini"
    for path in ("/v1/models", "/api/v1/models"):
        assert normalise(path, True) == "/v1/models"
    assert normalise("/chat/completions", True) == "/v1/chat/completions"


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_a_reserved_word_is_no_provider(word: str) -> None:
    assert provider_endpoint(f"/v1/{word}/x") is None


def test_both_lists_of_reserved_words_agree() -> None:
    assert RESERVED == RESERVED_SLUGS


@pytest.mark.parametrize("path", ["/v1beta/models/m%3AgenerateContent", "/v1/models/a%2Fb%3agenerateContent"])
def test_an_escaped_colon_before_a_method_is_one(path: str) -> None:
    assert normalise(path, False) == path.replace("%3A", ":").replace("%3a", ":")


@pytest.mark.parametrize(
    ("endpoint", "answered_here"),
    [("models", True), ("models/a/b", True), ("v1beta/models", True), ("v1beta/models/a", True), ("modelsx", False),
     ("files", False)],
)  # fmt: skip
def test_a_providers_list_of_models_is_known(endpoint: str, answered_here: bool) -> None:
    assert is_model_list(endpoint) is answered_here
