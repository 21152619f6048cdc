"""A client's request → the canonical conversation."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)
from daemon.domain.usage import MAX_COUNT
from daemon.protocols.closed_schema import is_closed
from daemon.protocols.gemini.parts import CallIds, decode_parts
from daemon.protocols.gemini.schemas import json_schema
from daemon.protocols.gemini.tables import CONFIG, DETAILS, DROPPED, EFFORTS, REFUSED, REQUEST, TIERS
from daemon.protocols.gemini.turns import Turns
from daemon.protocols.gemini.values import (
    as_object,
    field,
    invalid,
    missing,
    model_of,
    optional_flag,
    optional_integer,
    optional_list,
    optional_number,
    optional_object,
    optional_text,
    required_text,
    unsupported,
)

__all__ = ["decode_request", "schema_of"]

Body = dict[str, Any]
AT: Final = "generationConfig."
INT32: Final = 2**31
CANDIDATES_MAX: Final = 128
ROLES: Final = {
    None: Role.USER,
    "": Role.USER,
    "user": Role.USER,
    "function": Role.USER,
    "tool": Role.USER,
    "model": Role.ASSISTANT,
}
# What only the other side says.
FOREIGN: Final[dict[Role, tuple[type[Part], ...]]] = {Role.USER: (ToolCall, Thinking), Role.ASSISTANT: (ToolResult,)}
MODES: Final = {
    "MODE_UNSPECIFIED": ToolMode.AUTO,
    "AUTO": ToolMode.AUTO,
    "VALIDATED": ToolMode.AUTO,
    "ANY": ToolMode.REQUIRED,
    "NONE": ToolMode.NONE,
}
JSON: Final = "application/json"
SCHEMAS: Final = ("responseJsonSchema", "_responseJsonSchema", "responseSchema")


def decode_request(body: Body) -> Chat:
    """`body` with what the URL says in `model` and `stream`.

    ApiError (400, with `param`) when it is malformed, or asks what no other dialect can carry.
    """
    config = optional_object(body, "generationConfig") or {}
    dropped = _look_at(body, REQUEST, "") + _look_at(config, CONFIG, AT)
    model = model_of(body)
    messages = _messages(body, _resolution(config), dropped)
    tools = _tools(body, dropped)
    choice, tools = _tool_choice(body, tools, dropped)
    reasoning = _reasoning(optional_object(config, "thinkingConfig", AT))
    tier = optional_text(body, "serviceTier")
    _check_modalities(config)
    return Chat(
        model,
        messages,
        stream=optional_flag(body, "stream") is True,
        max_output=optional_integer(config, "maxOutputTokens", 1, MAX_COUNT, AT),
        temperature=optional_number(config, "temperature", 0, 2, AT),
        top_p=optional_number(config, "topP", 0, 1, AT),
        top_k=optional_integer(config, "topK", 0, MAX_COUNT, AT),
        stop=_stop(config),
        n=optional_integer(config, "candidateCount", 1, CANDIDATES_MAX, AT) or 1,
        seed=optional_integer(config, "seed", -INT32, INT32 - 1, AT),
        presence_penalty=optional_number(config, "presencePenalty", -2, 2, AT),
        frequency_penalty=optional_number(config, "frequencyPenalty", -2, 2, AT),
        logprobs=optional_flag(config, "responseLogprobs", AT),
        top_logprobs=optional_integer(config, "logprobs", 0, 20, AT),
        tools=tools,
        tool_choice=choice,
        output_format=_output_format(config),
        reasoning=reasoning,
        service_tier=TIERS.get(tier.lower(), tier.lower()) if tier else None,
        metadata=optional_object(body, "labels"),
        # Every part comes back as it was sent, and with it what proves a thought.
        include_encrypted=reasoning is not None and reasoning.budget_tokens != 0,
        dropped=tuple(dict.fromkeys(dropped)),
    )


def _look_at(holder: Body, table: dict[str, tuple[str, str]], at: str) -> list[str]:
    """What is left out; ApiError for what is refused."""
    dropped = []
    for name, (fate, note) in table.items():
        if fate == REFUSED and field(holder, name):
            raise unsupported(at + name, f"{name!r}", note)
        if fate == DROPPED and "." not in name and field(holder, name) is not None:
            dropped.append(name)
    return dropped


def _messages(body: Body, detail: str | None, dropped: list[str]) -> tuple[Message, ...]:
    found = Turns()
    ids = CallIds()
    if (system := _system(body, ids, dropped)) is not None:
        found.add(Role.SYSTEM, list(system.parts))
    contents = optional_list(body, "contents")
    if not contents:
        raise missing("contents")
    for index, content in enumerate(contents):
        at = f"contents[{index}]."
        content = as_object(content, at[:-1])
        name = optional_text(content, "role", at)
        if name not in ROLES:
            raise invalid(at + "role", "it must be user or model")
        role = ROLES[name]
        parts = decode_parts(content, at, ids, detail, dropped)
        if any(isinstance(part, FOREIGN[role]) for part in parts):
            raise invalid(at + "parts", f"a content of role {name or 'user'} cannot hold such parts")
        found.add(role, parts)
    return found.take()


def _system(body: Body, ids: CallIds, dropped: list[str]) -> Message | None:
    given = field(body, "systemInstruction")
    if given is None:
        return None
    if type(given) is str:
        return Message(Role.SYSTEM, (Text(given),)) if given else None
    parts = decode_parts(as_object(given, "systemInstruction"), "systemInstruction.", ids, None, dropped)
    if not all(isinstance(part, Text) for part in parts):
        raise invalid("systemInstruction.parts", "they must be text")
    return Message(Role.SYSTEM, tuple(parts)) if parts else None


def _stop(config: Body) -> tuple[str, ...]:
    values = optional_list(config, "stopSequences", AT)
    if any(type(value) is not str for value in values):
        raise invalid(AT + "stopSequences", "it must be an array of strings")
    return tuple(values)


def _resolution(config: Body) -> str | None:
    return DETAILS.get(optional_text(config, "mediaResolution", AT) or "")


def _check_modalities(config: Body) -> None:
    for value in optional_list(config, "responseModalities", AT):
        if type(value) is not str:
            raise invalid(AT + "responseModalities", "it must be an array of strings")
        if value.upper() not in ("TEXT", "MODALITY_UNSPECIFIED"):
            raise unsupported(AT + "responseModalities", f"a reply of {value[:40]!r}")


# -- tools


def _tools(body: Body, dropped: list[str]) -> tuple[Tool, ...]:
    found: list[Tool] = []
    for index, tool in enumerate(optional_list(body, "tools")):
        at = f"tools[{index}]"
        for name, value in as_object(tool, at).items():
            if value is not None and name not in ("functionDeclarations", "function_declarations"):
                raise unsupported(f"{at}.{name[:40]}", f"the tool {name[:40]!r}", "only functionDeclarations can")
        at += ".functionDeclarations"
        for place, declared in enumerate(optional_list(tool, "functionDeclarations", f"tools[{index}].")):
            found.append(_function(as_object(declared, f"{at}[{place}]"), f"{at}[{place}].", dropped))
    return tuple(found)


def _function(declared: Body, at: str, dropped: list[str]) -> Tool:
    if field(declared, "response") is not None or field(declared, "responseJsonSchema") is not None:
        dropped.append("functionDeclarations.response")
    if field(declared, "behavior") is not None:
        dropped.append("functionDeclarations.behavior")
    return Tool(
        required_text(declared, "name", at),
        optional_text(declared, "description", at),
        schema_of(declared, ("parametersJsonSchema", "parameters"), at),
    )


def schema_of(holder: Body, names: tuple[str, ...], at: str) -> Body | None:
    """The first schema that is given, as JSON schema."""
    for name in names:
        if (schema := field(holder, name)) is not None:
            if "JsonSchema" in name:
                return as_object(schema, at + name)
            return json_schema(schema, at + name)
    return None


def _tool_choice(body: Body, tools: tuple[Tool, ...], dropped: list[str]) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that may be called."""
    config = optional_object(body, "toolConfig") or {}
    if field(config, "retrievalConfig") is not None:
        dropped.append("toolConfig.retrievalConfig")
    at = "toolConfig.functionCallingConfig."
    calling = optional_object(config, "functionCallingConfig", "toolConfig.")
    if calling is None:
        return None, tools
    given = (optional_text(calling, "mode", at) or "AUTO").upper()
    mode = MODES.get(given)
    if mode is None:
        raise invalid(at + "mode", "it must be AUTO, ANY, NONE or VALIDATED")
    names = optional_list(calling, "allowedFunctionNames", at)
    if any(type(name) is not str for name in names):
        raise invalid(at + "allowedFunctionNames", "it must be an array of strings")
    if mode is ToolMode.REQUIRED and len(names) == 1:
        return ToolChoice(ToolMode.NAMED, names[0]), tools
    if names:
        tools = tuple(tool for tool in tools if tool.name in names)
    return ToolChoice(mode), tools


# -- what shall come back


def _output_format(config: Body) -> OutputFormat | None:
    kind = (optional_text(config, "responseMimeType", AT) or "text/plain").lower()
    schema = schema_of(config, SCHEMAS, AT)
    if kind == "text/plain":
        return None
    if kind == JSON:
        return OutputFormat(schema, strict=True if is_closed(schema) else None)
    raise unsupported(AT + "responseMimeType", f"a reply of type {kind[:40]!r}")


def _reasoning(config: Body | None) -> Reasoning | None:
    if not config:
        return None
    at = AT + "thinkingConfig."
    level = optional_text(config, "thinkingLevel", at)
    effort = None
    if level and level.upper() != "THINKING_LEVEL_UNSPECIFIED":
        effort = EFFORTS.get(level.upper())
        if effort is None:
            raise invalid(at + "thinkingLevel", f"it must be one of {', '.join(EFFORTS)}")
    budget = optional_integer(config, "thinkingBudget", -1, MAX_COUNT, at)
    summary = "auto" if optional_flag(config, "includeThoughts", at) else None
    if effort is None and budget is None and summary is None:
        return None
    return Reasoning(effort, None if budget == -1 else budget, budget == -1, summary)
