"""What POST /v1/messages/count_tokens has to count, where the provider does not count itself."""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.countable import Countable
from daemon.protocols.anthropic_messages.values import as_object, compact, invalid, missing, model_of, optional_list

__all__ = ["count_reply", "count_request"]

DEPTH: Final = 12
# Members of a block that a model reads. Signatures, hidden thoughts and encrypted results of hosted tools are not read.
TEXTS: Final = ("text", "title", "context", "thinking", "name", "tool_name", "url")
MEDIA: Final = frozenset({"image", "document", "container_upload"})
_MARKS: Final = re.compile(r'["{}\[\]]')


def count_request(body: dict[str, Any]) -> Countable:
    """ApiError (400) when there is no model or no message. Blocks of any type are counted, those of hosted tools too."""
    model_of(body)
    messages = optional_list(body, "messages")
    if not messages:
        raise missing("messages")
    found = Countable()
    if (system := body.get("system")) is not None:
        found.messages += 1
        _add_content(system, found, 0)
    for index, message in enumerate(messages):
        message = as_object(message, f"messages[{index}]")
        if type(message.get("content")) not in (str, list):
            raise invalid(f"messages[{index}].content", "it must be a string or an array of content blocks")
        found.messages += 1
        _add_content(message["content"], found, 0)
    for tool in optional_list(body, "tools"):
        found.tools += 1
        if type(tool) is dict:
            seen = {name: tool[name] for name in ("name", "description", "input_schema", "input_examples") if name in tool}
            found.texts.append(_MARKS.sub("", compact(seen)))
    config = body.get("output_config")
    if type(config) is dict and type(config.get("format")) is dict:
        found.texts.append(_MARKS.sub("", compact(config["format"])))
    return found


def count_reply(tokens: int) -> dict[str, int]:
    """The reply's body."""
    return {"input_tokens": tokens}


def _add_content(content: object, found: Countable, depth: int) -> None:
    if type(content) is str:
        found.texts.append(content)
    elif type(content) is list and depth < DEPTH:
        for block in content:
            if type(block) is dict:
                _add_block(block, found, depth + 1)
            elif type(block) is str:
                found.texts.append(block)


def _add_block(block: dict[str, Any], found: Countable, depth: int) -> None:
    found.texts.extend(value for name in TEXTS if type(value := block.get(name)) is str and value)
    source = block.get("source")
    words = type(source) is dict and source.get("type") in ("text", "content")
    if type(source) is str:
        found.texts.append(source)
    elif type(source) is dict and words:
        _add_content(source.get("data"), found, depth)
        _add_content(source.get("content"), found, depth)
    if type(kind := block.get("type")) is str and kind in MEDIA and not words:
        found.media += 1
    if type(block.get("input")) is dict:
        found.texts.append(compact(block["input"]))
    inner = block.get("content")
    _add_content([inner] if type(inner) is dict else inner, found, depth)
