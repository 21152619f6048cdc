"""Read a chat completion request: refuse what is malformed, and say what bounds its cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from daemon.domain.errors import ApiError
from daemon.domain.usage import MAX_COUNT
from daemon.protocols.hosted import hosted_tools, kinds_of
from daemon.protocols.tiers import ASKED, asked_tier

__all__ = [
    "PRICED_FIELDS",
    "UNBOUNDED_FIELDS",
    "ChatRequest",
    "parse_loose",
    "parse_request",
    "refuse_lookalikes",
]

ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
N_MAX: Final = 128
MODEL_LENGTH: Final = 512
TEXT_PARTS: Final = frozenset({"text", "refusal", "input_text", "output_text", "thinking", "redacted_thinking"})
# Prompts that hosts put in front of a request with tools; without tools the JSON around the text is longer than theirs.
TOOL_PROMPT: Final = 512

# Field -> feature, when the field is given and not null, false, empty or zero.
FEATURE_FIELDS: Final = (
    ("functions", "tools"),
    ("logprobs", "logprobs"),
    ("top_logprobs", "logprobs"),
    ("reasoning_effort", "reasoning"),
    ("reasoning", "reasoning"),
    ("prediction", "prediction"),
    ("web_search_options", "web_search"),
    ("search_parameters", "web_search"),
    ("seed", "seed"),
)
# Fields by which a host does paid work, or uses another price, beyond what tokens and limits of the body say.
UNBOUNDED_FIELDS: Final[tuple[str, ...]] = (
    "web_search_options",  # OpenAI, Perplexity: a fee per search
    "search_parameters",  # xAI: a fee per source
    "plugins",  # OpenRouter: web search, file parsing
    "models",  # OpenRouter: other models, at their prices, when the first fails
    "fallbacks",  # the same elsewhere
    "preset",  # OpenRouter: a stored model and options
    "data_sources",  # Azure: documents are searched and put into the prompt
    "enable_search",  # Qwen: a fee per search
    "connectors",  # Cohere: the same
    "search_settings",  # Groq
    "inference_geo",  # Anthropic: a region costs more
)
# Names that decide the price. Some hosts (in Go) match names in any case and believe the last one.
PRICED_FIELDS: Final = frozenset(
    ("model", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "messages", "input",
     "prompt", "stream", "stream_options", "tools", "functions", "modalities", "audio", "prediction", *UNBOUNDED_FIELDS,
     *ASKED)
)  # fmt: skip
PART_FEATURES: Final = {
    "image_url": "vision",
    "input_image": "vision",
    "input_audio": "audio_input",
    "file": "file_input",
    "input_file": "file_input",
    "video_url": "video_input",
}
MESSAGE_FIELDS: Final = frozenset({"content", "audio"})
PART_TYPE: Final = frozenset({"type"})
NO_FEATURES: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What the gateway needs to know of a request; the body itself is sent as it came.

    `output_limit` is the largest of the limits given (per choice), `output_limit_field` the field it stands in; None
    and "" when there is none. `n` is the number of choices paid for (n or best_of). `include_usage` is None when the
    client said nothing. `media_parts` counts parts whose tokens the length of the body does not bound (an image by
    URL is short). `unbounded` names what costs more than tokens: price it explicitly or refuse it. `output_extra`
    bounds output tokens per choice that come on top of the limit (a rejected prediction). `tier` is the service tier
    asked for, None for a usual one; `hosted` the tools that the host would run, as Ask.hosted has them.
    """

    model: str
    stream: bool
    include_usage: bool | None
    output_limit: int | None
    output_limit_field: str
    n: int
    features: frozenset[str]
    media_parts: int
    unbounded: tuple[str, ...]
    tier: str | None
    hosted: dict[str, int]
    output_extra: int = 0

    def input_bound(self, body_length: int) -> int:
        """The most prompt tokens that a body of so many bytes can be, its media parts aside.

        A byte-level tokeniser makes at most one token of a byte, and the JSON around each message is longer than the
        tokens that a chat template puts there. Requests with tools get an allowance for the host's own instructions.
        """
        return body_length + (TOOL_PROMPT if "tools" in self.features else 0)


def parse_request(body: dict[str, Any]) -> ChatRequest:
    """A request on a unified route: documented fields are checked, unknown ones ignored. ApiError (400) with `param`."""
    get = body.get
    model = _model(get("model"))
    media, kinds = _messages(get("messages"))
    stream = get("stream")
    if stream is not None and stream is not True and stream is not False:
        raise _invalid("stream", "it must be true or false")
    if (value := get("temperature")) is not None:
        _number(value, "temperature", 2)
    if (value := get("top_p")) is not None:
        _number(value, "top_p", 1)
    if (value := get("stop")) is not None and type(value) is not str:
        _strings(value, "stop")
    if (value := get("tools")) is not None:
        _tools(value)
    if (value := get("tool_choice")) is not None and type(value) not in (str, dict):
        raise _invalid("tool_choice", "it must be a string or an object")
    if (value := get("response_format")) is not None:
        _response_format(value)
    return _read(body, model, stream is True, _include_usage(get("stream_options")), media, kinds)


def parse_loose(body: dict[str, Any]) -> ChatRequest:
    """A request on a provider-prefixed route: only the model, and what bounds the price, must be well formed.

    Everything else is the provider's to judge. ApiError (400) with `param`.
    """
    get = body.get
    options = get("stream_options")
    include = options.get("include_usage") if type(options) is dict else None
    messages = get("messages")
    media, kinds = 0, NO_FEATURES
    if type(messages) is list:
        for message in messages:
            if type(message) is dict:
                media, kinds = _count_media(message, media, kinds)
    model = _model(get("model"))
    return _read(body, model, get("stream") is True, include if type(include) is bool else None, media, kinds)


def refuse_lookalikes(fields: dict[str, Any], names: frozenset[str] = PRICED_FIELDS) -> None:
    """400 for a field that differs from one of `names` in case only."""
    for name in fields:
        if name not in names and (plain := name.casefold()) != name and plain in names:
            raise _invalid(name[:40], f"it must be written {plain!r}")


def _read(
    body: dict[str, Any], model: str, stream: bool, include: bool | None, media: int, kinds: frozenset[str]
) -> ChatRequest:
    """The part that both ways of parsing share: everything the price depends on."""
    refuse_lookalikes(body)
    get = body.get
    limit, limit_field = None, ""
    for name in ("max_completion_tokens", "max_tokens"):
        if (value := get(name)) is not None:
            if type(value) is not int or not 1 <= value <= MAX_COUNT:
                raise _invalid(name, f"it must be an integer from 1 to {MAX_COUNT}")
            if limit is None or value > limit:
                limit, limit_field = value, name
    n = 1
    for name in ("n", "best_of"):
        if (value := get(name)) is not None:
            if type(value) is not int or not 1 <= value <= N_MAX:
                raise _invalid(name, f"it must be an integer from 1 to {N_MAX}")
            n = max(n, value)
    features = set(kinds)
    for name, feature in FEATURE_FIELDS:
        if get(name):
            features.add(feature)
    unbounded: list[str] = [name for name in UNBOUNDED_FIELDS if get(name) not in (None, False)]
    hosted: dict[str, int] = {}
    if tools := get("tools"):
        features.add("tools")
        run, unjudged = kinds_of(tools)
        unbounded += unjudged
        hosted = hosted_tools(run, get("max_tool_calls"))
    if shape := get("response_format"):
        kind = shape.get("type") if type(shape) is dict else None
        if kind == "json_object":
            features.add("json_mode")
        elif kind == "json_schema":
            features.add("structured_outputs")
    if modalities := get("modalities"):
        _modalities(modalities, features, unbounded)
    elif get("audio"):
        features.add("audio_output")
    tier, unpriced = asked_tier(body)
    if unpriced is not None:
        unbounded.append(unpriced)
    extra = _prediction(get("prediction")) if "prediction" in features else 0
    return ChatRequest(
        model,
        stream,
        include,
        limit,
        limit_field,
        n,
        frozenset(features) if features else NO_FEATURES,
        media,
        tuple(unbounded),
        tier,
        hosted,
        extra,
    )


def _invalid(param: str, reason: str) -> ApiError:
    return ApiError.of("invalid_value", param=param, reason=reason)


def _model(value: object) -> str:
    if value is None or value == "":
        raise ApiError.of("missing_required_parameter", param="model")
    if type(value) is not str:
        raise _invalid("model", "it must be a string")
    if len(value) > MODEL_LENGTH or not value.isprintable() or value.isspace():
        raise _invalid("model", f"it must be at most {MODEL_LENGTH} printable characters")
    return value


def _number(value: object, param: str, most: int) -> None:
    if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
        raise _invalid(param, f"it must be a number from 0 to {most}")


def _strings(value: object, param: str) -> None:
    if type(value) is not list or any(type(item) is not str for item in value):
        raise _invalid(param, "it must be a string or an array of strings")


def _include_usage(options: object) -> bool | None:
    if options is None:
        return None
    if type(options) is not dict:
        raise _invalid("stream_options", "it must be an object")
    include = options.get("include_usage")
    if include is not None and type(include) is not bool:
        raise _invalid("stream_options.include_usage", "it must be true or false")
    return include


def _tools(value: object) -> None:
    if type(value) is not list:
        raise _invalid("tools", "it must be an array")
    for index, tool in enumerate(value):
        if type(tool) is not dict:
            raise _invalid(f"tools[{index}]", "it must be an object")
        kind = tool.get("type")
        if type(kind) is not str and not (kind is None and type(tool.get("function")) is dict):
            raise _invalid(f"tools[{index}].type", "it must be a string")


def _response_format(value: object) -> None:
    if type(value) is not dict:
        raise _invalid("response_format", "it must be an object")
    if type(value.get("type")) is not str:
        raise _invalid("response_format.type", "it must be a string")


def _modalities(value: object, features: set[str], unbounded: list[str]) -> None:
    if type(value) is not list or any(type(item) is not str for item in value):
        raise _invalid("modalities", "it must be an array of strings")
    for item in value:
        if item == "audio":
            features.add("audio_output")
        elif item != "text":
            features.add(f"{item[:20]}_output")
            unbounded.append(f"modalities:{item[:20]}")


def _prediction(value: object) -> int:
    """Bytes of the predicted text: those of its tokens that the model rejects are billed as output too."""
    content = value.get("content") if type(value) is dict else None
    texts = [content] if type(content) is str else []
    if type(content) is list:
        texts = [part["text"] for part in content if type(part) is dict and type(part.get("text")) is str]
    return sum(len(text.encode()) for text in texts)


def _messages(value: object) -> tuple[int, frozenset[str]]:
    """Check each message; the number of media parts and the features they stand for."""
    if value is None or value == []:
        raise ApiError.of("missing_required_parameter", param="messages")
    if type(value) is not list:
        raise _invalid("messages", "it must be an array of messages")
    media, kinds = 0, NO_FEATURES
    for index, message in enumerate(value):
        if type(message) is not dict:
            raise _invalid(f"messages[{index}]", "it must be an object")
        role = message.get("role")
        if type(role) is not str or role not in ROLES:
            if role is None:
                raise ApiError.of("missing_required_parameter", param=f"messages[{index}].role")
            raise _invalid(f"messages[{index}].role", "it must be one of " + ", ".join(sorted(ROLES)))
        content = message.get("content")
        if type(content) is list:
            _parts(content, index)
        elif content is None:
            _may_lack_content(message, role, index)
        elif type(content) is not str:
            raise _invalid(f"messages[{index}].content", "it must be a string or an array of content parts")
        if type(content) is list or len(message) > 2:
            _other_fields(message, index)
            media, kinds = _count_media(message, media, kinds)
    return media, kinds


def _may_lack_content(message: dict[str, Any], role: str, index: int) -> None:
    if role != "assistant" or not any(
        message.get(name) is not None for name in ("tool_calls", "function_call", "refusal", "audio")
    ):
        raise ApiError.of("missing_required_parameter", param=f"messages[{index}].content")


def _other_fields(message: dict[str, Any], index: int) -> None:
    for name in ("name", "tool_call_id"):
        if (value := message.get(name)) is not None and type(value) is not str:
            raise _invalid(f"messages[{index}].{name}", "it must be a string")
    if (calls := message.get("tool_calls")) is not None and (
        type(calls) is not list or any(type(call) is not dict for call in calls)
    ):
        raise _invalid(f"messages[{index}].tool_calls", "it must be an array of objects")


def _parts(parts: list[Any], index: int) -> None:
    for number, part in enumerate(parts):
        where = f"messages[{index}].content[{number}]"
        if type(part) is not dict:
            raise _invalid(where, "it must be an object")
        kind = part.get("type")
        if kind is None:
            raise ApiError.of("missing_required_parameter", param=f"{where}.type")
        if type(kind) is not str:
            raise _invalid(f"{where}.type", "it must be a string")
        if kind == "text" and type(part.get("text")) is not str:
            raise _invalid(f"{where}.text", "it must be a string")


def _count_media(message: dict[str, Any], media: int, kinds: frozenset[str]) -> tuple[int, frozenset[str]]:
    """Add the parts of one message that are not text; a part of an unknown type is taken for media."""
    refuse_lookalikes(message, MESSAGE_FIELDS)
    if type(message.get("audio")) is dict:  # an earlier spoken answer, by its id
        media, kinds = media + 1, kinds | {"audio_input"}
    content = message.get("content")
    if type(content) is list:
        for part in content:
            kind = part.get("type") if type(part) is dict else None
            if type(part) is dict and len(part) > 2:
                refuse_lookalikes(part, PART_TYPE)
            if type(part) is str or (type(kind) is str and kind in TEXT_PARTS):
                continue
            media += 1
            feature = PART_FEATURES.get(kind) if type(kind) is str else None
            if feature:
                kinds = kinds | {feature}
    return media, kinds
