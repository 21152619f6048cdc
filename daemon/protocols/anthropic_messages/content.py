"""Messages → the messages and the system prompt of a provider's request."""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from typing import Any, Final

import jiter

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
from daemon.protocols.anthropic_messages.blocks import RAW
from daemon.protocols.anthropic_messages.tables import NAME
from daemon.protocols.anthropic_messages.values import unsupported

__all__ = ["Turns", "encode_input"]

Block = dict[str, Any]
IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# How base64 data of each type begins, for images whose type nobody told.
IMAGE_STARTS: Final = (("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lG", "image/gif"), ("UklG", "image/webp"))
PDF: Final = "application/pdf"
SYSTEM: Final = frozenset({Role.SYSTEM, Role.DEVELOPER})
_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")


class Turns:
    """Collects messages as the API wants them: system prompt apart, tool results in the user's turn, no empty blocks.

    `inline_system`: a system message after a user's turn stays there.
    """

    def __init__(self, losses: Losses, inline_system: bool = False) -> None:
        self.system: list[Block] = []
        self.messages: list[dict[str, Any]] = []
        self._losses = losses
        self._inline_system = inline_system
        self._joins = False  # the last message is tool results, which the user's next words join
        self._ids: set[str] = set()
        self._open: dict[str, deque[str]] = {}  # a call's id -> the ids it got, while they are not answered
        self._answered: dict[str, str] = {}

    def add(self, message: Message) -> None:
        if message.name is not None:
            self._losses.add("message.name")
        if message.role in SYSTEM:
            self._add_system(message)
            return
        role = "assistant" if message.role is Role.ASSISTANT else "user"
        blocks: list[Block] = []
        for part in message.parts:
            blocks.extend(self._assistant(part) if role == "assistant" else self._user(part))
        if not blocks:
            return
        if role == "user" and self._joins:
            self.messages[-1]["content"].extend(blocks)
        else:
            self.messages.append({"role": role, "content": blocks})
        self._joins = message.role is Role.TOOL

    def take(self) -> tuple[list[Block], list[dict[str, Any]]]:
        """System blocks and messages. The API needs a message: a conversation of system messages only becomes the user's."""
        if not self.messages and self.system:
            self._losses.add("system.position")
            self.messages, self.system = [{"role": "user", "content": self.system}], []
        for message in self.messages:
            message["content"] = plain(message["content"])
        return self.system, self.messages

    def _add_system(self, message: Message) -> None:
        blocks = [_text(part) for part in message.parts if isinstance(part, Text) and part.text.strip()]
        if not all(isinstance(part, Text) for part in message.parts):
            self._losses.add("system.media")
        if not blocks:
            return
        if self.messages and self._inline_system and self.messages[-1]["role"] == "user":
            self.messages.append({"role": "system", "content": blocks})
            self._joins = False
            return
        if self.messages:
            self._losses.add("system.position")
        self.system.extend(blocks)

    def _user(self, part: Part) -> list[Block]:
        if isinstance(part, Text | Refusal):
            return self._words(part)
        if isinstance(part, Media):
            return [encode_media(part, self._losses)]
        return [self._result(part)] if isinstance(part, ToolResult) else []

    def _assistant(self, part: Part) -> list[Block]:
        if isinstance(part, Text | Refusal):
            return self._words(part)
        if isinstance(part, ToolCall):
            if part.signature is not None:
                self._losses.add("tool_call.signature")
            block_id = self._call_id(part.id)
            return [{"type": "tool_use", "id": block_id, "name": part.name, "input": encode_input(part)}]
        if isinstance(part, Thinking):
            return self._thinking(part)
        if isinstance(part, Media):
            self._losses.add("assistant.media")
        return []

    def _words(self, part: Text | Refusal) -> list[Block]:
        if isinstance(part, Refusal):
            part = Text(part.text)
        if part.citations:
            self._losses.add("citations")
        return [_text(part)] if part.text.strip() else []

    def _thinking(self, part: Thinking) -> list[Block]:
        if part.origin == NAME and part.signature:
            return [{"type": "thinking", "thinking": part.text, "signature": part.signature}]
        if part.origin == NAME and part.encrypted:
            return [{"type": "redacted_thinking", "data": part.encrypted}]
        self._losses.add("thinking")
        return []

    def _result(self, result: ToolResult) -> Block:
        block: Block = {"type": "tool_result", "tool_use_id": self._result_id(result.call_id)}
        content: list[Block] = []
        for part in result.parts:
            content.extend(self._user(part))
        if content:
            block["content"] = plain(content)
        if result.is_error:
            block["is_error"] = True
        if result.cache_control is not None:
            block["cache_control"] = result.cache_control
        return block

    def _call_id(self, given: str) -> str:
        """An id that the API accepts: of its letters, and used once; other hosts are less strict."""
        found = _legal(given)
        while found in self._ids:
            found += "_"
        self._ids.add(found)
        self._open.setdefault(given, deque()).append(found)
        return found

    def _result_id(self, given: str) -> str:
        if waiting := self._open.get(given):
            self._answered[given] = waiting.popleft()
        return self._answered.get(given) or _legal(given)


def encode_input(call: ToolCall) -> dict[str, Any]:
    """Arguments as the object that `input` has to be; {_raw: text} when they are none, {input: text} for a custom tool."""
    if call.custom:
        return {"input": call.arguments}
    if not call.arguments.strip():
        return {}
    try:
        found = jiter.from_json(call.arguments.encode(), allow_inf_nan=False)
    except (ValueError, UnicodeEncodeError):
        found = None
    return found if type(found) is dict else {RAW: call.arguments}


def encode_media(media: Media, losses: Losses) -> Block:
    """An image or document block; ApiError for what the API has no block for."""
    if media.detail not in (None, "auto"):
        losses.add("media.detail")
    if media.kind is MediaKind.IMAGE:
        block: Block = {"type": "image", "source": _source(media, _image_type)}
    elif media.kind is MediaKind.FILE:
        block = {"type": "document", "source": _document_source(media)}
        if media.name:
            block["title"] = media.name
    else:
        raise unsupported("messages", f"{media.kind.value} in a message", "the model reads text, images and documents")
    if media.cache_control is not None:
        block["cache_control"] = media.cache_control
    return block


def plain(blocks: list[Block]) -> str | list[Block]:
    """One text alone as a string."""
    if len(blocks) == 1 and blocks[0]["type"] == "text" and len(blocks[0]) == 2:
        text: str = blocks[0]["text"]
        return text
    return blocks


def _text(part: Text) -> Block:
    block: Block = {"type": "text", "text": part.text}
    if part.cache_control is not None:
        block["cache_control"] = part.cache_control
    return block


def _source(media: Media, type_of: Any) -> Block:
    if media.url is not None:
        return {"type": "url", "url": media.url}
    if media.file_id is not None:
        return {"type": "file", "file_id": media.file_id}
    return {"type": "base64", "media_type": type_of(media), "data": media.data or ""}


def _image_type(media: Media) -> str:
    given = (media.media_type or "").lower().partition(";")[0].strip()
    if given in ("", "image/*", "application/octet-stream"):
        given = next((kind for start, kind in IMAGE_STARTS if (media.data or "").startswith(start)), given)
    given = "image/jpeg" if given == "image/jpg" else given
    if given not in IMAGE_TYPES:
        raise unsupported("messages", f"an image of type {given[:80]!r}", "send JPEG, PNG, GIF or WebP")
    return given


def _document_source(media: Media) -> Block:
    kind = (media.media_type or "").lower().partition(";")[0].strip()
    if media.data is not None and (kind.startswith("text/") or kind == "application/json"):
        try:
            words = base64.b64decode(media.data, validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise unsupported("messages", f"a file of type {kind!r} that is not base64 of UTF-8") from error
        return {"type": "text", "media_type": "text/plain", "data": words}
    return _source(media, _file_type)


def _file_type(media: Media) -> str:
    kind = (media.media_type or PDF).lower().partition(";")[0].strip()
    if kind != PDF:
        raise unsupported("messages", f"a file of type {kind[:80]!r}", "send PDF or text")
    return PDF


def _legal(given: str) -> str:
    return _NOT_IN_IDS.sub("_", given) or "call"
