"""The error catalogue: every error a client can receive: its status, its words, what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["CATALOGUE", "ApiError", "ErrorSpec", "clip"]

SHOWN: Final = 200  # characters of any value that a message repeats
KEY_START: Final = "sk-gw-"  # a key in a URL is not repeated, not even to its sender
KEY: Final = re.compile(KEY_START + r"\w+")


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """One code. `message` is a template; `retry_after_s` is the default of that header (None: sent only when
    given).
    """

    status: int
    type: str
    message: str
    cause: str
    remedy: str
    retry_after_s: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


INVALID: Final = "invalid_request_error"
UNAVAILABLE: Final = "service_unavailable"
# Both official SDKs retry a 429 twice unless told not to; for these a retry cannot help.
NO_RETRY: Final = {"x-should-retry": "false"}
BEARER: Final = {"WWW-Authenticate": "Bearer"}

# To add an error: 1 a row here, 2 nothing else: the envelope, docs/errors.md and the page are made from this
# table.
CATALOGUE: Final[dict[str, ErrorSpec]] = {
    "invalid_json": ErrorSpec(
        400,
        INVALID,
        "The request body is not valid JSON.",
        "The body is not one JSON object in UTF-8, or has a key twice, or a number without a value.",
        "Send one JSON object; the message says what is wrong and where.",
    ),
    "missing_required_parameter": ErrorSpec(
        400,
        INVALID,
        "Missing required parameter: '{param}'.",
        "A field that this endpoint needs is absent, null or empty.",
        "Add the field named in `param`.",
    ),
    "invalid_value": ErrorSpec(
        400,
        INVALID,
        "Invalid value for '{param}': {reason}.",
        "A field has the wrong type or is outside its range.",
        "Correct the field named in `param`; the message says what is accepted.",
    ),
    "unsupported_parameter": ErrorSpec(
        400,
        INVALID,
        "Unsupported parameter: '{param}' cannot be used with the model '{model}'.",
        "The model, or the gateway, does not offer what the field asks for.",
        "Leave the field out or choose a model whose `supported_features` has it.",
    ),
    "unknown_model_pricing": ErrorSpec(
        400,
        INVALID,
        "Unknown model pricing: {model}",
        "The model is not in the catalogue or has no price; an unknown price is never free.",
        "Use a model that GET /v1/models lists, or ask the operator to set a price.",
    ),
    "context_length_exceeded": ErrorSpec(
        400,
        INVALID,
        "This model's maximum context length is {limit} tokens, but {requested} tokens were requested "
        "(prompt and output together). Shorten the prompt or lower max_tokens.",
        "The prompt, with the output limit, is larger than the model's context window, or the limit than its output.",
        "Shorten the prompt or lower max_tokens.",
    ),
    "unsupported_endpoint": ErrorSpec(
        400,
        INVALID,
        "The model '{model}' cannot serve this endpoint ({endpoint}).",
        "The model is of another kind, for example an embedding model on chat completions.",
        "Use the endpoint that fits the model, or another model.",
    ),
    "missing_api_key": ErrorSpec(
        401,
        "authentication_error",
        "Invalid API key: none was sent. Send it as 'Authorization: Bearer <key>'.",
        "The request has no key in Authorization, x-api-key or x-goog-api-key.",
        "Send the key in one of those headers, never in the URL.",
        headers=BEARER,
    ),
    "invalid_api_key": ErrorSpec(
        401,
        "authentication_error",
        "Invalid API key.",
        "The key is unknown, revoked, expired or disabled; which one is not told to who cannot prove that it is theirs.",
        "Use another key, or ask the operator for one.",
        headers=BEARER,
    ),
    "insufficient_balance": ErrorSpec(
        402,
        "insufficient_quota",
        "Insufficient credit balance for {scope}: the balance is {balance} USD, available are {available} USD, this request "
        "may need up to {needed} USD; top up or lower max_tokens.",
        "What the request may cost at most is more than the balance that is not already reserved.",
        "Top up, or lower max_tokens, which lowers what has to be reserved.",
        headers=NO_RETRY,
    ),
    "key_budget_exceeded": ErrorSpec(
        402,
        "insufficient_quota",
        "Insufficient credit balance for {scope}: the budget of this period has {balance} USD left, this "
        "request may "
        "need up to {needed} USD; top up or lower max_tokens, or ask for a higher budget.",
        "The key's own budget for its period is used up, although the account may have funds.",
        "Wait for the next period, use another key, or ask the operator to raise the budget.",
        headers=NO_RETRY,
    ),
    "account_suspended": ErrorSpec(
        403,
        "permission_error",
        "This account is suspended.",
        "The operator has frozen the account that the key belongs to.",
        "Contact the operator.",
    ),
    "endpoint_not_allowed": ErrorSpec(
        403,
        "permission_error",
        "The endpoint {endpoint} is not allowed.",
        "Only requests for a priced model, and endpoints that the operator allow-listed, pass to a provider.",
        "Use POST with a model from GET /v1/models, or ask the operator to allow the endpoint.",
    ),
    "model_not_found": ErrorSpec(
        404,
        INVALID,
        "The model `{model}` does not exist or you do not have access to it.",
        "No enabled model has this id, alias or `Provider#Model` form among those granted to the key.",
        "Use an id from GET /v1/models, called with the same key.",
    ),
    "unknown_url": ErrorSpec(
        404,
        INVALID,
        "Unknown request URL: {method} {path}",
        "No endpoint has this path.",
        "Check the base URL: it usually ends in /v1.",
    ),
    "unknown_provider": ErrorSpec(
        404,
        INVALID,
        "Unknown request URL: {method} {path} (there is no provider '{provider}')",
        "The first part of a provider-prefixed path names no provider.",
        "Use a provider that owns a model in GET /v1/models (`owned_by`), or the path without a provider.",
    ),
    "method_not_allowed": ErrorSpec(
        405,
        INVALID,
        "The method {method} is not allowed for {path}; use {allow}.",
        "The endpoint exists, with another method.",
        "Use a method from the Allow header.",
    ),
    "request_timeout": ErrorSpec(
        408,
        INVALID,
        "The request body did not arrive in time.",
        "The body came too slowly or stopped.",
        "Send the request again over a better connection.",
    ),
    "payload_too_large": ErrorSpec(
        413,
        INVALID,
        "The request body is larger than the limit of {limit} bytes.",
        "The body is larger than the gateway or its operator accepts.",
        "Send less, for example smaller images.",
    ),
    "upgrade_required": ErrorSpec(
        426,
        INVALID,
        "WebSocket is not offered at {path}; use a POST request.",
        "A client asked for a WebSocket.",
        "Use plain HTTP; clients that prefer WebSocket fall back to it by themselves.",
    ),
    "rate_limit_exceeded": ErrorSpec(
        429,
        "rate_limit_error",
        "Rate limit exceeded: {limit}. Try again in {retry_after_s} s.",
        "The key has used up one of its limits: requests or tokens per minute, or requests at the same time.",
        "Wait as long as Retry-After says; the X-RateLimit headers say which limit and when it resets.",
        retry_after_s=1,
    ),
    "daily_limit_throttled": ErrorSpec(
        429,
        "rate_limit_error",
        "The fair-use limit of {limit} requests a day is used up: 1 request per {every} until "
        "tomorrow (UTC). "
        "Try again in {retry_after_s} s, or top up to go on at once.",
        "The daily fair-use allowance is used up and the balance does not pay for the request.",
        "Wait as long as Retry-After says, or top up.",
        retry_after_s=600,
    ),
    "provider_paused": ErrorSpec(
        429,
        "rate_limit_error",
        "Provider {provider} is paused.",
        "The operator, or the provider's daily spend limit, has paused the provider.",
        "Use another model; the operator can resume the provider.",
        headers=NO_RETRY,
    ),
    "upstream_rate_limited": ErrorSpec(
        429,
        "rate_limit_error",
        "The provider {provider} limits the rate of requests. Try again later.",
        "Every credential of the provider is being limited by it.",
        "Wait as long as Retry-After says, or use another model.",
        retry_after_s=1,
    ),
    "internal_error": ErrorSpec(
        500,
        "server_error",
        "The gateway had an internal error. Nothing was charged unless a reply was delivered.",
        "A fault in the gateway.",
        "Try again; report the request id if it persists.",
    ),
    "upstream_error": ErrorSpec(
        502,
        "upstream_error",
        "The provider {provider} failed: {reason}.",
        "The provider refused the gateway's credential, answered with an error or with something unreadable, or broke off.",
        "Try again, or use another model.",
    ),
    "no_active_api_keys": ErrorSpec(
        503,
        UNAVAILABLE,
        "No active API keys for provider {provider}",
        "Every credential of the provider is disabled or cooling down.",
        "Use another model; the operator has to add or enable a credential.",
    ),
    "model_unavailable": ErrorSpec(
        503,
        UNAVAILABLE,
        "The model `{model}` is temporarily unavailable.",
        "Every deployment of the model is failing.",
        "Try again after Retry-After, or use another model.",
        retry_after_s=5,
    ),
    "database_unavailable": ErrorSpec(
        503,
        UNAVAILABLE,
        "The gateway cannot reach its database, so no paid request is accepted.",
        "The database is down, locked or its disk is full; without it no balance can be held.",
        "Try again after Retry-After.",
        retry_after_s=1,
    ),
    "overloaded": ErrorSpec(
        503,
        UNAVAILABLE,
        "The gateway is at its limit of concurrent work. Try again shortly.",
        "Too many or too large requests are under way.",
        "Try again after Retry-After.",
        retry_after_s=1,
    ),
    "shutting_down": ErrorSpec(
        503,
        UNAVAILABLE,
        "The gateway is shutting down. Try again shortly.",
        "The gateway finishes what runs and accepts nothing new, usually because it is being restarted.",
        "Try again after Retry-After.",
        retry_after_s=2,
    ),
    "upstream_timeout": ErrorSpec(
        504,
        "upstream_error",
        "The provider {provider} did not answer in time.",
        "The provider sent nothing for longer than its deadline.",
        "Try again, use stream: true for long answers, or another model.",
    ),
}


class ApiError(Exception):
    """An error as the client will see it. Protocols turn it into their envelope; the status and headers are
    shared.
    """

    __slots__ = ("code", "headers", "http_status", "message", "param", "type")

    def __init__(
        self,
        http_status: int,
        code: str,
        type: str,
        message: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.type = type
        self.message = message
        self.param = param
        self.headers = headers if headers is not None else {}

    @classmethod
    def of(
        cls,
        code: str,
        *,
        message: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> ApiError:
        """The error `code` of the catalogue. `fields` fill its template, clipped and made printable;
        `message` replaces it.

        `param` is the field at fault, also for the template. Retry-After is at least 1. KeyError for a code that is not in
        the catalogue, or a template field that is not given.
        """
        spec = CATALOGUE[code]
        all_headers = {**spec.headers, **(headers or {})}
        wait = retry_after_s if retry_after_s is not None else spec.retry_after_s
        if wait is not None:
            wait = max(1, wait)
            all_headers["Retry-After"] = str(wait)
        if message is None:
            values = {name: clip(value) for name, value in fields.items()}
            message = spec.message.format_map({"param": clip(param), "retry_after_s": wait, **values})
        if KEY_START in message:
            message = KEY.sub(f"{KEY_START}...", message)
        return cls(spec.status, code, spec.type, message, param, all_headers)


def clip(value: object) -> str:
    """A value as a message may repeat it: printable characters only, at most 200."""
    text = str(value)
    if len(text) > SHOWN:
        text = text[:SHOWN] + "..."
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
