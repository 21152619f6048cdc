"""What the Responses API has, and what becomes of it in a translation. docs/protocols.md is made from these tables.

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

NAME: Final = "openai_responses"

# -- a client's request (decode_request)

REQUEST: Final[Table] = {
    "model": (CARRIED, ""),
    "input": (CARRIED, "a string is one user message; items as in the tables below"),
    "instructions": (CARRIED, "a first message of role system"),
    "stream": (CARRIED, ""),
    "max_output_tokens": (CARRIED, ""),
    "temperature": (CARRIED, ""),
    "top_p": (CARRIED, ""),
    "top_logprobs": (CARRIED, "where include asks for log probabilities; without that it has no effect"),
    "tools": (CARRIED, "as in the table of tools"),
    "tool_choice": (CARRIED, "allowed_tools becomes a shorter list of tools; hosted tools are refused"),
    "parallel_tool_calls": (CARRIED, "nothing without tools"),
    "text": (CARRIED, "format and verbosity"),
    "reasoning": (CARRIED, "effort and summary; effort max becomes xhigh; context and mode are dropped"),
    "include": (CARRIED, "reasoning.encrypted_content and message.output_text.logprobs; the rest belongs to hosted tools"),
    "metadata": (CARRIED, ""),
    "service_tier": (CARRIED, ""),
    "user": (CARRIED, ""),
    "safety_identifier": (CARRIED, "as the user, before `user`"),
    "store": (DROPPED, "nothing is stored; what would need it is refused"),
    "prompt_cache_key": (DROPPED, "a hint"),
    "prompt_cache_retention": (DROPPED, "a hint"),
    "prompt_cache_options": (DROPPED, "a hint"),
    "truncation": (DROPPED, "auto: a prompt that is too long gives an error instead"),
    "context_management": (DROPPED, "nothing is compacted on the way"),
    "max_tool_calls": (DROPPED, "counts hosted tools only, and there are none"),
    "stream_options": (DROPPED, "obfuscation is never added"),
    "access_programs": (DROPPED, ""),
    "image": (DROPPED, "a hint"),
    "previous_response_id": (REFUSED, "send the whole conversation in `input`"),
    "conversation": (REFUSED, "send the whole conversation in `input`"),
    "background": (REFUSED, "use `stream`"),
    "prompt": (REFUSED, "send the text of the prompt in `input`"),
    "moderation": (REFUSED, "the reply would not be moderated"),
}

ITEMS: Final[Table] = {
    "message": (CARRIED, "also without type; roles user, assistant, system, developer"),
    "function_call": (CARRIED, "with its namespace in the name, see names"),
    "function_call_output": (CARRIED, "a string or parts"),
    "custom_tool_call": (CARRIED, ""),
    "custom_tool_call_output": (CARRIED, "a string or parts"),
    "reasoning": (CARRIED, "summary or else content, and encrypted_content"),
    "image_generation_call": (CARRIED, "an image of the assistant; nothing without a result"),
    "web_search_call": (DROPPED, "a record without content"),
    "item_reference": (REFUSED, "nothing is stored: send the item itself"),
    "compaction": (REFUSED, "only its own provider can read it"),
    "compaction_trigger": (REFUSED, ""),
    "additional_tools": (REFUSED, "send them in `tools`"),
    "file_search_call": (REFUSED, "hosted tool"),
    "code_interpreter_call": (REFUSED, "hosted tool"),
    "computer_call": (REFUSED, "hosted tool"),
    "computer_call_output": (REFUSED, "hosted tool"),
    "local_shell_call": (REFUSED, "hosted tool"),
    "local_shell_call_output": (REFUSED, "hosted tool"),
    "shell_call": (REFUSED, "hosted tool"),
    "shell_call_output": (REFUSED, "hosted tool"),
    "apply_patch_call": (REFUSED, "hosted tool"),
    "apply_patch_call_output": (REFUSED, "hosted tool"),
    "tool_search_call": (REFUSED, "hosted tool"),
    "tool_search_output": (REFUSED, "hosted tool"),
    "mcp_list_tools": (REFUSED, "hosted tool"),
    "mcp_call": (REFUSED, "hosted tool"),
    "mcp_approval_request": (REFUSED, "hosted tool"),
    "mcp_approval_response": (REFUSED, "hosted tool"),
    "program": (REFUSED, "hosted tool"),
    "program_output": (REFUSED, "hosted tool"),
}

PARTS: Final[Table] = {
    "input_text": (CARRIED, ""),
    "output_text": (CARRIED, "annotations: url_citation only"),
    "text": (CARRIED, "not in the API, but sent"),
    "refusal": (CARRIED, ""),
    "input_image": (CARRIED, "image_url (https or data) or file_id, and detail"),
    "input_file": (CARRIED, "file_data, file_url or file_id, and filename"),
    "input_audio": (CARRIED, "data and format"),
    "computer_screenshot": (REFUSED, "hosted tool"),
}

TOOLS: Final[Table] = {
    "function": (CARRIED, "name, description, parameters, strict"),
    "custom": (CARRIED, "name, description, format"),
    "namespace": (CARRIED, "its tools, each with the namespace in its name, see names; the description is dropped"),
    "web_search": (DROPPED, "coding agents send it with every request; refused when tool_choice demands it"),
    "web_search_preview": (REFUSED, "hosted tool"),
    "file_search": (REFUSED, "hosted tool"),
    "code_interpreter": (REFUSED, "hosted tool"),
    "image_generation": (REFUSED, "hosted tool"),
    "mcp": (REFUSED, "hosted tool"),
    "computer": (REFUSED, "hosted tool"),
    "computer_use": (REFUSED, "hosted tool"),
    "computer_use_preview": (REFUSED, "hosted tool"),
    "local_shell": (REFUSED, "hosted tool"),
    "shell": (REFUSED, "hosted tool"),
    "apply_patch": (REFUSED, "hosted tool"),
    "tool_search": (DROPPED, "coding agents send it with every request; what it would find stays unknown to the model"),
    "programmatic_tool_calling": (REFUSED, "hosted tool"),
}

# -- a provider's request (encode_request): fields of the canonical conversation

ENCODED: Final[Table] = {
    "messages": (CARRIED, "a first system message of one text becomes instructions; see the parts below"),
    "max_output": (CARRIED, "max_output_tokens"),
    "temperature": (CARRIED, ""),
    "top_p": (CARRIED, ""),
    "tools": (CARRIED, "strict is false where nothing was said: this API's own default is true"),
    "tool_choice": (CARRIED, ""),
    "parallel_tool_calls": (CARRIED, ""),
    "output_format": (CARRIED, "text.format; a schema without a name is called output"),
    "reasoning": (CARRIED, "effort and summary"),
    "logprobs": (CARRIED, "include message.output_text.logprobs"),
    "top_logprobs": (CARRIED, ""),
    "service_tier": (CARRIED, ""),
    "user": (CARRIED, ""),
    "metadata": (CARRIED, ""),
    "verbosity": (CARRIED, "text.verbosity"),
    "include_encrypted": (CARRIED, "include reasoning.encrypted_content; store is always false"),
    "reasoning.budget_tokens": (DROPPED, "an effort in its place: EFFORT_OF_BUDGET"),
    "top_k": (DROPPED, ""),
    "seed": (DROPPED, ""),
    "presence_penalty": (DROPPED, ""),
    "frequency_penalty": (DROPPED, ""),
    "cache_control": (DROPPED, "this API caches by itself"),
    "message.name": (DROPPED, ""),
    "citations": (DROPPED, "those without a URL; of the others the cited text"),
    "thinking": (DROPPED, "that this API's models cannot read: without encrypted content, or of another origin"),
    "tool_call.signature": (DROPPED, "of another origin"),
    "tool_result.is_error": (DROPPED, "the content tells it"),
    "assistant.media": (DROPPED, "all but generated images; those go as image_generation_call"),
    "stop": (REFUSED, "this API has no stop sequences"),
    "n": (REFUSED, "more than one answer"),
    "video": (REFUSED, ""),
    "audio.url": (REFUSED, "audio must be data, WAV or MP3"),
}

# -- a provider's reply (decode_reply, decoder): output items and events

OUTPUT: Final[Table] = {
    "message": (CARRIED, "output_text with url_citation and logprobs, refusal"),
    "reasoning": (CARRIED, "summary or else content, encrypted_content"),
    "function_call": (CARRIED, ""),
    "custom_tool_call": (CARRIED, ""),
    "image_generation_call": (CARRIED, "its result"),
    "everything else": (DROPPED, "hosted tools at work; they are never asked for in a translation"),
}

# -- a client's reply (encode_reply, encoder): parts of the canonical reply

ENCODED_REPLY: Final[Table] = {
    "text": (CARRIED, "output_text with url_citation"),
    "refusal": (CARRIED, ""),
    "thinking": (CARRIED, "summary_text; signatures and hidden thoughts of other protocols inside encrypted_content"),
    "tool_call": (CARRIED, "empty arguments become {}; a signature goes in a reasoning item before it"),
    "image": (CARRIED, "image_generation_call"),
    "logprobs": (CARRIED, ""),
    "choices": (DROPPED, "all but the first"),
    "stop_sequence": (DROPPED, "which one it was"),
    "audio": (DROPPED, "and every other generated medium but images"),
    "citations": (DROPPED, "those without a URL; of the others the cited text"),
    "thinking.encrypted": (DROPPED, "beside a signature"),
}

# -- usage: field -> meter, and what the field includes. docs/usage.md is made from it.

USAGE: Final[Table] = {
    "input_tokens": ("input", "what is left of it without the cached, written and audio tokens, which it includes"),
    "output_tokens": ("output", "reasoning included; without the audio tokens, which it includes"),
    "total_tokens": (
        "output",
        "when it is the sum of input, output and reasoning, the host leaves reasoning out of output_tokens",
    ),
    "input_tokens_details.cached_tokens": ("cached_input", ""),
    "input_tokens_details.cache_write_tokens": ("cache_write_5m", ""),
    "input_tokens_details.cache_write_tokens_details.ttl_12h_tokens": (
        "cache_write_1h",
        "part of cache_write_tokens: the longer, dearer time there is",
    ),
    "input_tokens_details.audio_tokens": ("audio_input", "some hosts"),
    "output_tokens_details.audio_tokens": ("audio_output", "some hosts"),
    "output_tokens_details.reasoning_tokens": ("reasoning", "part of output, reported beside it"),
    "prompt_tokens": ("input", "hosts that report as chat completions do: all fields under the names of that API"),
    "server_side_tool_usage_details.*_calls": (
        "hosted_call",
        "xAI; else the items of the output: web_search_call, file_search_call …",
    ),
}

# Why a reply ended -> status and incomplete_details.reason. A refusal without words of refusal was cut short.
STATUS: Final[dict[Finish | None, tuple[str, str | None]]] = {
    None: ("completed", None),
    Finish.STOP: ("completed", None),
    Finish.STOP_SEQUENCE: ("completed", None),
    Finish.TOOL_CALLS: ("completed", None),
    Finish.REFUSAL: ("completed", None),
    Finish.LENGTH: ("incomplete", "max_output_tokens"),
    Finish.PAUSE: ("incomplete", "max_output_tokens"),
    Finish.CONTENT_FILTER: ("incomplete", "content_filter"),
    Finish.ERROR: ("failed", None),
}

# Whatever else a host says, the reply is not whole.
INCOMPLETE: Final[dict[str, Finish]] = {"content_filter": Finish.CONTENT_FILTER}

EFFORTS: Final = {name: name for name in ("none", "minimal", "low", "medium", "high", "xhigh")} | {"max": "xhigh"}
# (a budget of thinking tokens below this, effort)
EFFORT_OF_BUDGET: Final = ((1, "none"), (4_096, "low"), (16_384, "medium"))
SUMMARIES: Final = frozenset({"auto", "concise", "detailed"})
VERBOSITIES: Final = frozenset({"low", "medium", "high"})

# format -> media type, and back
AUDIO_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg"}
AUDIO_FORMATS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
