"""Service tiers as providers name them, in requests and replies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from daemon.domain.usage import Usage
from daemon.protocols import anthropic_messages, openai_chat, openai_completions, openai_responses, raw
from daemon.protocols.conversation_asks import read_messages, read_responses
from daemon.protocols.tiers import carried_tier, reported_tier

CHAT = {"prompt_tokens": 3, "completion_tokens": 5}
TOKENS = {"input_tokens": 3, "output_tokens": 5}
READ: list[tuple[Callable[[dict[str, Any]], Usage | None], dict[str, Any], str | None]] = [
    (openai_chat.usage_of, {"usage": CHAT}, None),
    (openai_chat.usage_of, {"usage": CHAT, "service_tier": "priority"}, "priority"),
    (openai_chat.usage_of, {"usage": CHAT, "service_tier": None}, None),
    (openai_completions.usage_of, {"usage": CHAT, "service_tier": "flex"}, "flex"),
    (openai_responses.OpenAIResponses().usage_of, {"usage": TOKENS, "service_tier": "flex"}, "flex"),
    (openai_responses.OpenAIResponses().usage_of, {"response": {"usage": TOKENS, "service_tier": "priority"}}, "priority"),
    (anthropic_messages.AnthropicMessages().usage_of, {"usage": TOKENS | {"service_tier": "batch"}}, "batch"),
    (
        anthropic_messages.AnthropicMessages().usage_of,
        {"usage": TOKENS | {"service_tier": "standard", "speed": "fast"}},
        "fast",
    ),
    (anthropic_messages.AnthropicMessages().usage_of, {"usage": TOKENS | {"service_tier": 5, "speed": "standard"}}, None),
    (raw.usage_of, {"usage": CHAT, "service_tier": "priority"}, "priority"),
    (raw.usage_of, {"response": {"usage": TOKENS, "service_tier": "flex"}}, "flex"),
    (raw.usage_of, {"message": {"usage": TOKENS | {"service_tier": "batch"}}}, "batch"),
]


@pytest.mark.parametrize(("usage_of", "reply", "tier"), READ)
def test_the_usage_knows_the_tier_that_was_served(
    usage_of: Callable[[dict[str, Any]], Usage | None], reply: dict[str, Any], tier: str | None
) -> None:
    found = usage_of(reply)
    assert found is not None
    assert (found.meters["input"], found.tier) == (3, tier)


@pytest.mark.parametrize(
    ("decoder", "stream", "tier"),
    [
        (
            openai_responses.OpenAIResponses().decoder,
            b'data: {"type":"response.completed","response":'
            b'{"service_tier":"flex","usage":{"input_tokens":1,"output_tokens":2}}}\n\n',
            "flex",
        ),
        (
            anthropic_messages.AnthropicMessages().decoder,
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":1,"service_tier":"priority"}}}\n\n'
            b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n',
            "priority",
        ),
        (
            openai_chat.OpenAIChat().decoder,
            b'data: {"choices":[],"service_tier":"priority","usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
            "priority",
        ),
        (
            raw.StreamReader,
            b'data: {"service_tier":"priority","usage":{"input_tokens":1,"output_tokens":2}}\n\ndata: {"delta":"x"}\n\n',
            "priority",
        ),
    ],
)
def test_a_stream_tells_the_tier_too(decoder: Callable[[], Any], stream: bytes, tier: str) -> None:
    reading = decoder()
    reading.feed(stream)
    reading.flush()
    assert (reading.usage.output_tokens, reading.usage.tier) == (2, tier)


def test_a_translation_leaves_out_the_speed() -> None:
    assert carried_tier({"speed": "fast"}) is None
    assert carried_tier({"speed": "fast", "service_tier": "priority"}) == "priority"


def test_a_name_is_not_kept_at_any_length() -> None:
    assert reported_tier({"service_tier": "x" * 500}) == "x" * 40


@pytest.mark.parametrize("read", [read_messages, read_responses])
def test_conversations_ask_for_tiers_in_either_field(read: Callable[[dict[str, Any], int], Any]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    assert read(body, 9).tier is None
    assert (read({**body, "speed": "fast"}, 9).tier, read({**body, "service_tier": "flex"}, 9).tier) == ("fast", "flex")
    assert "service_tier" in read({**body, "service_tier": ["x"]}, 9).unbounded
