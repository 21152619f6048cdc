"""A canonical Chat as a provider's chat completion request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    Losses,
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
from daemon.protocols.openai_chat.content import encode_part
from daemon.protocols.openai_chat.habits import Habits
from daemon.protocols.openai_chat.tables import EFFORT_OF_BUDGET, SERVICE_TIERS
from daemon.protocols.openai_chat.thoughts import details_of
from daemon.protocols.openai_chat.values import unsupported

__all__ = ["encode_request"]

# Fields that have one name in Chat and here, and go as they are unless they are None.
PLAIN: Final = (
    "temperature",
    "top_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "user",
    "verbosity",
)
ONLY_SOME: Final = ("top_k", "metadata")  # fields that need a host which accepts them
NAMELESS: Final = "output"


def encode_request(chat: Chat, model: str, losses: Losses, habits: Habits) -> dict[str, Any]:
    """The body for a host with these habits. ApiError 400 unsupported_parameter as in the table ENCODED."""
    body: dict[str, Any] = {"model": model, "messages": _Messages(model, losses, habits).encode(chat.messages)}
    for name in PLAIN:
        if (value := getattr(chat, name)) is not None:
            body[name] = value
    for name in ONLY_SOME:
        if (value := getattr(chat, name)) is not None:
            if habits.takes(name, model):
                body[name] = value
            else:
                losses.add(name)
    if chat.max_output is not None:
        body[habits.limit_of(model)] = chat.max_output
    if chat.stop:
        body["stop"] = list(chat.stop)
    if chat.n != 1:
        body["n"] = chat.n
    if chat.stream:
        body["stream"] = True
        if habits.stream_usage:
            body["stream_options"] = {"include_usage": True}
    if chat.tools:
        body["tools"] = [_tool(tool, model, losses, habits) for tool in chat.tools]
        if chat.tool_choice is not None:
            body["tool_choice"] = _tool_choice(chat.tool_choice, chat.tools)
        if chat.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = chat.parallel_tool_calls
    if chat.output_format is not None:
        body["response_format"] = _response_format(chat.output_format)
    if chat.reasoning is not None and (effort := _effort(chat.reasoning, losses)) is not None:
        body["reasoning_effort"] = effort
    if chat.service_tier is not None:
        if chat.service_tier in SERVICE_TIERS:
            body["service_tier"] = SERVICE_TIERS[chat.service_tier]
        else:
            losses.add("service_tier")
    if chat.include_encrypted:
        losses.add("include_encrypted")
    return body


class _Messages:
    """The messages for one request."""

    def __init__(self, model: str, losses: Losses, habits: Habits) -> None:
        self.model, self.losses, self.habits = model, losses, habits
        self.system = {Role.SYSTEM: "system", Role.DEVELOPER: "developer" if habits.has_developer(model) else "system"}
        self.shown: list[dict[str, Any]] = []  # media of tool results, for the user message after them

    def encode(self, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for message in messages:
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            if self.shown and not results:
                self._show(found)
            found += [self._result(result) for result in results]
            rest = tuple(part for part in message.parts if not isinstance(part, ToolResult)) if results else message.parts
            if results and rest:
                self._show(found)
            if message.role is Role.ASSISTANT:
                found.append(self._assistant(message))
            elif rest or not results:
                found.append(self._spoken(message, rest))
        self._show(found)
        if messages and messages[-1].role is Role.ASSISTANT:
            self.losses.add("prefill")
        return found

    def _show(self, found: list[dict[str, Any]]) -> None:
        if self.shown:
            found.append({"role": "user", "content": self.shown})
            self.shown = []

    def _spoken(self, message: Message, parts: tuple[Part, ...]) -> dict[str, Any]:
        role = self.system.get(message.role, "user")
        if role != "user" and any(isinstance(part, Media) for part in parts):
            raise unsupported("messages", f"has media in a message of role {role}, which cannot be translated")
        item: dict[str, Any] = {"role": role, "content": self._content(parts)}
        if message.name is not None:
            item["name"] = message.name
        return item

    def _content(self, parts: Iterable[Part]) -> str | list[dict[str, Any]]:
        """A string where one will do: every host takes it."""
        found: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, Text | Media):
                found.append(encode_part(part, self.model, self.habits, self.losses))
            elif isinstance(part, Refusal):
                found.append({"type": "text", "text": part.text})
            else:
                self.losses.add("thinking")
        if not found:
            return ""
        if len(found) == 1 and found[0].keys() == {"type", "text"}:
            return str(found[0]["text"])
        return found

    def _result(self, result: ToolResult) -> dict[str, Any]:
        texts = [part for part in result.parts if not isinstance(part, Media)]
        media = [part for part in result.parts if isinstance(part, Media)]
        self.shown += [encode_part(part, self.model, self.habits, self.losses) for part in media]
        if result.is_error:
            self.losses.add("tool_result.is_error")
        if result.name is not None:
            self.losses.add("tool_result.name")
        if result.cache_control is not None:
            self.losses.add("cache_control")
        return {"role": "tool", "tool_call_id": result.call_id, "content": self._content(texts)}

    def _assistant(self, message: Message) -> dict[str, Any]:
        texts = [part for part in message.parts if isinstance(part, Text)]
        calls = [self._call(part) for part in message.parts if isinstance(part, ToolCall)]
        refused = "".join(part.text for part in message.parts if isinstance(part, Refusal))
        item: dict[str, Any] = {"role": "assistant", "content": self._content(texts)}
        for part in message.parts:
            if isinstance(part, Media):
                if part.kind is MediaKind.AUDIO and part.file_id is not None:
                    item["audio"] = {"id": part.file_id}
                else:
                    self.losses.add("assistant.media")
        if refused:
            item["refusal"] = refused
        if calls:
            item["tool_calls"] = calls
        if not texts and len(item) > 2:
            item["content"] = None
        if message.name is not None:
            item["name"] = message.name
        self._think(item, [part for part in message.parts if isinstance(part, Thinking)])
        return item

    def _think(self, item: dict[str, Any], thoughts: list[Thinking]) -> None:
        if not thoughts:
            return
        if self.habits.thinking == "reasoning_details":
            details: list[dict[str, Any]] = []
            for thought in thoughts:
                details += details_of(thought, len(details))
            item["reasoning_details"] = details
        elif self.habits.thinking and (text := "".join(thought.text for thought in thoughts)):
            item[self.habits.thinking] = text
            if any(thought.signature or thought.encrypted for thought in thoughts):
                self.losses.add("thinking")
        else:
            self.losses.add("thinking")

    def _call(self, call: ToolCall) -> dict[str, Any]:
        item: dict[str, Any]
        if call.custom:
            item = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
        else:
            item = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        if call.signature is not None:
            if self.habits.takes("extra_content", self.model):
                item["extra_content"] = {"google": {"thought_signature": call.signature}}
            else:
                self.losses.add("tool_call.signature")
        return item


def _tool(tool: Tool, model: str, losses: Losses, habits: Habits) -> dict[str, Any]:
    inner: dict[str, Any] = {"name": tool.name}
    kind = "custom" if tool.custom else "function"
    fields = (("description", tool.description), ("parameters", tool.parameters), ("strict", tool.strict))
    inner |= {name: value for name, value in fields if value is not None}
    if tool.custom and tool.format is not None:
        inner["format"] = tool.format
    item: dict[str, Any] = {"type": kind, kind: inner}
    if tool.cache_control is not None:
        if habits.takes("cache_control", model):
            item["cache_control"] = tool.cache_control
        else:
            losses.add("cache_control")
    return item


def _tool_choice(choice: ToolChoice, tools: tuple[Tool, ...]) -> str | dict[str, Any]:
    if choice.mode is not ToolMode.NAMED:
        return choice.mode.value
    custom = any(tool.custom and tool.name == choice.name for tool in tools)
    kind = "custom" if custom else "function"
    return {"type": kind, kind: {"name": choice.name}}


def _response_format(shape: OutputFormat) -> dict[str, Any]:
    if shape.schema is None:
        return {"type": "json_object"}
    inner: dict[str, Any] = {"name": shape.name or NAMELESS, "schema": shape.schema}
    if shape.description is not None:
        inner["description"] = shape.description
    if shape.strict is not None:
        inner["strict"] = shape.strict
    return {"type": "json_schema", "json_schema": inner}


def _effort(reasoning: Reasoning, losses: Losses) -> str | None:
    if reasoning.summary is not None:
        losses.add("reasoning.summary")
    budget = reasoning.budget_tokens
    if budget is not None:
        losses.add("reasoning.budget_tokens")
    if reasoning.effort is not None or budget is None:
        return reasoning.effort
    return next((effort for most, effort in EFFORT_OF_BUDGET if budget <= most), "high")
