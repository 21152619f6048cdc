"""What is admitted, what is refused with which advice, and what a hold must cover."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.domain.admission import ANY_NUMBER, Ask, Provider, admit, bounds, check_features
from daemon.domain.catalog import Catalog, make_provider
from daemon.domain.errors import ApiError
from db.identity import Identity
from db.snapshot import StoredCatalog, StoredDeployment, StoredModel, StoredProvider

PROVIDER = StoredProvider(
    id=1, slug="openai", name="OpenAI", protocol="openai", base_url="https://h/v1", paused=False, paused_reason=None,
    no_auth=True, auth_header=None, auth_prefix=None, connect_timeout_ms=1, first_byte_timeout_ms=1, read_timeout_ms=1,
    total_timeout_ms=1, max_connections=1, on_disconnect="cancel", include_usage=True, allow_endpoints=(), chat_api="both",
    rotation="round_robin", on_no_answer="fail", credentials=(),
)  # fmt: skip
MODEL = StoredModel(
    id=1, public_id="gpt", type="chat", enabled=True, private=False, display_name="gpt", description="", created_at=0,
    context_length=1000, max_output=100, media_tokens=None, features=frozenset({"streaming"}), input_modalities=("text",),
    output_modalities=("text",), aliases=(), groups=frozenset({1}), deployments=(StoredDeployment(1, 1, "gpt", 1, 0),),
    prices={"input": 1, "output": 1}, multipliers={}, service_tiers={}, hosted_tools={},
)  # fmt: skip
IDENTITY = Identity.__new__(Identity)  # only its groups and models are looked at
SEARCHING = replace(MODEL, hosted_tools={"web_search": 5, "mcp": 2}, prices=MODEL.prices | {"hosted_call": 7})
STORING = replace(MODEL, features=MODEL.features | {"stored_responses"})


def ask(**fields: Any) -> Ask:
    plain: dict[str, Any] = {
        "model": "gpt", "stream": False, "body_bytes": 40, "input_bound": 40, "output_limit": 10, "output_extra": 0, "n": 1,
        "media_parts": 0, "features": frozenset(), "unbounded": (),
    }  # fmt: skip
    return Ask(**plain | fields)


def refusal(model: StoredModel, asked: Ask, *, strict: bool = True) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check_features(model, asked, strict=strict)
    assert caught.value.http_status == 400
    return caught.value


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("model", "fields", "param", "advice"),
    [
        (MODEL, {"hosted": {"web_search": 3}}, "tools",
         "models update gpt --hosted-tool web_search=CALLS --price hosted_call/web_search=USD"),
        (SEARCHING, {"hosted": {"file_search": 1}}, "tools", "--hosted-tool file_search="),
        (replace(SEARCHING, prices=MODEL.prices), {"hosted": {"mcp": 1}}, "tools", "--price hosted_call/mcp="),
        (replace(SEARCHING, prices=MODEL.prices | {"hosted_call/web_search": 1}), {"hosted": {"mcp": 1}}, "tools",
         "--price hosted_call/mcp="),
        (replace(SEARCHING, context_length=None), {"hosted": {"mcp": 1}}, "tools", "--context-length"),
        (MODEL, {"stored": True}, "previous_response_id", "--feature stored_responses"),
        (replace(STORING, context_length=None), {"stored": True}, "previous_response_id", "--context-length"),
        (MODEL, {"tier": "priority"}, "service_tier", "--tier NAME=FACTOR"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_must_be_set(
    model: StoredModel, fields: dict[str, Any], param: str, advice: str, strict: bool
) -> None:
    error = refusal(model, ask(**fields), strict=strict)
    assert (error.code, error.param) == ("unsupported_parameter", param)
    assert advice in error.message


def test_a_request_that_wants_more_calls_than_are_allowed_is_refused() -> None:
    assert "allows 5 calls of 'web_search', not 6" in refusal(SEARCHING, ask(hosted={"web_search": 6})).message
    for calls in (1, 5, ANY_NUMBER):  # one that says nothing is held at what is allowed
        check_features(SEARCHING, ask(hosted={"web_search": calls}), strict=True)


@pytest.mark.parametrize(
    ("model", "fields", "input_bound"),
    [
        (MODEL, {}, 40),
        (SEARCHING, {}, 40),
        (STORING, {"stored": True}, 1000),
        (SEARCHING, {"hosted": {"web_search": ANY_NUMBER}}, 6000),
        (SEARCHING, {"hosted": {"web_search": 2}}, 3000),
        (SEARCHING, {"hosted": {"web_search": ANY_NUMBER, "mcp": ANY_NUMBER}}, 8000),
        (SEARCHING, {"hosted": {"web_search": 1}, "stored": True, "media_parts": 3}, 2000),
    ],
)
def test_each_call_may_bring_the_whole_window_again(model: StoredModel, fields: dict[str, Any], input_bound: int) -> None:
    assert bounds(model, ask(**fields), 50) == (input_bound, 10)


def test_the_calls_are_held_beside_the_tokens() -> None:
    provider: Provider = make_provider(PROVIDER, ())
    catalog = Catalog(StoredCatalog(1, (PROVIDER,), (SEARCHING,), {}, {}), {1: provider})
    for name, value in (("groups", frozenset({1})), ("models", None)):
        object.__setattr__(IDENTITY, name, value)
    asked = ask(hosted={"web_search": ANY_NUMBER, "mcp": 1}, extra={"second": 3})
    found = admit(
        catalog,
        IDENTITY,
        asked,
        None,
        endpoint="/v1/responses",
        model_types=frozenset({"chat"}),
        protocols=None,
        default_output=9,
    )
    assert found.extra == {"second": 3, "hosted_call/web_search": 5, "hosted_call/mcp": 1}
    assert (found.input_bound, found.output_bound) == (7000, 10)
    assert asked.extra == {"second": 3}


def test_cheaper_tiers_need_no_factor_and_dearer_ones_do() -> None:
    check_features(MODEL, ask(tier="flex"), strict=True)
    check_features(replace(MODEL, service_tiers={"priority": 2_000_000}), ask(tier="priority"), strict=True)
