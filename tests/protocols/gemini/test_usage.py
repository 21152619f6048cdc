"""Usage as disjoint meters and back, what was generated, and Google's schemas."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.domain.errors import ApiError
from daemon.domain.usage import MAX_COUNT, InvalidUsage, Usage
from daemon.protocols.gemini import (
    reply_text,
    usage_of,
)
from daemon.protocols.gemini.schemas import json_schema
from daemon.protocols.gemini.usage import usage_object


def audio(count: int) -> list[dict[str, Any]]:
    return [{"modality": "AUDIO", "tokenCount": count}, {"modality": "TEXT", "tokenCount": 1}]


@pytest.mark.parametrize(
    ("raw", "meters", "reasoning"),
    [
        (
            {"promptTokenCount": 9, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 3},
            {"input": 8, "cached_input": 4},
            0,
        ),
        ({"promptTokenCount": 9, "cacheTokensDetails": audio(3)}, {"input": 5, "cached_input": 4}, 0),
        ({"candidatesTokenCount": 2, "thoughtsTokenCount": 5}, {"output": 7}, 5),
        ({"promptTokenCount": 9, "totalTokenCount": 20, "toolUsePromptTokenCount": 1}, {"input": 10, "output": 10}, 0),
        ({"promptTokenCount": 9, "candidatesTokenCount": 0, "totalTokenCount": 20}, {"input": 9}, 0),
        ({"promptTokenCount": 9, "promptTokensDetails": audio(6)}, {"input": 3, "audio_input": 6}, 0),
        (
            {
                "promptTokenCount": 9,
                "promptTokensDetails": audio(6),
                "cachedContentTokenCount": 5,
                "cacheTokensDetails": audio(4),
            },
            {"input": 2, "cached_input": 5, "audio_input": 2},
            0,
        ),
        ({"toolUsePromptTokenCount": 9, "toolUsePromptTokensDetails": audio(4)}, {"input": 5, "audio_input": 4}, 0),
        (
            {"candidatesTokenCount": 9, "thoughtsTokenCount": 1, "candidatesTokensDetails": audio(4)},
            {"output": 6, "audio_output": 4},
            1,
        ),
        (
            {"candidatesTokenCount": 9, "candidatesTokensDetails": [{"modality": 2, "tokenCount": 7}]},
            {"output": 2, "image_output": 7},
            0,
        ),
        ({"promptTokenCount": 1, "promptTokensDetails": audio(50)}, {"input": 0, "audio_input": 1}, 0),
    ],
)
def test_usage_is_disjoint(raw: dict[str, Any], meters: dict[str, int], reasoning: int) -> None:
    assert usage_of({"usageMetadata": raw}) == Usage({"input": 0, "output": 0} | meters, reasoning)


@pytest.mark.parametrize("raw", [{}, {"trafficType": "ON_DEMAND"}, {"promptTokenCount": None}])
def test_without_a_count_there_is_no_usage(raw: dict[str, Any]) -> None:
    assert usage_of({"usageMetadata": raw}) is None
    assert usage_of({}) is None


@pytest.mark.parametrize(
    "raw",
    [
        5,
        {"promptTokenCount": "5"},
        {"promptTokenCount": True},
        {"promptTokenCount": -1},
        {"candidatesTokenCount": 1.5},
        {"promptTokenCount": 5, "cachedContentTokenCount": 6},
        {"promptTokenCount": MAX_COUNT, "toolUsePromptTokenCount": 1},
        {"candidatesTokenCount": MAX_COUNT, "thoughtsTokenCount": 1},
        {"promptTokenCount": 5, "promptTokensDetails": 1},
        {"promptTokenCount": 5, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": "x"}]},
    ],
)
def test_usage_that_cannot_be_true_is_told(raw: object) -> None:
    with pytest.raises(InvalidUsage):
        usage_of({"usageMetadata": raw})


@pytest.mark.parametrize(
    ("raw", "tier"),
    [
        ({"serviceTier": "PRIORITY"}, "priority"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex"),
        ({"trafficType": "ON_DEMAND"}, None),
    ],
)
def test_usage_names_its_tier(raw: dict[str, Any], tier: str | None) -> None:
    found = usage_of({"usageMetadata": {"promptTokenCount": 1, **raw}})
    assert found is not None
    assert found.tier == tier


WORK: dict[str, Any] = {
    "groundingMetadata": {
        "webSearchQueries": ["a", "b", "a", 5],
        "retrievalQueries": ["c"],
        "groundingChunks": [{"maps": {}}, {"maps": {}}],
    },
    "urlContextMetadata": {
        "urlMetadata": [{"retrievedUrl": "https://example.com/1"}, {"retrievedUrl": "https://example.com/2"}]
    },
    "content": {"parts": [{"executableCode": {"code": "1"}}, {"text": "x"}]},
}


@pytest.mark.parametrize(("model", "searches"), [("gemini-3-flash", 2), ("gemini-2.5-pro", 1), ("", 2)])
def test_calls_of_hosted_tools_are_counted(model: str, searches: int) -> None:
    found = usage_of({"candidates": [WORK], "usageMetadata": {"promptTokenCount": 1}, "modelVersion": model})
    assert found is not None
    names = {"web_search": searches, "file_search": 1, "google_maps": 1, "web_fetch": 2, "code_interpreter": 1}
    assert found.meters == {"input": 1, "output": 0, **{f"hosted_call/{name}": count for name, count in names.items()}}


def test_usage_is_written_as_google_does() -> None:
    usage = Usage({"input": 5, "cached_input": 2, "cache_write_5m": 1, "audio_input": 3, "output": 9, "image_output": 4}, 6)
    assert usage_object(usage, "default") == {
        "promptTokenCount": 11,
        "candidatesTokenCount": 7,
        "totalTokenCount": 24,
        "thoughtsTokenCount": 6,
        "cachedContentTokenCount": 2,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "AUDIO", "tokenCount": 3}],
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 3}, {"modality": "IMAGE", "tokenCount": 4}],
        "serviceTier": "standard",
    }


def test_what_was_generated_can_be_counted() -> None:
    parts = [
        {"text": "a", "thought": True},
        {"functionCall": {"name": "f", "args": {"b": 1}}},
        {"executableCode": {"code": "c"}},
        {},
    ]
    assert reply_text({"candidates": [{"content": {"parts": parts}}, {"content": 5}]}) == 'a\nf\n{"b":1}\nc'
    assert reply_text({}) == ""


# -- schemas


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"type": "STRING", "nullable": True, "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"anyOf": [{"type": "INTEGER"}], "nullable": True}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (
            {"any_of": [{"type": 5, "max_items": "3"}], "property_ordering": ["a"]},
            {"anyOf": [{"type": "array", "maxItems": 3}]},
        ),
        ({"type": "TYPE_UNSPECIFIED", "nullable": False, "example": 1}, {"examples": [1]}),
        (
            {"properties": {"type": {"type": "NUMBER"}, "max_items": {}}},
            {"properties": {"type": {"type": "number"}, "max_items": {}}},
        ),
        ({"ref": "#/defs/a", "defs": {"a": {"type": "NULL"}}}, {"$ref": "#/defs/a", "$defs": {"a": {"type": "null"}}}),
        (
            {"type": ["object", "null"], "additionalProperties": False, "minLength": "²"},
            {"type": ["object", "null"], "additionalProperties": False, "minLength": "²"},
        ),
    ],
)
def test_googles_schemas_become_json_schema(schema: dict[str, Any], found: dict[str, Any]) -> None:
    assert json_schema(schema, "s") == found


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(ApiError, match="nested too deeply"):
        json_schema(schema, "s")
