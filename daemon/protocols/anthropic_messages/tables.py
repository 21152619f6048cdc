"""What the Messages API has, and what becomes of it in a translation. docs/protocols.md is made from these tables.

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

NAME: Final = "anthropic_messages"

# -- versions of the API. Requests are read alike in all of them; a translation is sent as VERSION.

VERSION_HEADER: Final = "anthropic-version"
VERSION: Final = "2023-06-01"
# version -> fields that it refuses, whatever their value
VERSIONS: Final[dict[str, frozenset[str]]] = {
    "2023-06-01": frozenset(),
    "2026-10-21": frozenset({"temperature", "top_p", "top_k"}),
}
# The API must be told a limit. This one stands in for a client that gave none, when the model's own limit is not known.
DEFAULT_MAX_TOKENS: Final = 4096

# -- a client's request (decode_request)

REQUEST: Final[Table] = {
    "model": (CARRIED, ""),
    "max_tokens": (CARRIED, "required; 0 (warm the cache) is refused"),
    "messages": (CARRIED, "roles user, assistant, system; tool results become messages of their own"),
    "system": (CARRIED, "a string or blocks: a first message of role system"),
    "stream": (CARRIED, ""),
    "temperature": (CARRIED, ""),
    "top_p": (CARRIED, ""),
    "top_k": (CARRIED, ""),
    "stop_sequences": (CARRIED, ""),
    "tools": (CARRIED, "as in the table of tools"),
    "tool_choice": (CARRIED, "any becomes required; disable_parallel_tool_use"),
    "thinking": (
        CARRIED,
        "enabled: its budget; adaptive, between_tools: adaptive; disabled: a budget of 0; display: summary; proofs are wanted",
    ),
    "output_config": (
        CARRIED,
        "effort (max becomes xhigh) and format, enforced where every provider can: see closed_schema; task_budget is dropped",
    ),
    "output_format": (CARRIED, "the older name of output_config.format"),
    "metadata": (CARRIED, "user_id as the user"),
    "service_tier": (CARRIED, "standard_only becomes default"),
    "output_config.effort": (DROPPED, "beside disabled thinking"),
    "cache_control": (DROPPED, "on the request as a whole, a hint; on blocks and tools it is carried"),
    "context_management": (DROPPED, "nothing is cleared or compacted on the way"),
    "diagnostics": (DROPPED, ""),
    "fallbacks": (DROPPED, "other models when the first refuses"),
    "fallback_credit_token": (DROPPED, ""),
    "speed": (DROPPED, "a hint"),
    "user_profile_id": (DROPPED, ""),
    "workspace_id": (DROPPED, ""),
    "container": (REFUSED, "hosted tool"),
    "mcp_servers": (REFUSED, "hosted tools"),
    "inference_geo": (REFUSED, "another provider computes elsewhere"),
}

BLOCKS: Final[Table] = {
    "text": (CARRIED, "with cache_control and citations"),
    "image": (CARRIED, "base64, url or file; transformations are a hint"),
    "document": (CARRIED, "base64, url or file; text and content become text under their title; citations, context dropped"),
    "search_result": (CARRIED, "as text under its title and source"),
    "thinking": (CARRIED, "with its signature; a sealed proof of another protocol is opened"),
    "redacted_thinking": (CARRIED, ""),
    "tool_use": (CARRIED, "input as JSON text; {_raw: text} as that text"),
    "tool_result": (CARRIED, "text, image, document, search_result, tool_reference; is_error"),
    "tool_reference": (CARRIED, "the name of the tool as text: no tool is deferred"),
    "compaction": (CARRIED, "its summary as text; nothing before it is forgotten"),
    "fallback": (DROPPED, "a record without content"),
    "document.citations": (DROPPED, "citations are not asked for"),
    "tool_use.cache_control": (DROPPED, "a hint"),
    "everything else": (REFUSED, "hosted tools: what they were asked, and what they found"),
}

TOOLS: Final[Table] = {
    "custom": (CARRIED, "name, description, input_schema, strict, cache_control; also without type"),
    "tools.defer_loading": (DROPPED, "every tool is loaded"),
    "tools.input_examples": (DROPPED, "a hint"),
    "tools.eager_input_streaming": (DROPPED, "a hint"),
    "tools.allowed_callers": (DROPPED, "only the model itself calls"),
    "tools.tool_search": (DROPPED, "tool_search_tool_*: every tool is loaded"),
    "everything else": (REFUSED, "tools that Anthropic hosts or defines"),
}

# -- a provider's request (encode_request): fields of the canonical conversation

ENCODED: Final[Table] = {
    "messages": (CARRIED, "tool messages and the user's after them become one; blank texts and empty messages are left out"),
    "max_output": (CARRIED, "max_tokens; when not given, the model's limit or 4096, with the thinking budget on top"),
    "temperature": (CARRIED, "not when it is 1, the default"),
    "top_p": (CARRIED, "not when it is 1, the default"),
    "top_k": (CARRIED, ""),
    "stop": (CARRIED, ""),
    "tools": (CARRIED, "strict only when true; a schema gets type object when it has none"),
    "tool_choice": (CARRIED, "nothing without tools"),
    "parallel_tool_calls": (CARRIED, "false as disable_parallel_tool_use; nothing without tools"),
    "output_format": (CARRIED, "output_config.format; objects are closed (additionalProperties false) where nothing is said"),
    "reasoning": (CARRIED, "adaptive thinking with an effort, or a budget, by the model's generation: see models"),
    "user": (CARRIED, "metadata.user_id, up to 256 characters"),
    "service_tier": (CARRIED, "auto, priority: auto; default: standard_only"),
    "cache_control": (CARRIED, ""),
    "include_usage": (CARRIED, "always told"),
    "include_encrypted": (CARRIED, "always told"),
    "tool.custom": (CARRIED, "as a function with one string, `input`"),
    "tool.format": (DROPPED, "the grammar of a custom tool"),
    "tool_call.arguments": (CARRIED, "an object; what is none as {_raw: text}; ids get the letters that the API accepts"),
    "refusal": (CARRIED, "as text"),
    "system.position": (DROPPED, "later system messages move to the top, or stay where the provider allows it (inline_system)"),
    "system.media": (DROPPED, "system messages hold text only"),
    "output_format.json": (DROPPED, "JSON without a schema is asked for in words"),
    "temperature.range": (DROPPED, "above 1 it becomes 1"),
    "sampling": (DROPPED, "temperature, top_p, top_k where version or model refuse them, beside thinking, or two at once"),
    "reasoning.budget_tokens": (DROPPED, "lowered below max_tokens, or an effort in its place"),
    "reasoning.effort": (DROPPED, "none is low where thinking cannot be disabled"),
    "reasoning.forced_tool": (DROPPED, "thinking, when a tool must be called"),
    "reasoning.tool_loop": (DROPPED, "budgeted thinking, when the call that is answered came without its signed thought"),
    "reasoning.room": (DROPPED, "thinking, when max_tokens leaves no room for it"),
    "seed": (DROPPED, ""),
    "presence_penalty": (DROPPED, ""),
    "frequency_penalty": (DROPPED, ""),
    "logprobs": (DROPPED, ""),
    "metadata": (DROPPED, ""),
    "verbosity": (DROPPED, ""),
    "user.length": (DROPPED, "a user of more than 256 characters"),
    "service_tier.other": (DROPPED, "all but auto, default, priority"),
    "message.name": (DROPPED, ""),
    "media.detail": (DROPPED, "all but auto"),
    "assistant.media": (DROPPED, "what the assistant generated"),
    "citations": (DROPPED, "the API accepts none but its own"),
    "thinking": (DROPPED, "without a proof that Anthropic's models can read"),
    "tool_call.signature": (DROPPED, "of another origin"),
    "n": (REFUSED, "more than one answer"),
    "stop.blank": (REFUSED, "a stop sequence of white space"),
    "audio": (REFUSED, ""),
    "video": (REFUSED, ""),
    "image.type": (REFUSED, "data that is not JPEG, PNG, GIF or WebP"),
    "file.type": (REFUSED, "data that is neither PDF nor text"),
}

# -- a provider's reply (decode_reply, decoder): content blocks

OUTPUT: Final[Table] = {
    "text": (CARRIED, "with citations: url, title, cited text"),
    "thinking": (CARRIED, "with its signature"),
    "redacted_thinking": (CARRIED, ""),
    "tool_use": (CARRIED, ""),
    "stop_details": (CARRIED, "the explanation of a refusal, as refusal"),
    "everything else": (DROPPED, "hosted tools at work, compaction, fallback: never asked for in a translation"),
}

# -- a client's reply (encode_reply, encoder): parts of the canonical reply

ENCODED_REPLY: Final[Table] = {
    "text": (CARRIED, ""),
    "refusal": (CARRIED, "as text; the stop reason is refusal"),
    "thinking": (CARRIED, "proofs of other protocols travel sealed in the signature"),
    "tool_call": (CARRIED, "input; in a stream the text as it came; a signature in a thinking block before it"),
    "citations": (CARRIED, "those with a URL, as web_search_result_location without an encrypted index"),
    "citations.url": (DROPPED, "those without a URL"),
    "choices": (DROPPED, "all but the first"),
    "logprobs": (DROPPED, ""),
    "media": (DROPPED, "generated images and sounds"),
    "service_tier": (CARRIED, "in usage, not in a stream: default is standard; all but priority and batch are left out"),
    "created": (DROPPED, "the API has no such field"),
}

# -- usage: field -> meter, and what the field includes. docs/usage.md is made from it.

USAGE: Final[Table] = {
    "input_tokens": ("input", "without what the cache read or wrote"),
    "cache_read_input_tokens": ("cached_input", ""),
    "cache_creation_input_tokens": ("cache_write_5m", "what of it was not written for an hour"),
    "cache_creation.ephemeral_5m_input_tokens": ("cache_write_5m", "where the sum is not told"),
    "cache_creation.ephemeral_1h_input_tokens": ("cache_write_1h", "part of cache_creation_input_tokens"),
    "output_tokens": ("output", "thinking included"),
    "output_tokens_details.thinking_tokens": ("reasoning", "part of output, reported beside it"),
    "iterations": (
        "all",
        "compaction, fallback, advisor: the sum over all of them; the counts at the top are those of the answer alone",
    ),
    "server_tool_use.*_requests": ("hosted_call", "web_search_requests, web_fetch_requests, code_execution_requests"),
}

# Why a reply ended. Reasons that are not known are STOP.
FINISH: Final[dict[str, Finish]] = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "max_tokens": Finish.LENGTH,
    "model_context_window_exceeded": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.REFUSAL,
    "pause_turn": Finish.PAUSE,
    "compaction": Finish.PAUSE,
}
# A reply that failed must not look complete, and no reason says so: max_tokens tells that something is missing.
STOP_REASON: Final[dict[Finish | None, str]] = {
    None: "end_turn",
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.REFUSAL: "refusal",
    Finish.CONTENT_FILTER: "refusal",
    Finish.PAUSE: "pause_turn",
    Finish.ERROR: "max_tokens",
}

EFFORTS: Final = {name: name for name in ("low", "medium", "high", "xhigh")} | {"max": "xhigh"}
TIERS: Final = {"auto": "auto", "standard_only": "default"}  # of a request
TIERS_ENCODED: Final = {"auto": "auto", "priority": "auto", "default": "standard_only"}
REPLY_TIERS: Final = {"standard": "default", "priority": "priority", "batch": "batch"}
REPLY_TIERS_ENCODED: Final = {"default": "standard", "standard": "standard", "priority": "priority", "batch": "batch"}
