"""What a model thought, in the forms that hosts have for it: reasoning_details, thinking_blocks, reasoning_content, reasoning.

The richest form that is given counts; hosts that send several send the same thought in each.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.chat import Thinking
from daemon.protocols.openai_chat.tables import FORMAT_OF_ORIGIN, ORIGIN_OF_FORMAT

__all__ = ["detail_of", "details_of", "thinking_part", "thinking_text", "thoughts_of"]

TEXT_FIELDS: Final = ("reasoning_content", "reasoning")


def thoughts_of(message: dict[str, Any]) -> list[Thinking]:
    """The thoughts of a message, whole or a delta."""
    for name, read in (("reasoning_details", detail_of), ("thinking_blocks", thinking_part)):
        value = message.get(name)
        if type(value) is list:
            found = [thought for item in value if type(item) is dict and (thought := read(item)) is not None]
            if found:
                return _joined(found)
    text = thinking_text(message)
    return [Thinking(text)] if text else []


def thinking_text(message: dict[str, Any]) -> str:
    """The thought as plain text, under whichever name."""
    for name in TEXT_FIELDS:
        value = message.get(name)
        if value:
            return value if type(value) is str else text_inside(value)
    return ""


def detail_of(item: dict[str, Any]) -> Thinking | None:
    """One of OpenRouter's reasoning_details; None when it says nothing."""
    text = next((item[name] for name in ("text", "summary") if type(item.get(name)) is str), "")
    signature, data, named, form = (_string(item.get(name)) for name in ("signature", "data", "id", "format"))
    if not (text or signature or data):
        return None
    origin = ORIGIN_OF_FORMAT.get(form or "", form or "") if signature or data else ""
    return Thinking(text, signature, data, named, origin)


def thinking_part(part: dict[str, Any]) -> Thinking | None:
    """A content part or thinking block: Anthropic's thinking and redacted_thinking, Mistral's nested text."""
    if type(part.get("data")) is str and part["data"]:
        return Thinking(encrypted=part["data"], origin="anthropic_messages")
    text = text_inside(part.get("thinking"))
    signature = _string(part.get("signature"))
    if not (text or signature):
        return None
    return Thinking(text, signature, origin="anthropic_messages" if signature else "")


def details_of(thought: Thinking, index: int) -> list[dict[str, Any]]:
    """The reasoning_details of one thought. Indices never repeat: accumulators join what has the same one."""
    common: dict[str, Any] = {}
    if thought.id is not None:
        common["id"] = thought.id
    if thought.origin:
        common["format"] = FORMAT_OF_ORIGIN.get(thought.origin, thought.origin)
    found: list[dict[str, Any]] = []
    if thought.signature is not None:
        found.append({"type": "reasoning.text", "text": thought.text, "signature": thought.signature, **common})
    elif thought.text and thought.encrypted is None:
        found.append({"type": "reasoning.text", "text": thought.text, **common})
    elif thought.text:
        found.append({"type": "reasoning.summary", "summary": thought.text, **common})
    if thought.encrypted is not None:
        found.append({"type": "reasoning.encrypted", "data": thought.encrypted, **common})
    return [{**item, "index": index + place} for place, item in enumerate(found)]


def text_inside(value: object) -> str:
    """The text of a thought that is a string, a part, or a list of parts."""
    if type(value) is str:
        return value
    if type(value) is dict:
        return "".join(text_inside(value[name]) for name in ("thinking", "text") if name in value)
    return "".join(text_inside(item) for item in value) if type(value) is list else ""


def _joined(found: list[Thinking]) -> list[Thinking]:
    """What has the same id is one thought: its words and its proof come as two items."""
    joined: list[Thinking] = []
    for thought in found:
        last = joined[-1] if joined else None
        if last is not None and last.id is not None and last.id == thought.id:
            joined[-1] = Thinking(
                last.text + thought.text,
                last.signature or thought.signature,
                last.encrypted or thought.encrypted,
                last.id,
                last.origin or thought.origin,
            )
        else:
            joined.append(thought)
    return joined


def _string(value: object) -> str | None:
    return value if type(value) is str and value else None
