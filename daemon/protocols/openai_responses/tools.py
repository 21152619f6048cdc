"""Tools and the choice among them, both ways; a namespace of tools becomes tools with longer names and back."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Losses, Tool, ToolChoice, ToolMode
from daemon.protocols.openai_responses.names import divide, flatten
from daemon.protocols.openai_responses.tables import DROPPED, TOOLS
from daemon.protocols.openai_responses.values import (
    as_object,
    invalid,
    missing,
    optional_flag,
    optional_list,
    optional_object,
    optional_text,
    required_text,
    unsupported,
)

MODES: Final = {"auto": ToolMode.AUTO, "none": ToolMode.NONE, "required": ToolMode.REQUIRED}
CALLABLE: Final = frozenset({"function", "custom"})
NO_PARAMETERS: Final = {"type": "object", "properties": {}}


# -- decode


def decode_tools(body: dict[str, Any], dropped: list[str]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """`tools` and `tool_choice` of a request; what is dropped is named in `dropped`."""
    tools: list[Tool] = []
    lost: list[str] = []
    for index, given in enumerate(optional_list(body, "tools")):
        at = f"tools[{index}]"
        tool = as_object(given, at)
        kind = required_text(tool, "type", at + ".")
        if kind in CALLABLE:
            tools.append(_decode_tool(tool, kind, None, at))
        elif kind == "namespace":
            tools += _decode_namespace(tool, at, dropped)
        elif TOOLS.get(kind.partition("_20")[0], ("", ""))[0] == DROPPED:  # also with a date: web_search_2025_08_26
            lost.append(f"tools.{kind}")
        else:
            raise unsupported(at, f"a tool of type '{kind[:80]}'", TOOLS.get(kind, ("", ""))[1])
    kept, choice = _decode_choice(body.get("tool_choice"), tuple(tools))
    if lost and not kept and choice is not None and choice.mode is ToolMode.REQUIRED:
        raise unsupported("tool_choice", f"a required call of {lost[0].removeprefix('tools.')}")
    dropped += lost
    return kept, choice if kept else None


def _decode_namespace(space: dict[str, Any], at: str, dropped: list[str]) -> list[Tool]:
    namespace = required_text(space, "name", at + ".")
    if space.get("description"):
        dropped.append("tools.namespace.description")
    tools = []
    for index, given in enumerate(optional_list(space, "tools", at + ".")):
        inner = f"{at}.tools[{index}]"
        tool = as_object(given, inner)
        kind = required_text(tool, "type", inner + ".")
        if kind not in CALLABLE:
            raise unsupported(inner, f"a tool of type '{kind[:80]}' in a namespace")
        tools.append(_decode_tool(tool, kind, namespace, inner))
    return tools


def _decode_tool(tool: dict[str, Any], kind: str, namespace: str | None, at: str) -> Tool:
    at += "."
    if type(tool.get("function")) is dict:  # as chat completions has it; some clients send it here too
        tool = tool["function"]
    name = required_text(tool, "name", at)
    flat = flatten(namespace, name)
    if divide(flat) != (namespace, name):
        raise invalid(at + "name", "it cannot be joined with its namespace")
    description = optional_text(tool, "description", at)
    if kind == "custom":
        return Tool(flat, description, custom=True, format=optional_object(tool, "format", at))
    parameters, strict = optional_object(tool, "parameters", at), optional_flag(tool, "strict", at)
    return Tool(flat, description, parameters, strict)


def _decode_choice(value: object, tools: tuple[Tool, ...]) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """The tools that may be used, and how."""
    if value is None:
        return tools, None
    if type(value) is str:
        mode = MODES.get(value)
        if mode is None:
            raise invalid("tool_choice", f"it must be one of {', '.join(MODES)}, or an object")
        return tools, ToolChoice(mode)
    choice = as_object(value, "tool_choice")
    kind = required_text(choice, "type", "tool_choice.")
    if kind in CALLABLE:
        return tools, ToolChoice(ToolMode.NAMED, _chosen(choice, tools, "tool_choice"))
    if kind == "allowed_tools":
        mode = MODES.get(optional_text(choice, "mode", "tool_choice.") or "auto")
        if mode is None:
            raise invalid("tool_choice.mode", "it must be auto or required")
        names = set()
        for index, given in enumerate(optional_list(choice, "tools", "tool_choice.")):
            at = f"tool_choice.tools[{index}]"
            allowed = as_object(given, at)
            if allowed.get("type") not in CALLABLE:
                raise unsupported(at, "a hosted tool")
            names.add(_chosen(allowed, tools, at))
        return tuple(tool for tool in tools if tool.name in names), ToolChoice(mode)
    raise unsupported("tool_choice", f"a choice of type '{kind[:80]}'")


def _chosen(choice: dict[str, Any], tools: tuple[Tool, ...], at: str) -> str:
    given = choice["function"] if type(choice.get("function")) is dict else choice
    name = required_text(given, "name", at + ".")
    flat = flatten(given.get("namespace"), name)
    known = {tool.name for tool in tools}
    if flat in known:
        return flat
    if name in known:  # already flat
        return name
    raise missing(at + ".name") if not tools else invalid(at + ".name", "it must be the name of one of the tools")


# -- encode


def encode_tools(tools: tuple[Tool, ...], losses: Losses) -> list[dict[str, Any]]:
    """Tools for a provider; those of one namespace stand together in it, where its first one stood."""
    found: list[dict[str, Any]] = []
    spaces: dict[str, list[dict[str, Any]]] = {}
    for tool in tools:
        if tool.cache_control is not None:
            losses.add("cache_control")
        namespace, name = divide(tool.name)
        encoded = _encode_tool(tool, name)
        if namespace is None:
            found.append(encoded)
        elif namespace in spaces:
            spaces[namespace].append(encoded)
        else:
            spaces[namespace] = [encoded]
            space = {"type": "namespace", "name": namespace, "description": namespace, "tools": spaces[namespace]}
            found.append(space)
    return found


def _encode_tool(tool: Tool, name: str) -> dict[str, Any]:
    out: dict[str, Any] = {"type": "custom" if tool.custom else "function", "name": name}
    if tool.description is not None:
        out["description"] = tool.description
    if tool.custom:
        if tool.format is not None:
            out["format"] = tool.format
        return out
    out["parameters"] = tool.parameters if tool.parameters is not None else NO_PARAMETERS
    # Elsewhere a schema is a hint unless `strict` says more; here it would be enforced.
    out["strict"] = tool.strict is True
    return out


def encode_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> str | dict[str, Any]:
    if choice.mode is not ToolMode.NAMED or choice.name is None:
        return choice.mode.value
    namespace, name = divide(choice.name)
    custom = any(tool.custom for tool in tools if tool.name == choice.name)
    out = {"type": "custom" if custom else "function", "name": name}
    if namespace is not None:
        out["namespace"] = namespace
    return out
