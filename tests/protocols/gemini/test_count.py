"""What is counted of a Gemini request, where the provider does not count itself."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.domain.errors import ApiError
from daemon.protocols.gemini import count_reply, count_request

WHOLE: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "sys"}]},
    "contents": [
        {"role": "user", "parts": [{"text": "hello"}, {"inlineData": {"mimeType": "image/png", "data": "z" * 999}}]},
        {
            "role": "model",
            "parts": [
                {"text": "hm", "thought": True, "thoughtSignature": "x" * 999},
                {"functionCall": {"id": "1", "name": "look", "args": {"q": "a"}}},
                {"executableCode": {"language": "PYTHON", "code": "1+1"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "1", "name": "look", "response": {"found": True}}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
                {"fileData": {"fileUri": "gs://there"}},
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "look", "description": "d", "parameters": {"type": "OBJECT"}}]},
        {"googleSearch": {}},
    ],
    "generationConfig": {"temperature": 1, "responseSchema": {"type": "OBJECT"}},
}  # fmt: skip
TEXTS = [
    "hello", "hm", "look", '{"q":"a"}', "1+1", "look", '{"found":true}', "2", "sys",
    "name:look,description:d,parameters:type:OBJECT", "type:OBJECT",
]  # fmt: skip


def in_snake_case(value: Any) -> Any:
    """The same request as Google's Python library once wrote it."""
    if isinstance(value, list):
        return [in_snake_case(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): in_snake_case(item) for key, item in value.items()}


@pytest.mark.parametrize("body", [WHOLE, {"generateContentRequest": WHOLE}, in_snake_case(WHOLE)])
def test_everything_that_a_model_reads_is_counted(body: dict[str, Any]) -> None:
    found = count_request(body)
    assert found.texts == TEXTS
    assert (found.messages, found.tools, found.media) == (4, 1, 2)


def test_one_object_may_stand_for_a_list() -> None:
    found = count_request({"contents": {"parts": {"text": "a"}}, "tools": {"functionDeclarations": {"name": "f"}}})
    assert (found.texts, found.messages, found.tools) == (["a", "name:f"], 1, 1)


def test_the_reply_has_the_number_twice() -> None:
    assert count_reply(7) == {"totalTokens": 7, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}]}


@pytest.mark.parametrize(
    "odd",
    [{"parts": [1, None, {"text": 1}, {"functionCall": []}]}, {}, {"parts": [{"functionCall": {"name": 1, "args": 0}}]}],
)
def test_odd_parts_count_nothing_and_break_nothing(odd: dict[str, Any]) -> None:
    found = count_request({"contents": [odd], "tools": "x", "generationConfig": 1, "systemInstruction": "x"})
    assert (found.texts, found.messages, found.tools, found.media) == ([], 1, 0, 0)


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("contents", {}),
        ("contents", {"contents": []}),
        ("contents", {"contents": "a"}),
        ("contents[0]", {"contents": ["a"]}),
        ("contents[0]", {"contents": [{"parts": "a"}]}),
        ("generateContentRequest", {"generateContentRequest": []}),
        ("generateContentRequest.contents", {"generateContentRequest": {}}),
    ],
)
def test_a_malformed_request_is_refused(param: str, body: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        count_request(body)
    assert caught.value.param == param
