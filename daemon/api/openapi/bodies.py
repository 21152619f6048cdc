"""Bodies of requests. The fields of conversations are those of the protocols' own tables; here stand their types.

Unknown fields are let through to the provider, so every object is open. `x-in-translation` says what becomes of a field when
the model's provider speaks another dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemon.api.openapi.parts import (
    ANY_OBJECT,
    COUNT,
    FLAG,
    NUMBER,
    POSITIVE,
    TEXT,
    Schema,
    array,
    either,
    nullable,
    one_of_texts,
    ref,
    thing,
)  # fmt: skip
from daemon.protocols.anthropic_messages import tables as messages
from daemon.protocols.gemini import tables as gemini
from daemon.protocols.openai_chat import tables as chat
from daemon.protocols.openai_responses import tables as responses

MODEL: Schema = TEXT | {
    "minLength": 1,
    "maxLength": 512,
    "description": "An id, an alias, `Provider#Model` or `provider/model`, see GET /v1/models.",
}
PROMPTS = either(TEXT, array(TEXT), array({"type": "integer"}), array(array({"type": "integer"})))
TEMPERATURE: Schema = NUMBER | {"minimum": 0, "maximum": 2}
SHARE: Schema = NUMBER | {"minimum": 0, "maximum": 1}
PENALTY: Schema = NUMBER | {"minimum": -2, "maximum": 2}
STOPS = either(TEXT, array(TEXT))
OBJECTS = array(ANY_OBJECT)
FILE: Schema = {"type": "string", "format": "binary"}
IMAGE_FIELDS: dict[str, Schema] = {
    "model": MODEL, "prompt": TEXT, "n": POSITIVE | {"maximum": 10}, "size": TEXT, "quality": TEXT,
    "response_format": one_of_texts("url", "b64_json"), "output_format": TEXT, "output_compression": COUNT,
    "background": TEXT, "stream": FLAG, "partial_images": COUNT | {"maximum": 3}, "user": TEXT,
}  # fmt: skip

CHAT_TYPES: dict[str, Schema] = {
    "model": MODEL, "messages": array(ref("ChatMessage"), minItems=1), "stream": nullable(FLAG),
    "stream_options": nullable(thing({"include_usage": FLAG})), "max_completion_tokens": nullable(POSITIVE),
    "max_tokens": nullable(POSITIVE), "temperature": nullable(TEMPERATURE), "top_p": nullable(SHARE),
    "top_k": nullable({"type": "integer"}), "stop": nullable(STOPS), "n": nullable(POSITIVE | {"maximum": 128}),
    "seed": nullable({"type": "integer"}), "presence_penalty": nullable(PENALTY), "frequency_penalty": nullable(PENALTY),
    "logprobs": nullable(FLAG), "top_logprobs": nullable(COUNT), "tools": nullable(array(ref("ChatTool"))),
    "tool_choice": nullable(either(TEXT, ANY_OBJECT)), "functions": nullable(OBJECTS),
    "function_call": nullable(either(TEXT, ANY_OBJECT)), "parallel_tool_calls": nullable(FLAG),
    "response_format": nullable(thing({"type": TEXT, "json_schema": ANY_OBJECT}, ["type"])),
    "reasoning_effort": nullable(TEXT), "reasoning": nullable(ANY_OBJECT), "thinking": nullable(ANY_OBJECT),
    "service_tier": nullable(TEXT), "metadata": nullable(ANY_OBJECT), "user": nullable(TEXT),
    "safety_identifier": nullable(TEXT), "verbosity": nullable(TEXT), "store": nullable(FLAG),
    "prediction": nullable(ANY_OBJECT), "prompt_cache_key": nullable(TEXT), "prompt_cache_retention": nullable(TEXT),
    "modalities": nullable(array(TEXT)), "audio": nullable(ANY_OBJECT), "logit_bias": nullable(ANY_OBJECT),
    "web_search_options": nullable(ANY_OBJECT), "plugins": nullable(OBJECTS), "models": nullable(array(TEXT)),
}  # fmt: skip
RESPONSES_TYPES: dict[str, Schema] = {
    "model": MODEL, "input": either(TEXT, OBJECTS), "instructions": nullable(TEXT), "stream": nullable(FLAG),
    "max_output_tokens": nullable(POSITIVE), "temperature": nullable(TEMPERATURE), "top_p": nullable(SHARE),
    "top_logprobs": nullable(COUNT), "tools": nullable(OBJECTS), "tool_choice": nullable(either(TEXT, ANY_OBJECT)),
    "parallel_tool_calls": nullable(FLAG), "text": nullable(thing({"format": ANY_OBJECT, "verbosity": nullable(TEXT)})),
    "reasoning": nullable(thing({"effort": nullable(TEXT), "summary": nullable(TEXT)})), "include": nullable(array(TEXT)),
    "metadata": nullable(ANY_OBJECT), "service_tier": nullable(TEXT), "user": nullable(TEXT),
    "safety_identifier": nullable(TEXT), "store": nullable(FLAG), "prompt_cache_key": nullable(TEXT),
    "prompt_cache_retention": nullable(TEXT), "truncation": nullable(TEXT), "max_tool_calls": nullable(POSITIVE),
    "previous_response_id": nullable(TEXT), "background": nullable(FLAG),
}  # fmt: skip
MESSAGES_TYPES: dict[str, Schema] = {
    "model": MODEL, "max_tokens": POSITIVE, "messages": array(ref("AnthropicMessageParam"), minItems=1),
    "system": either(TEXT, OBJECTS), "stream": FLAG, "temperature": SHARE, "top_p": SHARE, "top_k": COUNT,
    "stop_sequences": array(TEXT), "tools": OBJECTS, "tool_choice": thing({"type": TEXT}, ["type"]),
    "thinking": thing({"type": TEXT, "budget_tokens": POSITIVE}, ["type"]),
    "output_config": thing({"effort": TEXT, "format": ANY_OBJECT}), "metadata": thing({"user_id": nullable(TEXT)}),
    "service_tier": TEXT, "mcp_servers": OBJECTS, "output_format": ANY_OBJECT, "cache_control": nullable(ANY_OBJECT),
    "context_management": nullable(ANY_OBJECT), "container": nullable(either(TEXT, ANY_OBJECT)),
    "inference_geo": nullable(TEXT), "speed": nullable(TEXT),
}  # fmt: skip
GEMINI_TYPES: dict[str, Schema] = {
    "contents": array(ref("GeminiContent"), minItems=1), "systemInstruction": ref("GeminiContent"), "tools": OBJECTS,
    "toolConfig": ANY_OBJECT, "generationConfig": ref("GeminiGenerationConfig"), "serviceTier": TEXT, "labels": ANY_OBJECT,
    "safetySettings": OBJECTS, "store": FLAG, "cachedContent": TEXT,
}  # fmt: skip
CONFIG_TYPES: dict[str, Schema] = {
    "stopSequences": array(TEXT), "maxOutputTokens": POSITIVE, "temperature": TEMPERATURE, "topP": SHARE, "topK": NUMBER,
    "seed": {"type": "integer"}, "candidateCount": POSITIVE, "presencePenalty": NUMBER, "frequencyPenalty": NUMBER,
    "responseLogprobs": FLAG, "logprobs": COUNT, "responseMimeType": TEXT, "responseSchema": ANY_OBJECT,
    "thinkingConfig": thing({"includeThoughts": FLAG, "thinkingBudget": {"type": "integer"}, "thinkingLevel": TEXT}),
    "mediaResolution": TEXT, "responseModalities": array(TEXT),
}  # fmt: skip


def _of_table(table: Mapping[str, tuple[str, str]], types: Mapping[str, Schema], required: tuple[str, ...]) -> Schema:
    """An object with the fields of a protocol's table, each with its type (any, where none is told), fate and note."""
    properties: dict[str, Any] = {}
    for name, (fate, note) in table.items():
        if "." in name:
            continue  # a field of a field
        shown = dict(types.get(name, {}))
        if note:
            shown["description"] = f"{shown['description']} {note}." if "description" in shown else f"{note}."
        properties[name] = shown | {"x-in-translation": fate}
    return thing(properties, required)


SCHEMAS: dict[str, Schema] = {
    "ChatCompletionRequest": _of_table(chat.REQUEST, CHAT_TYPES, ("model", "messages")),
    "ChatMessage": thing(
        {
            "role": one_of_texts("system", "developer", "user", "assistant", "tool", "function"),
            "content": nullable(either(TEXT, OBJECTS)),
            "name": nullable(TEXT),
            "tool_calls": nullable(OBJECTS),
            "tool_call_id": nullable(TEXT),
        },
        ["role"],
    ),
    "ChatTool": thing({"type": TEXT, "function": thing({"name": TEXT, "description": TEXT, "parameters": ANY_OBJECT})}),
    "ResponsesRequest": _of_table(responses.REQUEST, RESPONSES_TYPES, ("model",)),
    "MessagesRequest": _of_table(messages.REQUEST, MESSAGES_TYPES, ("model", "messages", "max_tokens")),
    "AnthropicMessageParam": thing(
        {"role": one_of_texts("user", "assistant", "system"), "content": either(TEXT, OBJECTS)}, ["role", "content"]
    ),
    "CountTokensRequest": thing(
        {name: MESSAGES_TYPES[name] for name in ("model", "messages", "system", "tools", "tool_choice", "thinking")},
        ["model", "messages"],
    ),
    "GenerateContentRequest": _of_table(gemini.REQUEST, GEMINI_TYPES, ("contents",)),
    "GeminiContent": thing({"role": TEXT, "parts": OBJECTS}),
    "GeminiGenerationConfig": _of_table(gemini.CONFIG, CONFIG_TYPES, ()),
    "GeminiCountTokensRequest": thing(
        {"contents": array(ref("GeminiContent")), "generateContentRequest": ref("GenerateContentRequest")}
    ),
    "CompletionRequest": thing(
        {
            "model": MODEL, "prompt": PROMPTS, "suffix": nullable(TEXT), "max_tokens": nullable(POSITIVE),
            "stream": nullable(FLAG), "stream_options": nullable(ANY_OBJECT), "n": nullable(POSITIVE),
            "best_of": nullable(POSITIVE), "echo": nullable(FLAG), "logprobs": nullable(COUNT),
            "temperature": nullable(TEMPERATURE), "top_p": nullable(SHARE), "stop": nullable(STOPS),
            "seed": nullable({"type": "integer"}), "user": TEXT,
        },
        ["model"],
    ),
    "EmbeddingRequest": thing(
        {
            "model": MODEL, "input": either(PROMPTS, OBJECTS), "encoding_format": one_of_texts("float", "base64"),
            "dimensions": POSITIVE, "user": TEXT,
        },
        ["model", "input"],
    ),
    "ImageGenerationRequest": thing(IMAGE_FIELDS, ["model", "prompt"]),
    "ImageEditForm": thing(
        IMAGE_FIELDS | {"image": FILE, "image[]": array(FILE), "mask": FILE, "input_fidelity": TEXT}, ["model", "prompt"]
    ),
    "ImageEditRequest": thing(IMAGE_FIELDS | {"images": array(either(TEXT, ANY_OBJECT))}, ["model", "prompt"]),
    "SpeechRequest": thing(
        {
            "model": MODEL, "input": TEXT, "voice": either(TEXT, ANY_OBJECT), "instructions": TEXT, "response_format": TEXT,
            "speed": NUMBER, "stream_format": one_of_texts("audio", "sse"),
        },
        ["model", "input"],
    ),
    "TranscriptionForm": thing(
        {
            "model": MODEL, "file": FILE, "language": TEXT, "prompt": TEXT, "response_format": TEXT, "temperature": NUMBER,
            "stream": FLAG, "timestamp_granularities[]": array(TEXT),
        },
        ["model", "file"],
    ),
    "ModerationRequest": thing({"model": MODEL, "input": either(TEXT, array(TEXT), OBJECTS)}, ["input"]),
    "RerankRequest": thing(
        {
            "model": MODEL, "query": either(TEXT, ANY_OBJECT), "documents": array(either(TEXT, ANY_OBJECT), minItems=1),
            "top_n": POSITIVE, "return_documents": FLAG,
        },
        ["model", "query", "documents"],
    ),
    "ProvidersOwnRequest": thing({"model": MODEL}, ["model"], "Whatever the provider's endpoint takes; it must name a model."),
}  # fmt: skip
