"""Content blocks of a request → parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from daemon.domain.chat import Media, MediaKind, Part, Text, Thinking, ToolCall, ToolResult
from daemon.protocols.anthropic_messages.citations import decode_citations
from daemon.protocols.anthropic_messages.seals import CallSignature, open_thinking
from daemon.protocols.anthropic_messages.tables import NAME
from daemon.protocols.anthropic_messages.values import (
    as_object,
    compact,
    invalid,
    missing,
    optional_flag,
    optional_list,
    optional_object,
    optional_text,
    required_text,
    text_of,
    unsupported,
)

__all__ = ["RAW", "arguments_of", "decode_blocks", "decode_content"]

Block = dict[str, Any]
Decoded = Part | CallSignature
# What a model generated as arguments, when it is not the JSON object that `input` has to be.
RAW: Final = "_raw"


def decode_content(content: object, at: str, dropped: list[str]) -> list[Part]:
    """The content of a message: a string or blocks. `dropped` gets the names of what is left out."""
    if type(content) is str:
        return [Text(content)] if content else []
    if content is None:
        raise missing(at)
    if type(content) is not list:
        raise invalid(at, "it must be a string or an array of content blocks")
    return decode_blocks(content, at, dropped, HANDLERS)


def decode_blocks(blocks: list[Any], at: str, dropped: list[str], handlers: dict[str, Handler]) -> list[Part]:
    """The parts, each call with the signature that stood before it."""
    parts: list[Part] = []
    signature: str | None = None
    for index, block in enumerate(blocks):
        place = f"{at}[{index}]"
        block = as_object(block, place)
        kind = required_text(block, "type", place + ".")
        handler = handlers.get(kind)
        if handler is None:
            raise unsupported(place + ".type", f"a content block of type {kind[:80]!r} here")
        for part in handler(block, place + ".", dropped):
            if isinstance(part, CallSignature):
                signature = part.signature
            elif signature is not None and isinstance(part, ToolCall):
                parts.append(ToolCall(part.id, part.name, part.arguments, signature=signature))
                signature = None
            else:
                parts.append(part)
    return parts


def arguments_of(value: object) -> str:
    """`input` as JSON text; the text itself when it was wrapped because it is no object."""
    if type(value) is dict and len(value) == 1 and type(raw := value.get(RAW)) is str:
        return raw
    return compact(value)


def _text(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    citations = decode_citations(optional_list(block, "citations", at))
    return [Text(text_of(block, "text", at), optional_object(block, "cache_control", at), citations)]


def _image(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    source = _source(block, at)
    at += "source."
    kind = required_text(source, "type", at)
    cache = optional_object(block, "cache_control")
    if kind == "base64":
        media_type = required_text(source, "media_type", at)
        return [Media(MediaKind.IMAGE, media_type, required_text(source, "data", at), cache_control=cache)]
    if kind == "url":
        return [Media(MediaKind.IMAGE, url=required_text(source, "url", at), cache_control=cache)]
    if kind == "file":
        return [Media(MediaKind.IMAGE, file_id=required_text(source, "file_id", at), cache_control=cache)]
    raise invalid(at + "type", "it must be base64, url or file")


def _document(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    title = optional_text(block, "title", at)
    wanted = block.get("citations")
    if type(wanted) is dict and wanted.get("enabled") is True:
        dropped.append("document.citations")
    source = _source(block, at)
    at += "source."
    kind = required_text(source, "type", at)
    cache = optional_object(block, "cache_control")
    if kind == "base64":
        media_type = required_text(source, "media_type", at)
        return [Media(MediaKind.FILE, media_type, required_text(source, "data", at), name=title, cache_control=cache)]
    if kind == "url":
        return [Media(MediaKind.FILE, url=required_text(source, "url", at), name=title, cache_control=cache)]
    if kind == "file":
        return [Media(MediaKind.FILE, file_id=required_text(source, "file_id", at), name=title, cache_control=cache)]
    if kind == "text":
        return [Text(_titled(text_of(source, "data", at), title), cache)]
    if kind == "content":
        inner = source.get("content")
        parts = (
            [Text(inner)]
            if type(inner) is str
            else decode_blocks(_blocks(inner, at + "content"), at + "content", dropped, PLAIN)
        )
        return [*([Text(title)] if title else []), *parts]
    raise invalid(at + "type", "it must be base64, url, file, text or content")


def _search_result(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    title, source = text_of(block, "title", at), text_of(block, "source", at)
    parts = decode_blocks(_blocks(block.get("content"), at + "content"), at + "content", dropped, PLAIN)
    words = "\n".join(part.text for part in parts if isinstance(part, Text))
    return [Text(_titled(words, " ".join(filter(None, (title, source)))), optional_object(block, "cache_control", at))]


def _thinking(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    return [open_thinking(text_of(block, "thinking", at), optional_text(block, "signature", at) or "")]


def _redacted(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    return [Thinking(encrypted=required_text(block, "data", at), origin=NAME)]


def _tool_use(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    if block.get("cache_control") is not None:
        dropped.append("tool_use.cache_control")
    given = as_object(block.get("input", {}), at + "input")
    return [ToolCall(required_text(block, "id", at), required_text(block, "name", at), arguments_of(given))]


def _tool_result(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    content = block.get("content")
    if content is None or type(content) is str:
        parts: list[Part] = [Text(content)] if content else []
    else:
        parts = decode_blocks(_blocks(content, at + "content"), at + "content", dropped, IN_RESULT)
    cache = optional_object(block, "cache_control", at)
    failed = optional_flag(block, "is_error", at) is True
    return [ToolResult(required_text(block, "tool_use_id", at), tuple(parts), failed, cache_control=cache)]


def _tool_reference(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    return [Text(required_text(block, "tool_name", at), optional_object(block, "cache_control", at))]


def _compaction(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    summary = optional_text(block, "content", at)
    return [Text(summary, optional_object(block, "cache_control", at))] if summary else []


def _fallback(block: Block, at: str, dropped: list[str]) -> list[Decoded]:
    dropped.append("fallback")
    return []


def _source(block: Block, at: str) -> Block:
    if block.get("source") is None:
        raise missing(at + "source")
    return as_object(block["source"], at + "source")


def _blocks(value: object, param: str) -> list[Any]:
    if type(value) is not list:
        raise invalid(param, "it must be an array of content blocks")
    return value


def _titled(text: str, title: str | None) -> str:
    return f"{title}\n\n{text}" if title else text


Handler = Callable[[Block, str, list[str]], list[Decoded]]
PLAIN: Final[dict[str, Handler]] = {"text": _text, "image": _image}
IN_RESULT: Final[dict[str, Handler]] = PLAIN | {
    "document": _document,
    "search_result": _search_result,
    "tool_reference": _tool_reference,
}
HANDLERS: Final[dict[str, Handler]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "compaction": _compaction,
    "fallback": _fallback,
}
