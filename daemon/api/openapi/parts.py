"""Shorthands for JSON schemas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
POSITIVE: Schema = {"type": "integer", "minimum": 1}
ANY_OBJECT: Schema = {"type": "object", "additionalProperties": True}
INSTANT: Schema = {"type": "string", "format": "date-time"}
USD: Schema = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": "USD, a decimal number without exponent."}


def ref(name: str) -> Schema:
    """A schema of the document's own."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **more: Any) -> Schema:
    """A list of `items`."""
    return {"type": "array", "items": items, **more}


def one_of_texts(*values: str) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(values)}


def constant(value: str) -> Schema:
    """Always this word."""
    return {"type": "string", "const": value}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return schema | {"type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def either(*schemas: Schema) -> Schema:
    """Any of these."""
    return {"anyOf": list(schemas)}


def thing(properties: Mapping[str, Schema], required: Iterable[str] = (), description: str = "") -> Schema:
    """An object of which these members are told; others may stand beside them."""
    shown: Schema = {"type": "object", "properties": dict(properties)}
    if needed := list(required):
        shown["required"] = needed
    if description:
        shown["description"] = description
    return shown | {"additionalProperties": True}


def whole(properties: Mapping[str, Schema], description: str = "") -> Schema:
    """An object that always has all of these members."""
    return thing(properties, properties, description)
