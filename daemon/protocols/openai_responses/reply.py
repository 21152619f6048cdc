"""A whole response ↔ the canonical reply, and what a stream shares with it: the response object and why it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    Choice,
    Failed,
    Finish,
    Losses,
    Media,
    MediaKind,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from daemon.domain.usage import InvalidUsage
from daemon.protocols.openai_responses.items import (
    CallSignature,
    call_item,
    decode_image,
    decode_thinking,
    output_part,
    picture,
    sealed_thinking,
    thought,
    with_signatures,
)
from daemon.protocols.openai_responses.names import flatten, seal
from daemon.protocols.openai_responses.parts import citations_of
from daemon.protocols.openai_responses.tables import INCOMPLETE, STATUS
from daemon.protocols.openai_responses.usage import usage_object, usage_of

ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
EMPTY_ARGUMENTS: Final = "{}"


# -- decode


def decode_reply(body: dict[str, Any]) -> Reply:
    """A provider's whole reply, without a usage that cannot be true. ValueError when it is not one, or not an ended one."""
    output = body.get("output")
    if type(output) is not list:
        raise ValueError("no response: it has no output")
    status = body.get("status") or "completed"
    if type(status) is not str or status not in ENDED:
        raise ValueError(f"the response has not ended: its status is {str(status)[:40]}")
    parts: list[Part | CallSignature] = []
    logprobs: list[Any] = []
    for item in output:
        if type(item) is dict:
            _decode_output(item, parts, logprobs)
    found = with_signatures(parts)
    called = any(isinstance(part, ToolCall) for part in found)
    finish = finish_of(status, body.get("incomplete_details"), called, any(isinstance(part, Refusal) for part in found))
    tier = body.get("service_tier")
    try:
        usage = usage_of(body)
    except InvalidUsage:
        usage = None
    return Reply(
        text_of(body, "id"),
        text_of(body, "model"),
        created_of(body),
        (Choice(found, finish, logprobs={"content": logprobs} if logprobs else None),),
        usage,
        tier if type(tier) is str else None,
    )


def _decode_output(item: dict[str, Any], parts: list[Part | CallSignature], logprobs: list[Any]) -> None:
    kind = item.get("type")
    if kind == "message":
        content = item.get("content")
        for part in content if type(content) is list else ():
            if type(part) is not dict:
                continue
            if part.get("type") == "output_text" and type(text := part.get("text")) is str and text:
                parts.append(Text(text, citations=citations_of(part.get("annotations"))))
                if type(tokens := part.get("logprobs")) is list:
                    logprobs += tokens
            elif part.get("type") == "refusal" and type(text := part.get("refusal")) is str:
                parts.append(Refusal(text))
    elif kind == "reasoning":
        parts += decode_thinking(item)
    elif kind == "function_call" or kind == "custom_tool_call":
        custom = kind == "custom_tool_call"
        name = flatten(item.get("namespace"), text_of(item, "name"))
        arguments = text_of(item, "input" if custom else "arguments")
        parts.append(ToolCall(text_of(item, "call_id") or text_of(item, "id"), name, arguments, custom))
    elif kind == "image_generation_call" and (image := decode_image(item)) is not None:
        parts.append(image)


def reply_error(body: dict[str, Any]) -> Failed | None:
    """What went wrong, in a whole reply whose status is failed; None in any other."""
    if body.get("status") not in ("failed", "cancelled"):
        return None
    return failed_of(body.get("error"))


def failed_of(error: object) -> Failed:
    """An error object, of a response or of an event."""
    if type(error) is str:
        return Failed(error)
    if type(error) is not dict:
        return Failed("")
    return Failed(text_of(error, "message"), text_of(error, "type"), text_of(error, "code"))


def finish_of(status: object, details: object, called: bool, refused: bool) -> Finish:
    """Why a response ended: by its status and incomplete_details, and by what is in it."""
    if status == "incomplete":
        reason = details.get("reason") if type(details) is dict else None
        return INCOMPLETE.get(reason, Finish.LENGTH) if type(reason) is str else Finish.LENGTH
    if status in ("failed", "cancelled"):
        return Finish.ERROR
    if called:
        return Finish.TOOL_CALLS
    return Finish.REFUSAL if refused else Finish.STOP


def text_of(holder: dict[str, Any], name: str) -> str:
    """A string, "" for anything else."""
    value = holder.get(name)
    return value if type(value) is str else ""


def created_of(response: dict[str, Any]) -> int:
    value = response.get("created_at")
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 2**53 else 0


# -- encode


def encode_reply(reply: Reply, model: str, losses: Losses, chat: Chat | None = None) -> dict[str, Any]:
    """The reply for a client. With its `chat`, calls of custom tools are such again where the provider knew none."""
    body = response_object(response_id(reply.id), reply.created, model, chat)
    if len(reply.choices) > 1:
        losses.add("choices")
    choice = reply.choices[0] if reply.choices else Choice((), None)
    if choice.stop_sequence is not None:
        losses.add("stop_sequence")
    status, reason = status_of(choice.finish, any(isinstance(part, Refusal) for part in choice.parts))
    output = _Output(body["id"], custom_names(chat), losses)
    output.add(choice.parts)
    body["status"] = status
    body["incomplete_details"] = {"reason": reason} if reason else None
    body["error"] = {"code": "server_error", "message": "The reply failed."} if status == "failed" else None
    body["output"] = output.items
    if status != "completed" and output.items and output.items[-1]["type"] != "reasoning":
        output.items[-1]["status"] = "incomplete"
    if choice.logprobs is not None:
        _add_logprobs(output.items, choice.logprobs.get("content"))
    body["usage"] = usage_object(reply.usage) if reply.usage is not None else None
    if reply.service_tier is not None:
        body["service_tier"] = reply.service_tier
    return body


class _Output:
    """The output items of a reply, one after the other."""

    def __init__(self, base: str, custom: frozenset[str], losses: Losses) -> None:
        self.items: list[dict[str, Any]] = []
        self._base = base.removeprefix("resp_")
        self._custom = custom
        self._losses = losses
        self._call_ids: set[str] = set()

    def add(self, parts: Sequence[Part]) -> None:
        content: list[dict[str, Any]] | None = None  # of the message that is being written
        for part in parts:
            if isinstance(part, (Text, Refusal)):
                if content is None:
                    content = []
                    self._item("msg", "message", {"status": "completed", "role": "assistant", "content": content})
                encoded = output_part(part, self._losses)
                if isinstance(part, Text):
                    encoded["logprobs"] = []
                content.append(encoded)
                continue
            content = None
            if isinstance(part, Thinking):
                if part.signature is not None and part.encrypted is not None:
                    self._losses.add("thinking.encrypted")
                sealed = sealed_thinking(part.signature, part.encrypted, part.origin)
                self._item("rs", "reasoning", thought(part.text, sealed), part.id)
            elif isinstance(part, ToolCall):
                self._call(part)
            elif isinstance(part, ToolResult):
                continue
            elif part.kind is MediaKind.IMAGE and part.data is not None:
                self._item("ig", "image_generation_call", {"status": "completed", **picture(part)})
            else:
                self._losses.add(_medium(part))

    def _call(self, call: ToolCall) -> None:
        if call.signature is not None:
            self._item("rs", "reasoning", thought("", seal("", "call", call.signature)))
        arguments, custom = call.arguments, call.custom
        if not custom and call.name in self._custom:
            arguments, custom = unwrapped(arguments), True
        if not custom and not arguments:
            arguments = EMPTY_ARGUMENTS
        call_id = unique_call_id(call.id, self._call_ids)
        fields = call_item(call_id, call.name, arguments, custom)
        self._item("ctc" if custom else "fc", fields.pop("type"), {"status": "completed", **fields})

    def _item(self, prefix: str, kind: str, fields: dict[str, Any], item_id: str | None = None) -> None:
        self.items.append({"id": item_id or f"{prefix}_{self._base}_{len(self.items)}", "type": kind, **fields})


def _medium(media: Media) -> str:
    return "audio" if media.kind is MediaKind.AUDIO else "image" if media.kind is MediaKind.IMAGE else media.kind.value


def _add_logprobs(items: list[dict[str, Any]], tokens: object) -> None:
    """All of them stand in the first text: the canonical reply does not say which token is in which part."""
    texts = (part for item in items if item["type"] == "message" for part in item["content"] if part["type"] == "output_text")
    first = next(texts, None)
    if first is not None and type(tokens) is list:
        first["logprobs"] = tokens


def response_id(given: str) -> str:
    return given if given.startswith("resp_") else f"resp_{given}"


def status_of(finish: Finish | None, refused: bool) -> tuple[str, str | None]:
    """Status and the reason of incomplete_details. A refusal without words of refusal cut the reply short."""
    if finish is Finish.REFUSAL and not refused:
        finish = Finish.CONTENT_FILTER
    return STATUS[finish]


def custom_names(chat: Chat | None) -> frozenset[str]:
    """The tools of a request that take free text."""
    return frozenset(tool.name for tool in chat.tools if tool.custom) if chat is not None else frozenset()


def unwrapped(arguments: str) -> str:
    """The free text that a protocol without custom tools wrapped in an object: its `input`, or its only string."""
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if type(found) is not dict:
        return found if type(found) is str else arguments
    text = found.get("input", next(iter(found.values())) if len(found) == 1 else None)
    return text if type(text) is str else arguments


def unique_call_id(given: str, taken: set[str]) -> str:
    """Official SDKs stop at a call id that comes twice in one response; some hosts count from 0, or give none."""
    found = given or "call"
    if not given or found in taken:
        found = f"{found}_{len(taken)}"
    while found in taken:
        found += "_"
    taken.add(found)
    return found


def response_object(id: str, created: int, model: str, chat: Chat | None) -> dict[str, Any]:
    """A response in progress. What the request said is repeated, but for its texts and tools: clients have those."""
    reasoning = chat.reasoning if chat is not None else None
    text: dict[str, Any] = {"format": {"type": "text"}}
    if chat is not None and (form := chat.output_format) is not None:
        text["format"] = {"type": "json_object"}
        if form.schema is not None:
            text["format"] = {
                "type": "json_schema",
                "name": form.name or "output",
                "schema": form.schema,
                "strict": form.strict,
            }
    if chat is not None and chat.verbosity is not None:
        text["verbosity"] = chat.verbosity
    return {
        "id": id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": chat.max_output if chat is not None else None,
        "max_tool_calls": None,
        "model": model,
        "output": [],
        "parallel_tool_calls": chat is None or chat.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {
            "effort": reasoning.effort if reasoning is not None else None,
            "summary": reasoning.summary if reasoning is not None else None,
        },
        "safety_identifier": None,
        "service_tier": chat.service_tier if chat is not None else None,
        "store": False,
        "temperature": chat.temperature if chat is not None else None,
        "text": text,
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": (chat.top_logprobs if chat is not None else None) or 0,
        "top_p": chat.top_p if chat is not None else None,
        "truncation": "disabled",
        "usage": None,
        "user": chat.user if chat is not None else None,
        "metadata": (chat.metadata if chat is not None else None) or {},
    }
