"""A line for each route: what it is, who may call it, what it takes and gives.

Keyed by method and rule of the URL map. To describe a new route: a line here (and its body or reply, if they are new).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NONE, OPTIONAL, REQUIRED = "none", "optional", "required"  # a key
JSON, EVENTS, FORM = "application/json", "text/event-stream", "multipart/form-data"

# Statuses of errors, by what can go wrong.
BILLABLE: Final = (400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 504)
COUNTED: Final = (400, 401, 403, 404, 408, 413, 500, 503)
FORWARDED: Final = (401, 403, 404, 408, 413, 429, 500, 502, 503, 504)
LISTED: Final = (400, 401, 403, 404, 500, 503)
OWNED: Final = (401, 403, 500, 503)
PUBLIC: Final = (500, 503)

LIST_QUERY: Final = ("feature", "modality", "type", "limit", "after_id", "before_id", "pageSize", "pageToken")


@dataclass(frozen=True, slots=True)
class Operation:
    """`bodies` and `replies`: content type → schema; "" for bytes of no schema. `envelope`: of errors, 'asked': by headers."""

    id: str
    tag: str
    summary: str
    key: str = REQUIRED
    bodies: Mapping[str, str] | None = None
    replies: Mapping[str, str] | None = None
    errors: tuple[int, ...] = PUBLIC
    envelope: str = "openai"
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    costs: bool = False


def _billed(id: str, tag: str, summary: str, body: str | Mapping[str, str], reply: str | Mapping[str, str],
            envelope: str = "openai", *, query: tuple[str, ...] = (), headers: tuple[str, ...] = ()) -> Operation:  # fmt: skip
    bodies = {JSON: body} if isinstance(body, str) else body
    replies = {JSON: reply, EVENTS: ""} if isinstance(reply, str) else reply
    return Operation(id, tag, summary, REQUIRED, bodies, replies, BILLABLE, envelope, query, headers, costs=True)


def _list(id: str, tag: str, summary: str, reply: str, envelope: str = "asked", *, paged: bool) -> Operation:
    headers = ("anthropic-version", "x-goog-api-client") if envelope == "asked" else ()
    return Operation(id, tag, summary, OPTIONAL, None, {JSON: reply}, LISTED, envelope, LIST_QUERY if paged else (), headers)


def _own(id: str, summary: str, reply: str) -> Operation:
    return Operation(id, "account", summary, REQUIRED, None, {JSON: reply}, OWNED)


def _public(id: str, summary: str, reply: str | None) -> Operation:
    return Operation(id, "gateway", summary, NONE, None, None if reply is None else {JSON: reply})


def _forwarded(method: str) -> Operation:
    return Operation(
        f"{method.lower()}ProvidersOwn", "providers", "An endpoint of a provider that the operator allow-listed; else 403",
        REQUIRED, {JSON: "ProvidersOwnReply"} if method != "GET" else None, {"*/*": "ProvidersOwnReply"}, FORWARDED,
    )  # fmt: skip


def _gemini(version: str, method: str) -> Operation:
    suffix = "" if version == "v1beta" else "V1"
    if method == "countTokens":
        return Operation(
            f"countTokens{suffix}", "gemini", "Count the tokens of a prompt; free", REQUIRED,
            {JSON: "GeminiCountTokensRequest"}, {JSON: "TotalTokens"}, COUNTED, "gemini",
        )  # fmt: skip
    stream = method == "streamGenerateContent"
    replies = {JSON: "GenerateContentResponse"} | ({EVENTS: ""} if stream else {})
    what = "A conversation in Google's API" + (", streamed" if stream else "")
    return _billed(
        method + suffix, "gemini", what, "GenerateContentRequest", replies, "gemini", query=("alt",) if stream else ()
    )


ANTHROPIC_HEADERS: Final = ("anthropic-version", "anthropic-beta")
OPERATIONS: Final[dict[tuple[str, str], Operation]] = {
    # -- conversations
    ("POST", "/v1/chat/completions"): _billed(
        "createChatCompletion", "openai", "A conversation in OpenAI's older API", "ChatCompletionRequest", "ChatCompletion"
    ),
    ("POST", "/v1/responses"): _billed(
        "createResponse", "openai", "A conversation in OpenAI's newer API", "ResponsesRequest", "Response"
    ),
    ("POST", "/v1/messages"): _billed(
        "createMessage", "anthropic", "A conversation in Anthropic's API", "MessagesRequest", "AnthropicMessage", "anthropic",
        headers=ANTHROPIC_HEADERS,
    ),
    ("POST", "/v1/messages/count_tokens"): Operation(
        "countMessageTokens", "anthropic", "Count the tokens of a prompt; free", REQUIRED, {JSON: "CountTokensRequest"},
        {JSON: "InputTokens"}, COUNTED, "anthropic", headers=ANTHROPIC_HEADERS,
    ),
    **{
        ("POST", f"/{version}/models/<path:name>:{method}"): _gemini(version, method)
        for version in ("v1beta", "v1")
        for method in ("generateContent", "streamGenerateContent", "countTokens")
    },
    # -- the rest of what costs
    ("POST", "/v1/completions"): _billed(
        "createCompletion", "openai", "A completion of a text", "CompletionRequest", "Completion"
    ),
    ("POST", "/v1/embeddings"): _billed(
        "createEmbedding", "openai", "Embeddings of texts", "EmbeddingRequest", {JSON: "EmbeddingList"}
    ),
    ("POST", "/v1/images/generations"): _billed(
        "createImage", "openai", "Images from a prompt", "ImageGenerationRequest", "ImageList"
    ),
    ("POST", "/v1/images/edits"): _billed(
        "createImageEdit", "openai", "Images from images and a prompt", {FORM: "ImageEditForm", JSON: "ImageEditRequest"},
        "ImageList",
    ),
    ("POST", "/v1/audio/speech"): _billed(
        "createSpeech", "openai", "Speech from a text", "SpeechRequest", {"audio/*": "", EVENTS: ""}
    ),
    ("POST", "/v1/audio/transcriptions"): _billed(
        "createTranscription", "openai", "The text of a recording", {FORM: "TranscriptionForm"},
        {JSON: "Transcription", "text/plain": "", EVENTS: ""},
    ),
    ("POST", "/v1/moderations"): _billed(
        "createModeration", "openai", "Whether content is harmful", "ModerationRequest", {JSON: "ModerationList"}
    ),
    ("POST", "/v1/rerank"): _billed(
        "createRerank", "openai", "Documents by their relevance to a query", "RerankRequest", {JSON: "RerankList"}
    ),
    ("POST", "/v1/<provider:slug>/<path:endpoint>"): _billed(
        "postProvidersOwn", "providers", "A provider's own endpoint, unchanged: billed by the model that the body names",
        "ProvidersOwnRequest", {"*/*": "ProvidersOwnReply"},
    ),
    **{
        (method, "/v1/<provider:slug>/<path:endpoint>"): _forwarded(method) for method in ("GET", "PUT", "PATCH", "DELETE")
    },
    # -- models
    ("GET", "/v1/models"): _list(
        "listModels", "models", "The models, in the shape that the client's headers ask for", "ModelList", paged=True
    ),
    ("GET", "/v1/models/<path:name>"): _list("getModel", "models", "One model, under any of its names", "Model", paged=False),
    ("GET", "/v1beta/models"): _list(
        "listGeminiModels", "gemini", "The models in Gemini's shape", "GeminiModelList", "gemini", paged=True
    ),
    ("GET", "/v1beta/models/<path:name>"): _list(
        "getGeminiModel", "gemini", "One model in Gemini's shape", "GeminiModel", "gemini", paged=False
    ),
    ("GET", "/v1/<slug>/models"): _list(
        "listProvidersModels", "providers", "The models that a provider serves here", "ModelList", paged=True
    ),
    ("GET", "/v1/<slug>/models/<path:name>"): _list(
        "getProvidersModel", "providers", "One model that a provider serves here", "Model", paged=False
    ),
    ("GET", "/v1/<slug>/v1beta/models"): _list(
        "listProvidersGeminiModels", "providers", "The same in Gemini's shape", "GeminiModelList", "gemini", paged=True
    ),
    ("GET", "/v1/<slug>/v1beta/models/<path:name>"): _list(
        "getProvidersGeminiModel", "providers", "One of them in Gemini's shape", "GeminiModel", "gemini", paged=False
    ),
    # -- the calling key's own
    ("GET", "/v1/key"): _own("getKey", "The calling key: limits, spending, what remains", "Key"),
    ("GET", "/v1/credits"): _own("getCredits", "The balance of the key's owner", "Credits"),
    ("GET", "/v1/usage"): _own("getUsage", "Today's (UTC) usage of the key and its owner", "UsageToday"),
    # -- about the gateway
    ("GET", "/v1/provider"): _public("getProvider", "The gateway: version, endpoints, capabilities", "Provider"),
    ("GET", "/docs/pricing"): Operation(
        "getPricing", "models", "What each model costs, and what the caller pays", OPTIONAL, None, {JSON: "Pricing"}, OWNED
    ),
    ("GET", "/health"): Operation(
        "getHealth", "gateway", "200 when the database answers, else 503", NONE, None, {JSON: "Health"}, (500,)
    ),
    ("GET", "/api/status"): _public("getStatus", "Version, uptime, state of the providers", "Status"),
    ("GET", "/metrics"): Operation(
        "getMetrics", "gateway", "Prometheus: from this machine, or with the operator's token", OPTIONAL, None,
        {"text/plain": ""}, (404, 500, 503),
    ),
    ("GET", "/openapi.json"): _public("getOpenApi", "This document", "OpenApi"),
    ("GET", "/"): _public("getRoot", "Name and base URL; a cheap probe", "Gateway"),
    ("HEAD", "/"): _public("probeRoot", "Whether somebody is there", None),
    ("GET", "/api/hello"): _public("getHello", "The same as /", "Gateway"),
    ("HEAD", "/api/hello"): _public("probeHello", "Whether somebody is there", None),
}  # fmt: skip
