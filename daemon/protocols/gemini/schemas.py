"""Google's schema objects (a subset of OpenAPI 3.0, written as protocol buffers are) → JSON schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from daemon.protocols.gemini.values import invalid, snake

__all__ = ["json_schema"]

Schema = dict[str, Any]
DEPTH: Final = 64
_INTEGER: Final = re.compile("-?[0-9]{1,18}")
INTEGERS: Final = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
NUMBERS: Final = ("minimum", "maximum")


def json_schema(schema: object, at: str, depth: int = 0) -> Schema:
    """The same shape as JSON schema: types in small letters, counts as numbers, nullable as the type null. ApiError 400.

    What is JSON schema already stays what it is, members that this subset does not have included.
    """
    if type(schema) is not dict:
        raise invalid(at, "it must be an object")
    if depth > DEPTH:
        raise invalid(at, "it is nested too deeply")
    found: Schema = {}
    members: Schema = schema
    for given, value in members.items():
        if value is None and given not in ("default", "const", "example"):
            continue
        name = CAMEL.get(given, given)
        if (convert := CONVERTERS.get(name)) is not None:
            convert(found, name, value, at, depth)
        elif name not in LEFT_OUT:
            found[name] = value
    if found.pop("nullable", None) is True:
        found = _nullable(found)
    return found


def _nullable(schema: Schema) -> Schema:
    kind = schema.get("type")
    if type(kind) is str:
        nullable = {**schema, "type": [kind, "null"]}
        if type(values := schema.get("enum")) is list and None not in values:
            nullable["enum"] = [*values, None]
        return nullable
    if type(schema.get("anyOf")) is list:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return schema


def _type(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    if type(value) is str:
        if value.upper() != "TYPE_UNSPECIFIED":
            found[name] = value.lower()
    elif type(value) is list:
        found[name] = [item.lower() if type(item) is str else item for item in value]
    elif type(value) is int and 0 < value < len(TYPE_NUMBERS):
        found[name] = TYPE_NUMBERS[value]


def _inner(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    found[name] = json_schema(value, f"{at}.{name}", depth + 1) if type(value) is dict else value


def _list(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    if type(value) is not list:
        raise invalid(f"{at}.{name}", "it must be an array")
    found[name] = [json_schema(item, f"{at}.{name}[{index}]", depth + 1) for index, item in enumerate(value)]


def _named(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    if type(value) is not dict:
        raise invalid(f"{at}.{name}", "it must be an object")
    inner = {key: json_schema(item, f"{at}.{name}.{key}", depth + 1) for key, item in value.items()}
    found["$defs" if name == "defs" else name] = inner


def _number(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    # 64-bit integers are strings in the JSON of protocol buffers.
    found[name] = int(value) if type(value) is str and _INTEGER.fullmatch(value) else value


def _reference(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    found["$ref"] = value


def _example(found: Schema, name: str, value: object, at: str, depth: int) -> None:
    found["examples"] = [value]


TYPE_NUMBERS: Final = ("", "string", "number", "integer", "boolean", "array", "object", "null")
LEFT_OUT: Final = frozenset({"propertyOrdering"})  # how to write, not what
CONVERTERS: Final[dict[str, Callable[[Schema, str, object, str, int], None]]] = {
    "type": _type,
    "items": _inner,
    "additionalProperties": _inner,
    "not": _inner,
    "anyOf": _list,
    "oneOf": _list,
    "allOf": _list,
    "prefixItems": _list,
    "properties": _named,
    "defs": _named,
    "$defs": _named,
    "ref": _reference,
    "example": _example,
    **dict.fromkeys((*INTEGERS, *NUMBERS), _number),
}
CAMEL: Final[dict[str, str]] = {
    snake(name): name for name in (*INTEGERS, "anyOf", "oneOf", "additionalProperties", "propertyOrdering")
}
