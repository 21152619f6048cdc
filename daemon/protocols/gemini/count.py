"""What countTokens has to count, where the provider does not count itself."""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.countable import Countable
from daemon.protocols.gemini.values import compact, field, invalid, missing

__all__ = ["count_reply", "count_request"]

MEDIA: Final = ("inlineData", "fileData")
CALLS: Final = (("functionCall", "args"), ("functionResponse", "response"))
CODE: Final = (("executableCode", "code"), ("codeExecutionResult", "output"))
SCHEMAS: Final = ("responseSchema", "responseJsonSchema")
DECLARED: Final = ("name", "description", "parameters", "parametersJsonSchema")  # of a function: what a model reads
_MARKS: Final = re.compile(r'["{}\[\]]')


def count_request(body: dict[str, Any]) -> Countable:
    """`contents`, or a whole request under `generateContentRequest`. ApiError (400) when there is nothing to count.

    Parts of any kind are counted, those of hosted tools too; what a cache of the provider holds is not.
    """
    at = ""
    inner = field(body, "generateContentRequest")
    if inner is not None:
        at = "generateContentRequest."
        if type(inner) is not dict:
            raise invalid(at[:-1], "it must be an object")
        body = inner
    contents = _listed(body.get("contents"))
    if contents is None or contents == []:
        raise missing(f"{at}contents")
    if type(contents) is not list:
        raise invalid(f"{at}contents", "it must be an array")
    found = Countable()
    for index, content in enumerate(contents):
        if type(content) is not dict or type(_listed(content.get("parts", []))) is not list:
            raise invalid(f"{at}contents[{index}]", "it must be an object with an array of parts")
        _add(content, found)
    system = field(body, "systemInstruction")
    if type(system) is dict:
        _add(system, found)
    _add_tools(_listed(body.get("tools")), found)
    config = field(body, "generationConfig")
    for name in SCHEMAS if type(config) is dict else ():
        if type(schema := field(config, name)) is dict:
            found.texts.append(_bare(schema))
    return found


def count_reply(tokens: int) -> dict[str, Any]:
    """The reply's body."""
    return {"totalTokens": tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]}


def _add(content: dict[str, Any], found: Countable) -> None:
    found.messages += 1
    parts = _listed(content.get("parts"))
    for part in parts if type(parts) is list else []:
        if type(part) is dict:
            _add_part(part, found)


def _add_part(part: dict[str, Any], found: Countable) -> None:
    if type(text := part.get("text")) is str:
        found.texts.append(text)
    found.media += any(field(part, name) is not None for name in MEDIA)
    for name, values in CALLS:
        if type(call := field(part, name)) is dict:
            if type(call.get("name")) is str:
                found.texts.append(call["name"])
            if call.get(values):
                found.texts.append(compact(call[values]))
    for name, member in CODE:
        if type(code := field(part, name)) is dict and type(code.get(member)) is str:
            found.texts.append(code[member])


def _add_tools(tools: object, found: Countable) -> None:
    for tool in tools if type(tools) is list else []:
        declared = _listed(field(tool, "functionDeclarations")) if type(tool) is dict else None
        for function in declared if type(declared) is list else []:
            found.tools += 1
            if type(function) is dict:
                seen = {name: value for name in DECLARED if (value := field(function, name)) is not None}
                found.texts.append(_bare(seen))


def _listed(value: object) -> object:
    """One object may stand for a list of it."""
    return [value] if type(value) is dict else value


def _bare(value: object) -> str:
    return _MARKS.sub("", compact(value))
