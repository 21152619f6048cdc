"""Which schemas OpenAI's models enforce."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.protocols.closed_schema import is_closed

LEAF = {"type": "string"}


def of(more: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """A closed object of these properties."""
    made = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return made | (more or {})


@pytest.mark.parametrize(
    "schema",
    [
        of(),
        of(a=LEAF, b={"type": ["string", "null"]}),
        of(a=of(b=LEAF)),
        of(a={"type": "array", "items": of(b=LEAF)}),
        of(a={"anyOf": [LEAF, of()]}),
        of({"$defs": {"x": of()}}, a={"$ref": "#/$defs/x"}),
    ],
)
def test_a_closed_schema_is_enforced(schema: dict[str, Any]) -> None:
    assert is_closed(schema)


NESTED: dict[str, Any] = of()
for _ in range(100):
    NESTED = of(a=NESTED)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        LEAF,
        {"anyOf": [of()]},
        of({"anyOf": [of()]}),
        of({"required": []}, a=LEAF),
        of({"additionalProperties": True}),
        of({"required": [[]]}),
        of({"properties": [], "required": []}),
        of({"properties": None}),
        {"type": "object", "properties": {}},
        of(a={"type": "array", "items": {"type": "object"}}),
        of(a={"type": ["object", "null"]}),
        of(a={"properties": {"b": LEAF}}),
        of(a={"allOf": [LEAF]}),
        of(a={"anyOf": {"b": LEAF}}),
        of(a={"anyOf": [{"type": "object"}]}),
        of(a=True),
        of({"$defs": {"x": {"type": "object"}}}),
        NESTED,
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_any_other_is_a_hint(schema: dict[str, Any] | None) -> None:
    assert not is_closed(schema)
