"""What is counted of a request, where the provider does not count itself."""

from __future__ import annotations

import pytest

from daemon.domain.errors import ApiError
from daemon.protocols.anthropic_messages import count_reply, count_request


def test_everything_that_a_model_reads_is_counted() -> None:
    found = count_request(
        {
            "model": "m",
            "system": [{"type": "text", "text": "sys"}],
            "messages": [
                {"role": "user", "content": "hello"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "x" * 999},
                        {"type": "redacted_thinking", "data": "y" * 999},
                        {"type": "tool_use", "id": "id", "name": "look", "input": {"q": "a"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "id", "content": [{"type": "text", "text": "found"}]},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "z" * 999}},
                        {
                            "type": "document",
                            "title": "T",
                            "source": {"type": "text", "media_type": "text/plain", "data": "doc"},
                        },
                    ],
                },
            ],
            "tools": [{"name": "look", "description": "d", "input_schema": {"type": "object"}}],
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        }
    )
    assert found.texts == [
        "sys", "hello", "hm", "look", '{"q":"a"}', "found", "T", "doc",
        "name:look,description:d,input_schema:type:object", "type:json_schema,schema:type:object",
    ]  # fmt: skip
    assert (found.messages, found.tools, found.media) == (4, 1, 1)


def test_the_reply_has_one_number() -> None:
    assert count_reply(7) == {"input_tokens": 7}


@pytest.mark.parametrize(
    ("param", "body"),
    [
        ("model", {"messages": [{"role": "user", "content": "a"}]}),
        ("messages", {"model": "m"}),
        ("messages[0]", {"model": "m", "messages": ["a"]}),
        ("messages[0].content", {"model": "m", "messages": [{"role": "user"}]}),
    ],
)
def test_a_malformed_request_is_refused(param: str, body: dict[str, object]) -> None:
    with pytest.raises(ApiError) as caught:
        count_request(body)
    assert caught.value.param == param
