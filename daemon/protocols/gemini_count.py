"""What POST …:countTokens of the Gemini API has to count, where the provider does not count itself.

Google reads its JSON in camelCase and snake_case; so does this.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from daemon.domain.countable import Countable
from daemon.domain.errors import ApiError

__all__ = ["count_reply", "count_request"]

MEDIA: Final = ("inlineData", "fileData")
CALLS: Final = (("functionCall", "args"), ("functionResponse", "response"))
CODE: Final = (("executableCode", "code"), ("codeExecutionResult", "output"))
SCHEMAS: Final = ("responseSchema", "responseJsonSchema")
DECLARED: Final = ("name", "description", "parameters", "parametersJsonSchema")  # of a function: what a model reads
_MARKS: Final = re.compile(r'["{}\[\]]')
_HUMP: Final = re.compile(r"([A-Z])")


def count_request(body: dict[str, Any]) -> Countable:
    """`contents`, or a whole request under `generateContentRequest`. ApiError (400) when there is nothing to count.

    Parts of any kind are counted, those of hosted tools too; what a cache of the provider holds is not.
    """
    at = ""
    inner = _of(body, "generateContentRequest")
    if inner is not None:
        at = "generateContentRequest."
        if type(inner) is not dict:
            raise _invalid(at[:-1], "it must be an object")
        body = inner
    contents = body.get("contents")
    if contents is None or contents == []:
        raise ApiError.of("missing_required_parameter", param=f"{at}contents")
    if type(contents) is not list:
        raise _invalid(f"{at}contents", "it must be an array")
    found = Countable()
    for index, content in enumerate(contents):
        if type(content) is not dict or type(content.get("parts", [])) is not list:
            raise _invalid(f"{at}contents[{index}]", "it must be an object with an array of parts")
        _add(content, found)
    system = _of(body, "systemInstruction")
    if type(system) is dict:
        _add(system, found)
    _add_tools(body.get("tools"), found)
    config = _of(body, "generationConfig")
    for name in SCHEMAS if type(config) is dict else ():
        if type(schema := _of(config, name)) is dict:
            found.texts.append(_bare(schema))
    return found


def count_reply(tokens: int) -> dict[str, Any]:
    """The reply's body."""
    return {"totalTokens": tokens, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]}


def _add(content: dict[str, Any], found: Countable) -> None:
    found.messages += 1
    parts = content.get("parts")
    for part in parts if type(parts) is list else []:
        if type(part) is dict:
            _add_part(part, found)


def _add_part(part: dict[str, Any], found: Countable) -> None:
    if type(text := part.get("text")) is str:
        found.texts.append(text)
    found.media += any(_of(part, name) is not None for name in MEDIA)
    for name, values in CALLS:
        if type(call := _of(part, name)) is dict:
            if type(call.get("name")) is str:
                found.texts.append(call["name"])
            if call.get(values):
                found.texts.append(_compact(call[values]))
    for name, field in CODE:
        if type(code := _of(part, name)) is dict and type(code.get(field)) is str:
            found.texts.append(code[field])


def _add_tools(tools: object, found: Countable) -> None:
    for tool in tools if type(tools) is list else []:
        declared = _of(tool, "functionDeclarations") if type(tool) is dict else None
        for function in declared if type(declared) is list else []:
            found.tools += 1
            if type(function) is dict:
                seen = {name: value for name in DECLARED if (value := _of(function, name)) is not None}
                found.texts.append(_bare(seen))


def _of(holder: dict[str, Any], name: str) -> Any:
    value = holder.get(name)
    return value if value is not None else holder.get(_HUMP.sub(r"_\1", name).lower())


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bare(value: object) -> str:
    return _MARKS.sub("", _compact(value))


def _invalid(param: str, reason: str) -> ApiError:
    return ApiError.of("invalid_value", param=param, reason=reason)
