"""explain decides as the daemon does, and tells an admin what a client is not told."""

from __future__ import annotations

from typing import Any

import pytest

from db import engine
from db.models import User
from tests.support.cli import Gateway

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def ready(gateway: Gateway) -> Gateway:
    """alice with 5 USD, key 1; gpt-4o-mini at 0.15/0.60 from a provider that needs no credential."""
    gateway.ok("providers", "add", "openai", "--protocol", "openai", "--base-url", "http://127.0.0.1:9/v1", "--no-auth")
    gateway.ok("models", "add", "gpt-4o-mini", "--provider", "openai", "--input-price", "0.15", "--output-price", "0.60")
    gateway.ok("users", "create", "alice")
    gateway.ok("topup", "alice", "5")
    gateway.ok("keys", "create", "--user", "alice", "--name", "ci")
    return gateway


def _explain(gateway: Gateway, *more: str, model: str = "gpt-4o-mini", key: str = "1") -> dict[str, Any]:
    return dict(gateway.json("explain", "--key", key, "--model", model, *more))


def test_an_admitted_request_names_deployment_price_and_hold(ready: Gateway) -> None:
    found = _explain(ready, "--max-tokens", "500", "--prompt-tokens", "1000")
    assert (found["admitted"], found["refusal"]) == (True, None)
    assert found["deployments"] == [
        {"provider": "openai", "upstream": "gpt-4o-mini", "priority": 0, "weight": 1, "state": "ready", "why": None, "try": 1}
    ]
    assert [(row["meter"], row["price"], row["effective"]) for row in found["prices"]][:2] == [
        ("input", "0.15", "0.15"),
        ("output", "0.6", "0.6"),
    ]
    # 4,000 bytes of prompt bound its tokens: 4000 x 0.15 + 500 x 0.60 per million.
    assert found["hold"] == {"amount": "0.0009", "input_tokens": 4000, "output_tokens": 500, "lowered_max_tokens": None}
    assert found["funds"]["available"] == "5"
    assert found["model"]["matched_by"] == "id"
    assert (found["user"]["name"], found["user"]["groups"]) == ("alice", ["everyone"])


@SQLITE
def test_nothing_is_held_by_it(ready: Gateway) -> None:
    _explain(ready)
    assert ready.json("balances", "show", "alice")["held"] == "0"
    assert ready.json("usage", "log") == []


@SQLITE
def test_every_name_of_a_model_is_resolved(ready: Gateway) -> None:
    ready.ok("models", "alias", "mini", "gpt-4o-mini")
    assert _explain(ready, model="mini")["model"]["matched_by"] == "alias"
    assert _explain(ready, model="OpenAI#GPT-4o-mini")["model"]["matched_by"] == "Provider#Model"


@SQLITE
def test_multipliers_stand_apart_and_in_the_effective_price(ready: Gateway) -> None:
    ready.ok("multipliers", "set", "--user", "alice", "1.2")
    ready.ok("multipliers", "set", "--model", "gpt-4o-mini", "1.5")
    [price, _] = _explain(ready)["prices"][:2]
    assert (price["user"], price["group"], price["model"], price["effective"]) == ("1.2", "1", "1.5", "0.27")


def _refusal(gateway: Gateway, *more: str, model: str = "gpt-4o-mini") -> tuple[int, str, str]:
    """(status, code, what a person reads)."""
    found = _explain(gateway, *more, model=model)
    assert found["admitted"] is False
    text = gateway.ok("explain", "--key", "1", "--model", model, *more).out
    return found["refusal"]["http_status"], found["refusal"]["code"], text


@SQLITE
def test_why_a_model_is_hidden(ready: Gateway) -> None:
    assert _refusal(ready, model="nope")[:2] == (404, "model_not_found")
    ready.ok("models", "disable", "gpt-4o-mini")
    assert "models enable gpt-4o-mini" in _refusal(ready)[2]
    ready.ok("models", "enable", "gpt-4o-mini")
    ready.ok("groups", "deny", "everyone", "gpt-4o-mini")
    assert "groups allow" in _refusal(ready)[2]
    ready.ok("groups", "allow", "everyone", "gpt-4o-mini")
    ready.ok(
        "models", "add", "other", "--provider", "openai", "--input-price", "1", "--output-price", "1", "--upstream", "other"
    )
    ready.ok("keys", "update", "1", "--model", "other")
    assert "allow-list" in _refusal(ready)[2]


@SQLITE
def test_why_a_key_is_not_accepted(ready: Gateway) -> None:
    ready.ok("keys", "disable", "1")
    status, code, text = _refusal(ready)
    assert (status, code) == (401, "invalid_api_key")
    assert "disabled" in text
    ready.ok("keys", "enable", "1")
    ready.ok("users", "suspend", "alice")
    assert _refusal(ready)[:2] == (403, "account_suspended")


@SQLITE
def test_why_a_provider_does_not_serve(ready: Gateway) -> None:
    ready.ok("providers", "pause", "openai")
    status, code, text = _refusal(ready)
    assert (status, code) == (429, "provider_paused")
    assert "paused" in text
    ready.ok("providers", "resume", "openai")
    ready.ok("providers", "add", "keyed", "--protocol", "openai", "--base-url", "http://127.0.0.1:9/v1")
    ready.ok("models", "add", "m2", "--provider", "keyed", "--input-price", "1", "--output-price", "1")
    assert _refusal(ready, model="m2")[:2] == (503, "no_active_api_keys")


@SQLITE
def test_what_the_model_does_not_take(ready: Gateway) -> None:
    ready.ok("models", "update", "gpt-4o-mini", "--context-length", "1000", "--max-output", "500")
    assert _refusal(ready, "--max-tokens", "501")[1] == "invalid_value"
    assert _refusal(ready, "--prompt-tokens", "100000")[1] == "context_length_exceeded"


def test_short_funds(ready: Gateway) -> None:
    ready.ok("balances", "adjust", "alice", "-4.9985", "--reason", "test", "--yes")  # 0.0015 left
    assert _refusal(ready, "--max-tokens", "16000")[:2] == (402, "insufficient_balance")
    lowered = _explain(ready)
    # Nobody asked for a limit: 1,314 tokens of prompt leave (0.0015 - 0.0001971) / 0.60 per million.
    assert lowered["admitted"] is True
    assert lowered["hold"]["lowered_max_tokens"] == 2171


@SQLITE
def test_a_short_key_budget_is_told_from_a_short_balance(ready: Gateway) -> None:
    ready.ok("keys", "update", "1", "--budget", "0.0001", "--budget-period", "day")
    found = _explain(ready, "--max-tokens", "500")
    assert found["refusal"]["code"] == "key_budget_exceeded"
    assert found["funds"]["key_budget_left"] == "0.0001"


@SQLITE
def test_held_money_counts(ready: Gateway) -> None:
    engine.open_database(str(ready.url))
    User.update(held_nanos=5_000_000_000).execute()
    engine.close_connection()
    assert _refusal(ready, "--max-tokens", "5")[1] == "insufficient_balance"


@SQLITE
def test_an_unknown_key_is_not_found(ready: Gateway) -> None:
    assert ready.run("explain", "--key", "77", "--model", "gpt-4o-mini").code == 3


@SQLITE
def test_a_whole_key_works_and_is_warned_about(ready: Gateway) -> None:
    key = ready.ok("keys", "create", "--user", "alice", "--name", "other", "--quiet").out.strip()
    result = ready.ok("explain", "--key", key, "--model", "gpt-4o-mini", "--json")
    assert result.json["key"]["name"] == "other"
    assert "visible" in result.err
    assert key not in result.out + result.err


@SQLITE
def test_the_order_of_deployments_and_why_one_is_left_out(ready: Gateway) -> None:
    ready.ok("providers", "add", "spare", "--protocol", "openai", "--base-url", "http://127.0.0.1:1/v1", "--no-auth")
    ready.ok("models", "deploy", "gpt-4o-mini", "--provider", "spare", "--upstream", "mini", "--priority", "1")
    assert [(row["provider"], row["try"]) for row in _explain(ready)["deployments"]] == [("openai", 1), ("spare", 2)]
    ready.ok("providers", "pause", "openai", "--reason", "invoice open")
    first, second = _explain(ready)["deployments"]
    assert (first["provider"], first["try"], first["state"]) == ("spare", 1, "ready")
    assert (second["provider"], second["try"], second["state"], second["why"]) == ("openai", None, "paused", "invoice open")


@SQLITE
def test_the_model_that_stands_in_is_named_with_its_prices(ready: Gateway) -> None:
    ready.ok("providers", "add", "spare", "--protocol", "openai", "--base-url", "http://127.0.0.1:1/v1", "--no-auth")
    ready.ok("models", "add", "other", "--provider", "spare", "--input-price", "7", "--output-price", "8")
    ready.ok("models", "fallback", "gpt-4o-mini", "--to", "other")
    found = _explain(ready)
    assert (found["served_by"], found["fallbacks"]) == ("gpt-4o-mini", [{"model": "other", "refusal": None}])
    ready.ok("providers", "pause", "openai")
    found = _explain(ready)
    assert (found["admitted"], found["served_by"], found["prices"][0]["price"]) == (True, "other", "7")
    ready.ok("models", "disable", "other")
    found = _explain(ready)
    assert (found["admitted"], found["refusal"]["code"], found["served_by"]) == (False, "provider_paused", None)
    assert found["fallbacks"] == [{"model": "other", "refusal": "model_not_found"}]
