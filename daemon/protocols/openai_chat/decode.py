"""A client's chat completion request as a canonical Chat."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    Media,
    MediaKind,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from daemon.domain.errors import clip
from daemon.protocols.openai_chat.content import decode_content
from daemon.protocols.openai_chat.request import parse_request
from daemon.protocols.openai_chat.tables import CARRIED, EFFORTS, ON_WHEN_EMPTY, REFUSED, REQUEST
from daemon.protocols.openai_chat.thoughts import thoughts_of
from daemon.protocols.openai_chat.values import arguments_text, image_of, invalid, missing, signature_of, unsupported

__all__ = ["decode_request"]

BLANK: Final[tuple[object, ...]] = (None, False, "", [], {})
NUMBER: Final = ((int, float), "a number")
INTEGER: Final = ((int,), "an integer")
BOOLEAN: Final = ((bool,), "true or false")
STRING: Final = ((str,), "a string")
OBJECT: Final = ((dict,), "an object")
# Field of the request and of Chat -> its types and their name.
PLAIN: Final = (
    ("temperature", *NUMBER),
    ("top_p", *NUMBER),
    ("top_k", *INTEGER),
    ("seed", *INTEGER),
    ("presence_penalty", *NUMBER),
    ("frequency_penalty", *NUMBER),
    ("logprobs", *BOOLEAN),
    ("top_logprobs", *INTEGER),
    ("parallel_tool_calls", *BOOLEAN),
    ("service_tier", *STRING),
    ("metadata", *OBJECT),
    ("verbosity", *STRING),
)
ROLES: Final = {role.value: role for role in Role}
MODES: Final = {"auto": ToolMode.AUTO, "none": ToolMode.NONE, "required": ToolMode.REQUIRED, "any": ToolMode.REQUIRED}


def decode_request(body: dict[str, Any]) -> Chat:
    """ApiError (400) with `param` when malformed, or when it asks for what no other dialect can carry."""
    asked = parse_request(body)
    dropped = _sort_out(body)
    plain = {
        name: value for name, types, words in PLAIN if name in body and (value := _typed(body, name, types, words)) is not None
    }
    tools, legacy = _tools(body)
    choice, allowed = _tool_choice(body)
    if allowed is not None:
        tools = [tool for tool in tools if tool.name in allowed]
    limits = [body[name] for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    stop = body.get("stop")
    return Chat(
        asked.model,
        decode_messages(body["messages"]),
        stream=asked.stream,
        max_output=min(limits, default=None),
        stop=(stop,) if type(stop) is str else tuple(stop or ()),
        n=body.get("n") or 1,
        tools=tuple(tools),
        tool_choice=choice,
        output_format=_output_format(body.get("response_format")),
        reasoning=_reasoning(body),
        user=_typed(body, "safety_identifier", *STRING) or _typed(body, "user", *STRING),
        include_usage=asked.include_usage,
        dropped=dropped,
        legacy_functions=legacy,
        **plain,
    )


def _sort_out(body: dict[str, Any]) -> tuple[str, ...]:
    """Refuse what must not be left out; the names of what is."""
    dropped: list[str] = []
    for name, value in body.items():
        fate = REQUEST[name][0] if name in REQUEST else CARRIED
        if fate is CARRIED or (value in BLANK and not (name in ON_WHEN_EMPTY and value is not None)):
            continue
        if fate is not REFUSED:
            dropped.append(name)
        elif name != "modalities" or value != ["text"]:
            raise unsupported(name, f"cannot be translated for the model '{clip(body.get('model'))}'")
    return tuple(dropped)


def _typed(body: dict[str, Any], name: str, types: tuple[type, ...], words: str) -> Any:
    value = body.get(name)
    if value is not None and type(value) not in types:
        raise invalid(name, f"it must be {words}")
    return value


# -- messages


def decode_messages(items: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The messages of a request that parse_request has accepted."""
    messages: list[Message] = []
    waiting: list[ToolCall] = []  # calls without a result yet, oldest first
    for index, item in enumerate(items):
        role, where = item["role"], f"messages[{index}]"
        if role in ("tool", "function"):
            result = _tool_result(item, where, waiting)
            if messages and messages[-1].role is Role.TOOL:
                messages[-1] = Message(Role.TOOL, (*messages[-1].parts, result))
            else:
                messages.append(Message(Role.TOOL, (result,)))
            continue
        parts = decode_content(item.get("content"), f"{where}.content")
        if role == "assistant" and (len(item) > 2 or not parts):
            parts = _assistant(item, parts, index)
            waiting += [part for part in parts if isinstance(part, ToolCall)]
        messages.append(Message(ROLES[role], tuple(parts) or (Text(""),), item.get("name") or None))
    return tuple(messages)


def _assistant(item: dict[str, Any], content: list[Part], index: int) -> list[Part]:
    calls = _tool_calls(item, index)
    parts: list[Part] = [*content]
    if not any(isinstance(part, Thinking) for part in content):
        parts = [*thoughts_of(item), *content]
    if type(refusal := item.get("refusal")) is str and refusal:
        parts.append(Refusal(refusal))
    audio = item.get("audio")
    if type(audio) is dict and type(audio.get("id")) is str:
        parts.append(Media(MediaKind.AUDIO, file_id=audio["id"]))
    images = item.get("images")
    if type(images) is list:
        parts += [image for value in images if (image := image_of(value)) is not None]
    parts += calls
    filled = [part for part in parts if not (isinstance(part, Text) and not part.text)]
    return filled or parts


def _tool_calls(item: dict[str, Any], index: int) -> list[ToolCall]:
    calls: list[ToolCall] = []
    where = f"messages[{index}]"
    given = item.get("tool_calls") or []
    if type(given) is not list or any(type(call) is not dict for call in given):
        raise invalid(f"{where}.tool_calls", "it must be an array of objects")
    for number, call in enumerate(given):
        custom = type(call.get("custom")) is dict
        kind = "custom" if custom else "function"
        inner = call.get(kind)
        if type(inner) is not dict or type(inner.get("name")) is not str:
            raise missing(f"{where}.tool_calls[{number}].{kind}.name")
        text = arguments_text(inner.get("input" if custom else "arguments"))
        named = call.get("id")
        if named is not None and type(named) is not str:
            raise invalid(f"{where}.tool_calls[{number}].id", "it must be a string")
        calls.append(ToolCall(named or f"call_{index}_{number}", inner["name"], text, custom, signature_of(call)))
    function = item.get("function_call")
    if type(function) is dict and not calls:
        if type(function.get("name")) is not str:
            raise missing(f"{where}.function_call.name")
        calls.append(ToolCall(f"call_{index}", function["name"], arguments_text(function.get("arguments"))))
    return calls


def _tool_result(item: dict[str, Any], where: str, waiting: list[ToolCall]) -> ToolResult:
    named = item.get("tool_call_id") or ""
    name = item.get("name") or None
    call = next((call for call in waiting if (call.id == named if named else name in (None, call.name))), None)
    if call is not None:
        waiting.remove(call)
    elif not named:
        raise missing(f"{where}.tool_call_id")
    parts = decode_content(item.get("content"), f"{where}.content")
    return ToolResult(named or (call.id if call else ""), tuple(parts), name=name, custom=call is not None and call.custom)


# -- tools


def _tools(body: dict[str, Any]) -> tuple[list[Tool], bool]:
    """(the tools, whether they came as legacy `functions`)"""
    tools: list[Tool] = []
    for index, item in enumerate(body.get("tools") or ()):
        where = f"tools[{index}]"
        kind = item.get("type") or "function"
        if kind not in ("function", "custom"):
            raise unsupported(f"{where}.type", f"of '{clip(kind)}' cannot be translated: it is run by one host only")
        inner = item.get(kind)
        flat = type(inner) is not dict and type(item.get("name")) is str
        tools.append(_tool(item if flat else inner, kind == "custom", where if flat else f"{where}.{kind}", item))
    if tools or not body.get("functions"):
        return tools, False
    functions = body["functions"]
    if type(functions) is not list:
        raise invalid("functions", "it must be an array")
    return [_tool(item, False, f"functions[{index}]", {}) for index, item in enumerate(functions)], True


def _tool(inner: object, custom: bool, where: str, holder: dict[str, Any]) -> Tool:
    if type(inner) is not dict:
        raise missing(where)
    name, description, strict = inner.get("name"), inner.get("description"), inner.get("strict")
    if type(name) is not str or not name:
        raise missing(f"{where}.name")
    if description is not None and type(description) is not str:
        raise invalid(f"{where}.description", "it must be a string")
    schema, form, cache = inner.get("parameters"), inner.get("format"), holder.get("cache_control")
    for field, value in (("parameters", schema), ("format", form)):
        if value is not None and type(value) is not dict:
            raise invalid(f"{where}.{field}", "it must be an object")
    return Tool(
        name,
        description,
        None if custom else schema,
        strict if type(strict) is bool else None,
        custom,
        form if custom else None,
        cache if type(cache) is dict else None,
    )


def _tool_choice(body: dict[str, Any]) -> tuple[ToolChoice | None, frozenset[str] | None]:
    """(the choice, the names that it allows when it is allowed_tools)"""
    field = "tool_choice" if body.get("tool_choice") is not None else "function_call"
    value = body.get(field)
    if value is None:
        return None, None
    if type(value) is str:
        if value not in MODES:
            raise invalid(field, "it must be one of auto, none, required, or an object")
        return ToolChoice(MODES[value]), None
    if type(value) is not dict:
        raise invalid(field, "it must be a string or an object")
    if type(value.get("allowed_tools")) is dict:
        return _allowed_tools(value["allowed_tools"])
    name = _named(value)
    if name is None:
        raise missing(f"{field}.function.name" if field == "tool_choice" else f"{field}.name")
    return ToolChoice(ToolMode.NAMED, name), None


def _allowed_tools(value: dict[str, Any]) -> tuple[ToolChoice, frozenset[str]]:
    where = "tool_choice.allowed_tools"
    mode, tools = value.get("mode") or "auto", value.get("tools")
    if mode not in ("auto", "required"):
        raise invalid(f"{where}.mode", "it must be auto or required")
    if type(tools) is not list or any(type(tool) is not dict or _named(tool) is None for tool in tools):
        raise invalid(f"{where}.tools", "it must be an array of tools, each with its name")
    return ToolChoice(MODES[mode]), frozenset(str(_named(tool)) for tool in tools)


def _named(value: dict[str, Any]) -> str | None:
    inner = value.get("function") or value.get("custom") or value
    name = inner.get("name") if type(inner) is dict else None
    return name if type(name) is str and name else None


# -- the rest


def _output_format(value: dict[str, Any] | None) -> OutputFormat | None:
    if value is None or value["type"] == "text":
        return None
    if value["type"] == "json_object":
        return OutputFormat()
    if value["type"] != "json_schema":
        raise unsupported("response_format.type", f"of '{clip(value['type'])}' cannot be translated")
    inner = value.get("json_schema")
    if type(inner) is not dict:
        raise missing("response_format.json_schema")
    schema = inner.get("schema")
    if schema is not None and type(schema) is not dict:
        raise invalid("response_format.json_schema.schema", "it must be an object")
    name, description, strict = inner.get("name"), inner.get("description"), inner.get("strict")
    return OutputFormat(
        schema,
        name if type(name) is str else None,
        description if type(description) is str else None,
        strict if type(strict) is bool else None,
    )


def _reasoning(body: dict[str, Any]) -> Reasoning | None:
    effort = _effort(body.get("reasoning_effort"), "reasoning_effort")
    budget, adaptive = None, False
    asked = _typed(body, "reasoning", *OBJECT)
    if asked:
        effort = effort or _effort(asked.get("effort"), "reasoning.effort")
        budget = _typed(asked, "max_tokens", *INTEGER)
        if asked.get("enabled") is False:
            effort = "none"
    thinking = _typed(body, "thinking", *OBJECT)
    if thinking:
        budget = budget if budget is not None else _typed(thinking, "budget_tokens", *INTEGER)
        adaptive = thinking.get("type") == "adaptive"
        if thinking.get("type") == "disabled":
            effort = "none"
    if effort is None and budget is None and not adaptive:
        return None
    return Reasoning(effort, budget, adaptive)


def _effort(value: object, where: str) -> str | None:
    if value is None:
        return None
    if type(value) is not str or value not in EFFORTS:
        raise invalid(where, "it must be one of none, minimal, low, medium, high, xhigh")
    return EFFORTS[value]
