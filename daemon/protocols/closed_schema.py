"""Whether a JSON schema can be enforced everywhere.

Anthropic and Gemini enforce the schema of a reply as it is. OpenAI's models enforce only closed ones, and refuse `strict` with
any other: every object lists all of its properties as required and allows no more.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["is_closed"]

NOT_ENFORCED: Final = frozenset(
    ("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")
)
HOLDERS: Final = ("properties", "$defs", "definitions")  # name -> schema
MOST_DEEP: Final = 64


def is_closed(schema: dict[str, Any] | None) -> bool:
    """Whether `strict` may stand beside it; False for None, and for what is nested beyond reason."""
    return type(schema) is dict and schema.get("type") == "object" and "anyOf" not in schema and _closed(schema, 0)


def _closed(schema: object, depth: int) -> bool:
    if type(schema) is not dict or depth > MOST_DEEP or not NOT_ENFORCED.isdisjoint(schema):
        return False
    kind = schema.get("type")
    if (kind == "object" or (type(kind) is list and "object" in kind) or "properties" in schema) and not _is_full(schema):
        return False
    inner: list[object] = [schema["items"]] if "items" in schema else []
    for name in HOLDERS:
        held = schema.get(name, {})
        if type(held) is not dict:
            return False
        inner += held.values()
    variants = schema.get("anyOf", [])
    return type(variants) is list and all(_closed(found, depth + 1) for found in [*inner, *variants])


def _is_full(schema: dict[str, Any]) -> bool:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return (
        schema.get("additionalProperties") is False
        and type(properties) is dict
        and type(required) is list
        and all(type(name) is str for name in required)
        and set(required) == set(properties)
    )
