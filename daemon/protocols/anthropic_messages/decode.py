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
from daemon.protocols.anthropic_messages.blocks import decode_content
from daemon.protocols.anthropic_messages.tables import DROPPED, EFFORTS, REFUSED, REQUEST, TIERS
from daemon.protocols.anthropic_messages.values import (
    as_object,
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
from daemon.protocols.closed_schema import is_closed

__all__ = ["decode_request"]

Body = dict[str, Any]
DROPPED_FIELDS: Final = tuple(name for name, (fate, _) in REQUEST.items() if fate == DROPPED and "." not in name)
REFUSED_FIELDS: Final = tuple((name, note) for name, (fate, note) in REQUEST.items() if fate == REFUSED)
HINTS: Final = ("defer_loading", "input_examples", "eager_input_streaming", "allowed_callers")  # of a tool
ROLES: Final = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
# What only the other side says.
FOREIGN: Final[dict[Role, tuple[type[Part], ...]]] = {Role.USER: (ToolCall, Thinking), Role.ASSISTANT: (ToolResult,)}
MODES: Final = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "tool": ToolMode.NAMED, "none": ToolMode.NONE}


def decode_request(body: Body) -> Chat:
    """ApiError (400, with `param`) when the body is malformed, or asks what no other dialect can carry."""
    for name, note in REFUSED_FIELDS:
        if body.get(name):
            raise unsupported(name, f"{name!r}", note)
    dropped = [name for name in DROPPED_FIELDS if body.get(name) is not None]
    model = model_of(body)
    messages = _messages(body, dropped)
    if body.get("max_tokens") is None:
        raise missing("max_tokens")
    limit = optional_integer(body, "max_tokens", 1, MAX_COUNT)
    reasoning = _reasoning(body, dropped)
    choice, parallel = _tool_choice(optional_object(body, "tool_choice"))
    metadata = optional_object(body, "metadata") or {}
    tier = optional_text(body, "service_tier")
    return Chat(
        model,
        messages,
        stream=optional_flag(body, "stream") is True,
        max_output=limit,
        temperature=optional_number(body, "temperature", 2),
        top_p=optional_number(body, "top_p", 1),
        top_k=optional_integer(body, "top_k", 0, MAX_COUNT),
        stop=_stop(body),
        tools=_tools(body, dropped),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output_format=_output_format(body),
        reasoning=reasoning,
        service_tier=TIERS.get(tier, tier) if tier is not None else None,
        user=optional_text(metadata, "user_id", "metadata.") or None,
        # Who gets thoughts hands back what proves them; the proofs of other protocols travel sealed.
        include_encrypted=reasoning is not None and bool(reasoning.adaptive or reasoning.budget_tokens),
        dropped=tuple(dict.fromkeys(dropped)),
    )


def _messages(body: Body, dropped: list[str]) -> tuple[Message, ...]:
    found: list[Message] = []
    system = body.get("system")
    if system is not None:
        _add(found, Role.SYSTEM, _system(system, "system", dropped))
    messages = optional_list(body, "messages")
    if not messages:
        raise missing("messages")
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        message = as_object(message, at)
        name = required_text(message, "role", at + ".")
        role = ROLES.get(name)
        if role is None:
            raise invalid(at + ".role", "it must be user, assistant or system")
        if role is Role.SYSTEM:
            _add(found, role, _system(message.get("content"), at + ".content", dropped))
        else:
            parts = decode_content(message.get("content"), at + ".content", dropped)
            if any(isinstance(part, FOREIGN[role]) for part in parts):
                raise invalid(at + ".content", f"a message of role {name} cannot hold such blocks")
            _add(found, role, parts)
    return tuple(found)


def _system(content: object, at: str, dropped: list[str]) -> list[Part]:
    parts = decode_content(content, at, dropped)
    if not all(isinstance(part, Text) for part in parts):
        raise invalid(at, "it must be a string or an array of text blocks")
    return parts


def _add(messages: list[Message], role: Role, parts: list[Part]) -> None:
    """A message, cut where tool results and other parts of the user meet. An empty one says nothing."""
    run: list[Part] = []
    kind = role
    for part in parts:
        now = Role.TOOL if isinstance(part, ToolResult) else role
        if run and now is not kind:
            messages.append(Message(kind, tuple(run)))
            run = []
        kind = now
        run.append(part)
    if run:
        messages.append(Message(kind, tuple(run)))


def _stop(body: Body) -> tuple[str, ...]:
    values = optional_list(body, "stop_sequences")
    if any(type(value) is not str for value in values):
        raise invalid("stop_sequences", "it must be an array of strings")
    return tuple(values)


def _tools(body: Body, dropped: list[str]) -> tuple[Tool, ...]:
    tools: list[Tool] = []
    for index, tool in enumerate(optional_list(body, "tools")):
        at = f"tools[{index}]"
        tool = as_object(tool, at)
        kind = optional_text(tool, "type", at + ".") or "custom"
        if kind.startswith("tool_search_tool_"):
            dropped.append("tools.tool_search")
            continue
        if kind != "custom":
            raise unsupported(at + ".type", f"the tool {kind[:80]!r}", "only tools of type custom, with an input_schema, can")
        dropped.extend(f"tools.{name}" for name in HINTS if tool.get(name))
        at += "."
        if tool.get("input_schema") is None:
            raise missing(at + "input_schema")
        tools.append(
            Tool(
                required_text(tool, "name", at),
                optional_text(tool, "description", at),
                optional_object(tool, "input_schema", at),
                optional_flag(tool, "strict", at),
                cache_control=optional_object(tool, "cache_control", at),
            )
        )
    return tuple(tools)


def _tool_choice(choice: Body | None) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether calls may be parallel."""
    if choice is None:
        return None, None
    mode = MODES.get(required_text(choice, "type", "tool_choice."))
    if mode is None:
        raise invalid("tool_choice.type", "it must be auto, any, tool or none")
    name = required_text(choice, "name", "tool_choice.") if mode is ToolMode.NAMED else None
    disabled = optional_flag(choice, "disable_parallel_tool_use", "tool_choice.")
    return ToolChoice(mode, name), None if disabled is None else not disabled


def _output_format(body: Body) -> OutputFormat | None:
    at = "output_config.format"
    shape = optional_object(optional_object(body, "output_config") or {}, "format", "output_config.")
    if shape is None:
        at = "output_format"
        shape = optional_object(body, at)
    if shape is None:
        return None
    if shape.get("type") != "json_schema":
        raise invalid(at + ".type", "it must be json_schema")
    if shape.get("schema") is None:
        raise missing(at + ".schema")
    schema = optional_object(shape, "schema", at + ".")
    return OutputFormat(schema, strict=True if is_closed(schema) else None)


def _reasoning(body: Body, dropped: list[str]) -> Reasoning | None:
    config = optional_object(body, "output_config") or {}
    wanted = optional_text(config, "effort", "output_config.")
    effort = EFFORTS.get(wanted) if wanted is not None else None
    if wanted is not None and effort is None:
        raise invalid("output_config.effort", f"it must be one of {', '.join(EFFORTS)}")
    thinking = optional_object(body, "thinking")
    if thinking is None:
        return Reasoning(effort) if effort is not None else None
    kind = required_text(thinking, "type", "thinking.")
    if kind == "disabled":
        if effort is not None:
            dropped.append("output_config.effort")
        return Reasoning(budget_tokens=0)
    # Who asks for thinking sees thoughts, unless they are to be left out.
    summary = None if optional_text(thinking, "display", "thinking.") == "omitted" else "auto"
    if kind in ("adaptive", "between_tools"):
        return Reasoning(effort, adaptive=True, summary=summary)
    if kind != "enabled":
        raise invalid("thinking.type", "it must be enabled, adaptive, between_tools or disabled")
    if thinking.get("budget_tokens") is None:
        raise missing("thinking.budget_tokens")
    return Reasoning(effort, optional_integer(thinking, "budget_tokens", 1, MAX_COUNT, "thinking."), summary=summary)
