"""What countTokens has to count, where the provider does not count itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from daemon.protocols.gemini import values
from daemon.protocols.gemini.values import as_object, compact, missing, optional_list, optional_object

__all__ = ["Countable", "count_reply", "count_text"]

WRAPPED: Final = "generateContentRequest"
MEDIA: Final = ("inlineData", "fileData")
OBJECTS: Final = ("functionCall", "functionResponse", "executableCode", "codeExecutionResult")
CALL_MEMBERS: Final = ("name", "args", "response", "code", "output")
_MARKS: Final = re.compile(r'["{}\[\]]')


@dataclass(slots=True)
class Countable:
    """`texts` to count the tokens of; contents (the system instruction is one), tools and media cost a fixed number each."""

    texts: list[str] = field(default_factory=list)
    messages: int = 0
    tools: int = 0
    media: int = 0


def count_text(body: dict[str, Any]) -> Countable:
    """Of {"contents"} or {"generateContentRequest"}. ApiError (400) when there is nothing to count, or it is malformed."""
    inner = optional_object(body, WRAPPED)
    request, at = (body, "") if inner is None else (inner, WRAPPED + ".")
    contents = optional_list(request, "contents", at)
    if not contents:
        raise missing(at + "contents")
    found = Countable()
    system = values.field(request, "systemInstruction")
    if type(system) is str:
        found.messages += 1
        found.texts.append(system)
    elif system is not None:
        _add_content(system, at + "systemInstruction", found)
    for index, content in enumerate(contents):
        _add_content(content, f"{at}contents[{index}]", found)
    for tool in optional_list(request, "tools", at):
        if type(tool) is dict:
            for declared in optional_list(tool, "functionDeclarations", at + "tools."):
                found.tools += 1
                found.texts.append(_MARKS.sub("", compact(declared)))
    config = optional_object(request, "generationConfig", at) or {}
    for name in ("responseSchema", "responseJsonSchema"):
        if (schema := values.field(config, name)) is not None:
            found.texts.append(_MARKS.sub("", compact(schema)))
    return found


def count_reply(tokens: int) -> dict[str, int]:
    """The reply's body."""
    return {"totalTokens": tokens}


def _add_content(content: object, at: str, found: Countable) -> None:
    content = as_object(content, at)
    found.messages += 1
    for index, part in enumerate(optional_list(content, "parts", at + ".")):
        part = as_object(part, f"{at}.parts[{index}]")
        if type(text := part.get("text")) is str:
            found.texts.append(text)
        found.media += sum(values.field(part, name) is not None for name in MEDIA)
        for name in OBJECTS:
            if type(inner := values.field(part, name)) is dict:
                found.texts += [_plain(inner[member]) for member in CALL_MEMBERS if inner.get(member) is not None]
                found.media += len(optional_list(inner, "parts", f"{at}.parts[{index}].{name}."))


def _plain(value: object) -> str:
    return value if type(value) is str else compact(value)
