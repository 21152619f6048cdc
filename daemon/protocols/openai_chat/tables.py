"""What chat completions have, and what becomes of it in a translation. docs/protocols.md is made from these tables.

A row is name -> (fate, note). CARRIED: the canonical conversation holds it. DROPPED: left out, and named in Chat.dropped or
Losses when it was given. REFUSED: 400 unsupported_parameter, because leaving it out would change what the reply means.

To add a field: 1 a row here, 2 its line in decode and encode, 3 a case in the tests. What has no row is ignored.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.chat import Finish

Table = dict[str, tuple[str, str]]

CARRIED: Final = "carried"
DROPPED: Final = "dropped"
REFUSED: Final = "refused"

NAME: Final = "openai_chat"

# -- a client's request (decode_request)

REQUEST: Final[Table] = {
    "model": (CARRIED, ""),
    "messages": (CARRIED, "all roles; tool and function messages that follow each other become one"),
    "stream": (CARRIED, ""),
    "stream_options": (CARRIED, "include_usage; obfuscation is never added"),
    "max_completion_tokens": (CARRIED, ""),
    "max_tokens": (CARRIED, "the smaller one when both are given"),
    "temperature": (CARRIED, ""),
    "top_p": (CARRIED, ""),
    "top_k": (CARRIED, "not in the API, but sent"),
    "stop": (CARRIED, ""),
    "n": (CARRIED, ""),
    "seed": (CARRIED, ""),
    "presence_penalty": (CARRIED, ""),
    "frequency_penalty": (CARRIED, ""),
    "logprobs": (CARRIED, ""),
    "top_logprobs": (CARRIED, ""),
    "tools": (CARRIED, "function and custom; tools that the host runs are refused"),
    "tool_choice": (CARRIED, "allowed_tools becomes a shorter list of tools"),
    "functions": (CARRIED, "as tools; the reply then has function_call for its first call"),
    "function_call": (CARRIED, "as tool_choice"),
    "parallel_tool_calls": (CARRIED, ""),
    "response_format": (CARRIED, "text, json_object, json_schema; other types are refused"),
    "reasoning_effort": (CARRIED, "max becomes xhigh; default is none said"),
    "reasoning": (CARRIED, "OpenRouter's object: effort, max_tokens, enabled; exclude is ignored"),
    "thinking": (CARRIED, "DeepSeek's and Anthropic's object: type, budget_tokens"),
    "service_tier": (CARRIED, ""),
    "metadata": (CARRIED, ""),
    "user": (CARRIED, ""),
    "safety_identifier": (CARRIED, "as the user, before `user`"),
    "verbosity": (CARRIED, ""),
    "store": (DROPPED, "nothing is stored"),
    "prediction": (DROPPED, "a hint that makes replies faster"),
    "prompt_cache_key": (DROPPED, "a hint"),
    "prompt_cache_retention": (DROPPED, "a hint"),
    "prompt_cache_options": (DROPPED, "a hint"),
    "modalities": (REFUSED, "all but text"),
    "audio": (REFUSED, "spoken replies"),
    "logit_bias": (REFUSED, "names tokens of one model's vocabulary"),
    "web_search_options": (REFUSED, "hosted tool"),
    "search_parameters": (REFUSED, "hosted tool"),
    "plugins": (REFUSED, "hosted tools"),
    "models": (REFUSED, "another host's routing"),
    "fallbacks": (REFUSED, "another host's routing"),
    "preset": (REFUSED, "another host's stored settings"),
    "moderation": (REFUSED, "the reply would not be moderated"),
}
# Given even when it is an empty object: its presence turns the search on.
ON_WHEN_EMPTY: Final = frozenset({"web_search_options"})

PARTS: Final[Table] = {
    "text": (CARRIED, "with cache_control; prompt_cache_breakpoint becomes cache_control"),
    "input_text": (CARRIED, "not in the API, but sent"),
    "output_text": (CARRIED, "not in the API, but sent"),
    "refusal": (CARRIED, ""),
    "thinking": (CARRIED, "Mistral's and Anthropic's form"),
    "redacted_thinking": (CARRIED, "Anthropic's form"),
    "image_url": (CARRIED, "https or data URL, detail"),
    "input_image": (CARRIED, "not in the API, but sent"),
    "input_audio": (CARRIED, "data and format"),
    "audio_url": (CARRIED, "vLLM's form"),
    "video_url": (CARRIED, "vLLM's form"),
    "file": (CARRIED, "file_data or file_id, filename"),
    "document_url": (CARRIED, "Mistral's form"),
}

MESSAGE: Final[Table] = {
    "content": (CARRIED, "a string or parts"),
    "name": (CARRIED, ""),
    "refusal": (CARRIED, ""),
    "tool_calls": (CARRIED, "function and custom; an empty id gets one; Google's thought_signature is kept"),
    "tool_call_id": (CARRIED, "an empty one is the oldest call that has no result yet"),
    "function_call": (CARRIED, "with an id of our own"),
    "audio": (CARRIED, "the id of an earlier spoken reply"),
    "reasoning_content": (CARRIED, "thoughts, when none of the next three tells them better"),
    "reasoning": (CARRIED, "the same, as other hosts call it"),
    "reasoning_details": (CARRIED, "thoughts with what proves them (OpenRouter)"),
    "thinking_blocks": (CARRIED, "thoughts with their signatures (Anthropic's form)"),
    "annotations": (DROPPED, "citations of an earlier reply are not sent to models"),
}

# -- a provider's request (encode_request): fields of the canonical conversation

ENCODED: Final[Table] = {
    "messages": (CARRIED, "each tool result is a message of its own"),
    "tool_result.media": (CARRIED, "in a user message after the results"),
    "max_output": (CARRIED, "max_tokens or max_completion_tokens, see habits"),
    "temperature": (CARRIED, ""),
    "top_p": (CARRIED, ""),
    "stop": (CARRIED, ""),
    "n": (CARRIED, ""),
    "seed": (CARRIED, ""),
    "presence_penalty": (CARRIED, ""),
    "frequency_penalty": (CARRIED, ""),
    "logprobs": (CARRIED, ""),
    "top_logprobs": (CARRIED, ""),
    "tools": (CARRIED, ""),
    "tool_choice": (CARRIED, ""),
    "parallel_tool_calls": (CARRIED, "nothing without tools: hosts refuse it there"),
    "output_format": (CARRIED, "a schema without a name is called output"),
    "reasoning.effort": (CARRIED, "reasoning_effort"),
    "reasoning.budget_tokens": (DROPPED, "an effort in its place: EFFORT_OF_BUDGET"),
    "reasoning.summary": (DROPPED, "hosts show thoughts or do not"),
    "verbosity": (CARRIED, ""),
    "user": (CARRIED, ""),
    "service_tier": (DROPPED, "those that this API does not know"),
    "include_usage": (CARRIED, "always asked for in a stream"),
    "include_encrypted": (DROPPED, ""),
    "metadata": (DROPPED, "OpenAI refuses it without store; habits: metadata"),
    "top_k": (DROPPED, "habits: top_k"),
    "cache_control": (DROPPED, "hosts cache by themselves; habits: cache_control"),
    "thinking": (DROPPED, "many hosts refuse thoughts in a request; habits: thinking"),
    "tool_call.signature": (DROPPED, "but for Google's models; habits: extra_content"),
    "tool_result.is_error": (DROPPED, "the content tells it"),
    "tool_result.name": (DROPPED, "the call's id tells it"),
    "citations": (DROPPED, "of an earlier reply"),
    "assistant.media": (DROPPED, "images of an earlier reply; a spoken one goes by its id"),
    "prefill": (CARRIED, "an assistant's message at the end: most hosts answer it instead of continuing it"),
    "file.text": (CARRIED, "a document of plain text becomes a text part"),
    "file.url": (REFUSED, "habits: file_url"),
    "video": (REFUSED, "habits: video_url"),
    "audio.url": (REFUSED, "audio must be data"),
    "image.file_id": (REFUSED, ""),
}

# -- a provider's reply (decode_reply, decoder)

OUTPUT: Final[Table] = {
    "content": (CARRIED, "a string or parts"),
    "refusal": (CARRIED, ""),
    "reasoning_content": (CARRIED, "and its other names, as in a request's messages"),
    "tool_calls": (CARRIED, "an empty id gets one made of the reply's id"),
    "function_call": (CARRIED, "as a tool call"),
    "annotations": (CARRIED, "url_citation"),
    "citations": (CARRIED, "Perplexity's, with titles from search_results"),
    "images": (CARRIED, ""),
    "audio": (CARRIED, "data as media, transcript as text; its id and expiry are dropped"),
    "logprobs": (CARRIED, "in a stream those of the content only"),
    "finish_reason": (CARRIED, "FINISH; stop after tool calls is tool_calls, after a refusal refusal"),
    "stop_reason": (CARRIED, "vLLM's: the stop sequence"),
    "service_tier": (CARRIED, "not in a stream"),
    "system_fingerprint": (DROPPED, ""),
    "usage": (CARRIED, ""),
}

# -- a reply for a client (encode_reply, encoder)

REPLY: Final[Table] = {
    "text": (CARRIED, "texts are joined"),
    "thinking": (CARRIED, "reasoning_content; what proves or hides it in reasoning_details"),
    "refusal": (CARRIED, ""),
    "tool_calls": (CARRIED, ""),
    "citations": (CARRIED, "those with a URL, as url_citation; text without offsets is cited whole"),
    "citation.url": (DROPPED, "citations without one"),
    "image": (CARRIED, "images, as OpenRouter has them"),
    "audio": (CARRIED, "one, with data"),
    "media": (DROPPED, "all other"),
    "logprobs": (CARRIED, ""),
    "finish": (CARRIED, "REASON; the words of a refusal decide between stop and content_filter"),
    "stop_sequence": (DROPPED, "which one it was"),
    "pause": (DROPPED, "it looks like stop"),
    "usage": (CARRIED, "cache_write_1h is added to cache_write_tokens"),
    "service_tier": (CARRIED, "not in a stream"),
}

# -- usage: field -> meter, and what the field includes. docs/usage.md is made from it.

USAGE: Final[Table] = {
    "prompt_tokens": ("input", "what is left of it without the cached, written and audio tokens, which it includes"),
    "completion_tokens": ("output", "reasoning included; without the audio tokens, which it includes"),
    "total_tokens": (
        "output",
        "what it has beyond prompt and completion was generated: xAI and Gemini leave reasoning out of completion_tokens",
    ),
    "prompt_tokens_details.cached_tokens": (
        "cached_input",
        "OpenAI, Azure, xAI, Groq, OpenRouter, Gemini; of several names the largest count wins",
    ),
    "prompt_cache_hit_tokens": ("cached_input", "DeepSeek"),
    "cached_tokens": ("cached_input", "Moonshot"),
    "num_cached_tokens": ("cached_input", "Mistral"),
    "prompt_tokens_details.cache_write_tokens": ("cache_write_5m", "OpenAI, OpenRouter"),
    "prompt_tokens_details.cache_creation_input_tokens": ("cache_write_5m", "Qwen"),
    "prompt_tokens_details.audio_tokens": ("audio_input", "what is cached too is cached_input"),
    "completion_tokens_details.audio_tokens": ("audio_output", ""),
    "completion_tokens_details.reasoning_tokens": ("reasoning", "part of output, reported beside it"),
    "reasoning_tokens": ("reasoning", "Perplexity"),
    "server_tool_use.*_requests": ("hosted_call", "OpenRouter"),
    "server_side_tool_usage_details.*_calls": ("hosted_call", "xAI"),
}

FINISH: Final[dict[str, Finish]] = {
    "stop": Finish.STOP,
    "eos": Finish.STOP,
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,  # Mistral: the context window is full
    "tool_calls": Finish.TOOL_CALLS,
    "tool_use": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.CONTENT_FILTER,
    "refusal": Finish.REFUSAL,
    "error": Finish.ERROR,  # OpenRouter
    "abort": Finish.ERROR,  # SGLang
    "insufficient_system_resource": Finish.ERROR,  # DeepSeek
}  # every other is STOP
REASON: Final[dict[Finish, str]] = {
    Finish.STOP: "stop",
    Finish.STOP_SEQUENCE: "stop",
    Finish.LENGTH: "length",
    Finish.TOOL_CALLS: "tool_calls",
    Finish.REFUSAL: "content_filter",
    Finish.CONTENT_FILTER: "content_filter",
    Finish.PAUSE: "stop",
    Finish.ERROR: "error",
}

# Most tokens of a budget -> effort; above the last: high.
EFFORT_OF_BUDGET: Final = ((0, "none"), (2048, "low"), (8192, "medium"))
EFFORTS: Final[dict[str, str | None]] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
    "default": None,  # Groq
    "auto": None,
}
SERVICE_TIERS: Final[dict[str, str]] = {
    "auto": "auto",
    "default": "default",
    "flex": "flex",
    "scale": "scale",
    "priority": "priority",
    "fast": "fast",
    "standard": "default",
    "standard_only": "default",
}
# OpenRouter's name of a thought's format -> the protocol whose models can read what proves it.
ORIGIN_OF_FORMAT: Final[dict[str, str]] = {
    "anthropic-claude-v1": "anthropic_messages",
    "openai-responses-v1": "openai_responses",
    "azure-openai-responses-v1": "openai_responses",
    "google-gemini-v1": "gemini",
}
FORMAT_OF_ORIGIN: Final[dict[str, str]] = {
    "anthropic_messages": "anthropic-claude-v1",
    "openai_responses": "openai-responses-v1",
    "gemini": "google-gemini-v1",
}
