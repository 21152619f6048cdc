"""The catalogue is complete, and no message can carry anything but printable text."""

from __future__ import annotations

import string

import pytest

from daemon.domain.errors import CATALOGUE, ApiError

# code: status, type, a piece of the message, headers (requirements B4).
TABLE = {
    "invalid_json": (400, "invalid_request_error", "JSON", {}),
    "missing_required_parameter": (400, "invalid_request_error", "'p1'", {}),
    "invalid_value": (400, "invalid_request_error", "'p1'", {}),
    "unsupported_parameter": (400, "invalid_request_error", "'p1'", {}),
    "unknown_model_pricing": (400, "invalid_request_error", "Unknown model pricing: x", {}),
    "context_length_exceeded": (400, "invalid_request_error", "length is x tokens, but x tokens", {}),
    "unsupported_endpoint": (400, "invalid_request_error", "cannot serve this endpoint", {}),
    "missing_api_key": (401, "authentication_error", "Invalid API key", {"WWW-Authenticate": "Bearer"}),
    "invalid_api_key": (401, "authentication_error", "Invalid API key", {"WWW-Authenticate": "Bearer"}),
    "insufficient_balance": (402, "insufficient_quota", "Insufficient credit balance for x", {"x-should-retry": "false"}),
    "key_budget_exceeded": (402, "insufficient_quota", "Insufficient credit balance for x", {"x-should-retry": "false"}),
    "account_suspended": (403, "permission_error", "suspended", {}),
    "endpoint_not_allowed": (403, "permission_error", "not allowed", {}),
    "model_not_found": (404, "invalid_request_error", "The model `x` does not exist or you do not have access to it.", {}),
    "unknown_url": (404, "invalid_request_error", "Unknown request URL: x x", {}),
    "unknown_provider": (404, "invalid_request_error", "Unknown request URL: x x", {}),
    "method_not_allowed": (405, "invalid_request_error", "not allowed", {}),
    "request_timeout": (408, "invalid_request_error", "in time", {}),
    "payload_too_large": (413, "invalid_request_error", "x bytes", {}),
    "upgrade_required": (426, "invalid_request_error", "WebSocket", {}),
    "rate_limit_exceeded": (429, "rate_limit_error", "Rate limit exceeded: x", {"Retry-After": "1"}),
    "daily_limit_throttled": (429, "rate_limit_error", "1 request per x until tomorrow", {"Retry-After": "600"}),
    "provider_paused": (429, "rate_limit_error", "Provider x is paused", {"x-should-retry": "false"}),
    "upstream_rate_limited": (429, "rate_limit_error", "limits the rate", {"Retry-After": "1"}),
    "internal_error": (500, "server_error", "internal error", {}),
    "upstream_error": (502, "upstream_error", "failed", {}),
    "no_active_api_keys": (503, "service_unavailable", "No active API keys for provider x", {}),
    "model_unavailable": (503, "service_unavailable", "unavailable", {"Retry-After": "5"}),
    "database_unavailable": (503, "service_unavailable", "database", {"Retry-After": "1"}),
    "overloaded": (503, "service_unavailable", "limit", {"Retry-After": "1"}),
    "shutting_down": (503, "service_unavailable", "shutting down", {"Retry-After": "2"}),
    "upstream_timeout": (504, "upstream_error", "in time", {}),
}


def fields_of(code: str, value: str) -> dict[str, str]:
    named = {name for _, name, _, _ in string.Formatter().parse(CATALOGUE[code].message) if name}
    return dict.fromkeys(named - {"param", "retry_after_s"}, value)


def test_the_catalogue_is_the_table() -> None:
    assert list(CATALOGUE) == list(TABLE)


@pytest.mark.parametrize("code", TABLE)
def test_each_error_has_its_status_words_and_headers(code: str) -> None:
    status, kind, words, headers = TABLE[code]
    error = ApiError.of(code, param="p1", **fields_of(code, "x"))
    assert (error.http_status, error.type, error.code, error.param) == (status, kind, code, "p1")
    assert words in error.message
    assert error.headers == headers
    assert str(error) == error.message
    assert CATALOGUE[code].cause.endswith(".")
    assert CATALOGUE[code].remedy.endswith(".")


@pytest.mark.parametrize("code", ["insufficient_balance", "key_budget_exceeded"])
def test_a_402_says_what_there_is_what_is_needed_and_what_to_do(code: str) -> None:
    error = ApiError.of(code, scope="user alice", balance="0.001", available="0.001", needed="0.01")
    for words in ("user alice", "0.001", "0.01", "top up or lower max_tokens"):
        assert words in error.message


@pytest.mark.parametrize(("given", "header"), [(-5, "1"), (0, "1"), (7, "7"), (600, "600")])
def test_the_throttle_waits_a_second_at_least(given: int, header: str) -> None:
    error = ApiError.of("daily_limit_throttled", retry_after_s=given, limit=200, every="10 minutes")
    assert error.headers["Retry-After"] == header
    assert f"Try again in {header} s" in error.message


def test_headers_of_one_error_do_not_reach_the_next() -> None:
    ApiError.of("invalid_api_key").headers["x"] = "1"
    error = ApiError.of("method_not_allowed", method="GET", path="/", allow="POST", headers={"Allow": "POST"})
    assert error.headers == {"Allow": "POST"}
    assert "x" not in ApiError.of("invalid_api_key").headers


@pytest.mark.parametrize("hostile", ["a\r\nSet-Cookie: x=1", "\x00\x1b[2J", "{model.__class__}", "x" * 10_000, "\u2028"])
@pytest.mark.parametrize("code", TABLE)
def test_values_are_shown_short_and_printable(code: str, hostile: str) -> None:
    error = ApiError.of(code, param=hostile, **fields_of(code, hostile))
    assert error.message.isprintable()
    assert len(error.message) < 1000


def test_an_own_message_replaces_the_template() -> None:
    assert ApiError.of("invalid_json", message="No {such} thing.").message == "No {such} thing."
    with pytest.raises(KeyError):
        ApiError.of("no_such_code")
