"""Input items ↔ messages. What the assistant said, thought and called in a row is one message here, several items there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from daemon.domain.chat import (
    Losses,
    Media,
    MediaKind,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from daemon.protocols.openai_responses.names import divide, flatten, seal, unseal
from daemon.protocols.openai_responses.parts import annotations_of, decode_parts, encode_parts
from daemon.protocols.openai_responses.tables import DROPPED, ITEMS, NAME
from daemon.protocols.openai_responses.values import as_object, invalid, missing, required_text, unsupported

ROLES: Final = {
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
    "developer": Role.DEVELOPER,
}
# Neighbours of these roles are one message.
JOINED: Final = frozenset({Role.ASSISTANT, Role.TOOL})
PARAGRAPH: Final = "\n\n"  # between the parts of a thought
IMAGE_TYPES: Final = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif"}


@dataclass(frozen=True, slots=True)
class CallSignature:
    """A reasoning item that only carries the signature of the call after it."""

    signature: str


# -- decode


def decode_input(value: object, dropped: list[str]) -> list[Message]:
    """`input`: a string is what the user says."""
    if type(value) is str:
        return [Message(Role.USER, (Text(value),))] if value else []
    if type(value) is not list:
        raise missing("input") if value is None else invalid("input", "it must be a string or an array of items")
    turns: list[tuple[Role, list[Part | CallSignature]]] = []
    for index, given in enumerate(value):
        at = f"input[{index}]"
        role, parts = _decode_item(as_object(given, at), at, dropped)
        if not parts:
            continue
        if turns and turns[-1][0] is role and role in JOINED:
            turns[-1][1].extend(parts)
        else:
            turns.append((role, list(parts)))
    return [Message(role, signed) for role, parts in turns if (signed := with_signatures(parts))]


def with_signatures(parts: Sequence[Part | CallSignature]) -> tuple[Part, ...]:
    """The parts, each call with the signature that stood before it."""
    found: list[Part] = []
    signature: str | None = None
    for part in parts:
        if isinstance(part, CallSignature):
            signature = part.signature
        elif signature is not None and isinstance(part, ToolCall):
            found.append(replace(part, signature=signature))
            signature = None
        else:
            found.append(part)
    return tuple(found)


def _decode_item(item: dict[str, Any], at: str, dropped: list[str]) -> tuple[Role, Sequence[Part | CallSignature]]:
    kind = item.get("type")
    if kind is None or kind == "message":
        if kind is None and item.get("role") is None and item.get("id") is not None:
            raise unsupported(at, "a reference to a stored item", ITEMS["item_reference"][1])
        role = ROLES.get(required_text(item, "role", at + "."))
        if role is None:
            raise invalid(f"{at}.role", f"it must be one of {', '.join(ROLES)}")
        return role, decode_parts(item.get("content"), f"{at}.content")
    if kind == "function_call" or kind == "custom_tool_call":
        return Role.ASSISTANT, [_decode_call(item, kind == "custom_tool_call", at)]
    if kind == "function_call_output" or kind == "custom_tool_call_output":
        parts = decode_parts(item.get("output"), f"{at}.output")
        custom = kind == "custom_tool_call_output"
        return Role.TOOL, [ToolResult(required_text(item, "call_id", at + "."), tuple(parts), custom=custom)]
    if kind == "reasoning":
        return Role.ASSISTANT, decode_thinking(item)
    if kind == "image_generation_call":
        image = decode_image(item)
        if image is None:
            dropped.append("input.image_generation_call")
        return Role.ASSISTANT, [image] if image is not None else []
    if type(kind) is not str:
        raise invalid(f"{at}.type", "it must be a string")
    fate, note = ITEMS.get(kind, ("", ""))
    if fate != DROPPED:
        raise unsupported(at, f"an item of type '{kind[:80]}'", note)
    dropped.append(f"input.{kind}")
    return Role.ASSISTANT, []


def _decode_call(item: dict[str, Any], custom: bool, at: str) -> ToolCall:
    name = flatten(item.get("namespace"), required_text(item, "name", at + "."))
    field = "input" if custom else "arguments"
    arguments = item.get(field)
    if type(arguments) is dict and not custom:
        arguments = json.dumps(arguments, ensure_ascii=False)
    if type(arguments) is not str:
        raise missing(f"{at}.{field}") if arguments is None else invalid(f"{at}.{field}", "it must be a string")
    return ToolCall(required_text(item, "call_id", at + "."), name, arguments, custom)


def decode_thinking(item: dict[str, Any]) -> list[Thinking | CallSignature]:
    """A reasoning item of a request or a reply; [] when there is nothing in it."""
    text = thinking_text(item)
    content = item.get("encrypted_content")
    if type(content) is not str or not content:
        return [Thinking(text)] if text else []
    sealed = unseal(content)
    if sealed is None:
        item_id = item.get("id")
        return [Thinking(text, encrypted=content, id=item_id if type(item_id) is str else None, origin=NAME)]
    origin, kind, value = sealed
    if kind == "call":
        return [CallSignature(value)]
    if kind == "signature":
        return [Thinking(text, signature=value, origin=origin)]
    return [Thinking(text, encrypted=value, origin=origin)]


def thinking_text(item: dict[str, Any]) -> str:
    """The summary, or, where there is none, the thought itself."""
    for name in ("summary", "content"):
        if type(parts := item.get(name)) is list:
            texts = [part["text"] for part in parts if type(part) is dict and type(part.get("text")) is str]
            if text := PARAGRAPH.join(texts):
                return text
    return ""


def decode_image(item: dict[str, Any]) -> Media | None:
    """The picture of an image_generation_call."""
    result = item.get("result")
    if type(result) is not str or not result:
        return None
    form = item.get("output_format")
    return Media(MediaKind.IMAGE, IMAGE_TYPES.get(form, "image/png") if type(form) is str else "image/png", result)


# -- encode


def encode_input(messages: tuple[Message, ...], losses: Losses) -> list[dict[str, Any]]:
    """Messages as input items for a provider."""
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.name is not None:
            losses.add("message.name")
        if message.role is Role.ASSISTANT:
            _encode_assistant(message.parts, items, losses)
            continue
        content = tuple(part for part in message.parts if not isinstance(part, ToolResult))
        for part in message.parts:
            if isinstance(part, ToolResult):
                items.append(_encode_result(part, losses))
        if content:
            items.append({"type": "message", "role": message.role.value, "content": encode_parts(content, losses)})
    return items


def _encode_result(result: ToolResult, losses: Losses) -> dict[str, Any]:
    if result.is_error:
        losses.add("tool_result.is_error")
    if result.cache_control is not None:
        losses.add("cache_control")
    kind = "custom_tool_call_output" if result.custom else "function_call_output"
    return {"type": kind, "call_id": result.call_id, "output": encode_parts(result.parts, losses)}


def _encode_assistant(parts: tuple[Part, ...], items: list[dict[str, Any]], losses: Losses) -> None:
    content: list[dict[str, Any]] | None = None  # of the message that is being written
    for part in parts:
        if isinstance(part, (Text, Refusal)):
            if content is None:
                content = []
                items.append({"type": "message", "role": "assistant", "content": content})
            content.append(output_part(part, losses))
            continue
        content = None
        if isinstance(part, ToolCall):
            if part.signature is not None:
                losses.add("tool_call.signature")
            items.append(call_item(part.id, part.name, part.arguments, part.custom))
        elif isinstance(part, Thinking):
            if part.encrypted is not None and part.origin == NAME:
                item = {"id": part.id} if part.id is not None else {}
                items.append({"type": "reasoning", **item, **thought(part.text, part.encrypted)})
            else:
                losses.add("thinking")
        elif isinstance(part, ToolResult):
            items.append(_encode_result(part, losses))
        elif part.kind is MediaKind.IMAGE and part.data is not None:
            item_id = f"ig_{len(items)}"
            items.append({"type": "image_generation_call", "id": item_id, "status": "completed", **picture(part)})
        else:
            losses.add("assistant.media")


def output_part(part: Text | Refusal, losses: Losses) -> dict[str, Any]:
    """What the assistant says, in a request; a reply adds log probabilities."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    if part.cache_control is not None:
        losses.add("cache_control")
    annotations = annotations_of(part.citations, len(part.text), losses) if part.citations else []
    return {"type": "output_text", "text": part.text, "annotations": annotations}


def call_item(call_id: str, name: str, arguments: str, custom: bool) -> dict[str, Any]:
    """A function_call or custom_tool_call, its namespace beside its name again."""
    namespace, name = divide(name)
    item: dict[str, Any] = {"type": "custom_tool_call" if custom else "function_call", "call_id": call_id, "name": name}
    if namespace is not None:
        item["namespace"] = namespace
    item["input" if custom else "arguments"] = arguments
    return item


def thought(text: str, encrypted: str | None) -> dict[str, Any]:
    """The fields of a reasoning item beside type and id."""
    fields: dict[str, Any] = {"summary": [{"type": "summary_text", "text": text}] if text else []}
    if encrypted is not None:
        fields["encrypted_content"] = encrypted
    return fields


def picture(image: Media) -> dict[str, Any]:
    """The fields of an image_generation_call that hold its image."""
    form = (image.media_type or "image/png").removeprefix("image/")
    return {"result": image.data, "output_format": form}


def sealed_thinking(signature: str | None, encrypted: str | None, origin: str, same_id: bool = True) -> str | None:
    """encrypted_content for a client: this API's own as it is, another's sealed.

    OpenAI refuses its own content under another id than it had, but takes it without any: so it is sealed when the item
    could not keep its id.
    """
    if signature is not None:
        return seal(origin, "signature", signature)
    if encrypted is None or (origin == NAME and same_id):
        return encrypted
    return seal(origin, "encrypted", encrypted)
