"""Replies. Those of providers pass with whatever they hold, so they are told in outline; the gateway's own are whole."""

from __future__ import annotations

from daemon.api.openapi.parts import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    INSTANT,
    NUMBER,
    POSITIVE,
    TEXT,
    USD,
    Schema,
    array,
    constant,
    either,
    nullable,
    one_of_texts,
    ref,
    thing,
    whole,
)  # fmt: skip
from db.meters import REQUIRED

SPENT = whole({"requests": COUNT, "tokens": COUNT, "cost": USD})
PRICES: Schema = {"type": "object", "additionalProperties": USD, "description": "USD for one unit of each meter."}

# -- of providers

SCHEMAS: dict[str, Schema] = {
    "ChatCompletion": thing(
        {
            "id": TEXT, "object": constant("chat.completion"), "created": COUNT, "model": TEXT,
            "choices": array(
                thing({"index": COUNT, "message": ref("ChatMessage"), "finish_reason": nullable(TEXT)}, ["index", "message"])
            ),
            "usage": ref("OpenAIUsage"),
        },
        ["id", "object", "model", "choices"],
        "With `stream`, an event stream of chat.completion.chunk objects that ends with `[DONE]`.",
    ),
    "OpenAIUsage": thing({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT}),
    "Response": thing(
        {
            "id": TEXT, "object": constant("response"), "model": TEXT, "status": TEXT, "output": array(ANY_OBJECT),
            "usage": nullable(thing({"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT})),
        },
        ["id", "object", "model", "output"],
        "With `stream`, an event stream of typed events that ends with response.completed (or failed, incomplete).",
    ),
    "AnthropicMessage": thing(
        {
            "id": TEXT, "type": constant("message"), "role": constant("assistant"), "model": TEXT, "content": array(ANY_OBJECT),
            "stop_reason": nullable(TEXT), "stop_sequence": nullable(TEXT),
            "usage": thing({"input_tokens": COUNT, "output_tokens": COUNT}),
        },
        ["id", "type", "role", "model", "content"],
        "With `stream`, an event stream from message_start to message_stop.",
    ),
    "GenerateContentResponse": thing(
        {"candidates": array(ANY_OBJECT), "usageMetadata": ANY_OBJECT, "modelVersion": TEXT, "responseId": TEXT},
        description="A stream is one JSON array of these, with `alt=sse` an event stream.",
    ),
    "InputTokens": thing({"input_tokens": COUNT}, ["input_tokens"]),
    "TotalTokens": thing({"totalTokens": COUNT}, ["totalTokens"]),
    "Completion": thing(
        {"id": TEXT, "object": TEXT, "created": COUNT, "model": TEXT, "choices": array(ANY_OBJECT)},
        ["choices"],
    ),
    "EmbeddingList": thing(
        {
            "object": constant("list"), "model": TEXT, "usage": ref("OpenAIUsage"),
            "data": array(thing({"index": COUNT, "embedding": either(array(NUMBER), TEXT)})),
        },
        ["data"],
    ),
    "ImageList": thing(
        {"created": COUNT, "data": array(thing({"url": TEXT, "b64_json": TEXT})), "usage": ANY_OBJECT}, ["data"]
    ),
    "Transcription": thing({"text": TEXT, "usage": ANY_OBJECT}),
    "ModerationList": thing({"id": TEXT, "model": TEXT, "results": array(ANY_OBJECT)}, ["results"]),
    "RerankList": thing({"results": array(thing({"index": COUNT, "relevance_score": NUMBER})), "usage": ANY_OBJECT}),
    "ProvidersOwnReply": {"description": "Whatever the provider's endpoint gives."},
    # -- the gateway's own
    "OpenAIModel": whole(
        {
            "id": TEXT, "object": constant("model"), "created": COUNT, "owned_by": TEXT, "name": TEXT, "description": TEXT,
            "type": one_of_texts(*REQUIRED), "pricing": PRICES, "context_length": nullable(POSITIVE),
            "max_output_length": nullable(POSITIVE), "input_modalities": array(TEXT), "output_modalities": array(TEXT),
            "supported_sampling_parameters": array(TEXT), "supported_features": array(TEXT),
        },
        "`canonical_id` when `id` is another name of it; `effective_pricing`, what the caller pays, when a key was sent.",
    ),
    "AnthropicModel": whole(
        {
            "type": constant("model"), "id": TEXT, "display_name": TEXT, "created_at": INSTANT, "lifecycle": constant("active"),
            "max_input_tokens": nullable(POSITIVE), "max_tokens": nullable(POSITIVE),
        }
    ),
    "GeminiModel": thing(
        {
            "name": TEXT, "baseModelId": TEXT, "version": TEXT, "displayName": TEXT, "description": TEXT,
            "inputTokenLimit": POSITIVE, "outputTokenLimit": POSITIVE, "supportedGenerationMethods": array(TEXT),
            "thinking": FLAG,
        },
        ["name", "baseModelId", "supportedGenerationMethods"],
    ),
    "OpenAIModelList": whole({"object": constant("list"), "data": array(ref("OpenAIModel"))}),
    "AnthropicModelList": whole(
        {"data": array(ref("AnthropicModel")), "has_more": FLAG, "first_id": nullable(TEXT), "last_id": nullable(TEXT)}
    ),
    "GeminiModelList": thing({"models": array(ref("GeminiModel")), "nextPageToken": TEXT}, ["models"]),
    "ModelList": either(ref("OpenAIModelList"), ref("AnthropicModelList"), ref("GeminiModelList")),
    "Model": either(ref("OpenAIModel"), ref("AnthropicModel"), ref("GeminiModel")),
    "Pricing": whole(
        {
            "object": constant("pricing"), "currency": constant("USD"), "formula": TEXT,
            "models": array(whole({"id": TEXT, "name": TEXT, "type": TEXT, "prices": {
                "type": "object",
                "additionalProperties": thing(
                    {"unit": TEXT, "per": POSITIVE, "list": USD, "multiplier": TEXT, "price": USD, "effective": USD},
                    ["unit", "per", "list", "multiplier", "price"],
                ),
            }})),
        }
    ),
    "Key": whole(
        {
            "object": constant("key"), "id": TEXT, "name": TEXT, "user": TEXT, "expires_at": nullable(INSTANT),
            "models": nullable(array(TEXT)),
            "limits": whole({"rpm": nullable(POSITIVE), "tpm": nullable(POSITIVE), "max_parallel": nullable(POSITIVE)}),
            "budget": nullable(
                whole({"limit": USD, "period": nullable(TEXT), "spent": USD, "held": USD, "remaining": USD})
            ),
            "spend": USD, "remaining": USD | {"description": "What it may still spend, USD."}, "today": SPENT,
        }
    ),
    "Credits": whole(
        {
            "object": constant("credits"), "user": TEXT, "balance": USD, "held": USD, "available": USD, "credit_limit": USD,
            "currency": constant("USD"),
        }
    ),
    "UsageToday": whole(
        {"object": constant("usage"), "user": TEXT, "day": TEXT | {"format": "date"}, "today": SPENT, "key_today": SPENT}
    ),
    "Provider": whole(
        {
            "object": constant("provider"), "id": TEXT, "name": TEXT, "description": TEXT, "version": TEXT, "base_url": TEXT,
            "endpoints": array(TEXT), "capabilities": array(TEXT),
            "modalities": whole({"input": array(TEXT), "output": array(TEXT)}), "model_count": COUNT,
            "docs_url": nullable(TEXT), "pricing_url": nullable(TEXT), "status_url": nullable(TEXT), "auth": ANY_OBJECT,
            "rate_limits": ANY_OBJECT,
        }
    ),
    "Gateway": whole({"object": constant("gateway"), "name": TEXT, "base_url": TEXT}),
    "Health": whole({"status": one_of_texts("healthy", "unhealthy"), "service": TEXT, "version": TEXT}),
    "Status": whole(
        {
            "success": FLAG, "message": TEXT,
            "data": whole(
                {
                    "version": TEXT, "start_time": COUNT, "uptime_seconds": COUNT, "system_name": TEXT,
                    "server_address": TEXT, "docs_link": TEXT, "status": one_of_texts("up", "degraded"),
                    "upstreams": array(
                        whole(
                            {
                                "name": TEXT, "status": one_of_texts("up", "down", "paused", "no_keys", "unknown"),
                                "latency_ms": nullable(COUNT), "checked_at": nullable(INSTANT),
                            }
                        )
                    ),
                }
            ),
        }
    ),
    "OpenApi": thing({"openapi": TEXT, "info": ANY_OBJECT, "paths": ANY_OBJECT}, ["openapi", "info", "paths"]),
}  # fmt: skip
