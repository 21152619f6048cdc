"""What a request could hide from its price: parameters that leave the usage out of a reply, prompts in unusual places."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.crossing import CHAT, GEMINI, MESSAGES, RESPONSES, Crossing, path_of
from tests.support.upstream import chat_reply, json_reply, usage_of

ASK: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
REPLY: dict[str, Any] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
}
LONG = "word " * 20_000
# A prompt that costs more than the balance of POOR, where nobody looks for one.
POOR = "0.01"
HIDDEN: list[tuple[str, dict[str, Any]]] = [
    (RESPONSES, {"input": LONG, "max_output_tokens": 16, "parallel_tool_calls": "which no other API can carry"}),
    (RESPONSES, {"input": [{"type": "of_tomorrow", "text": LONG}], "max_output_tokens": 16}),
    (
        CHAT,
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hm", "reasoning_content": LONG},
            ],
            "max_tokens": 16,
        },
    ),
    (
        MESSAGES,
        {
            "messages": [
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": LONG, "signature": "x"}]},
            ],
            "max_tokens": 16,
        },
    ),
    (GEMINI, {"contents": [{"parts": [{"ofTomorrow": LONG}]}], "generationConfig": {"maxOutputTokens": 16}}),
]


@pytest.mark.parametrize("query", ["fields=candidates", "%24fields=candidates", "alt=proto", "$alt=proto", "callback=x"])
@pytest.mark.parametrize("prefix", ["", "/v1/gemini-host"])
def test_nothing_asks_google_for_a_reply_without_usage(crossing: Crossing, query: str, prefix: str) -> None:
    side = crossing.sides[GEMINI]
    side.upstream.always(json_reply(REPLY))
    path = f"{prefix}/v1beta/models/{side.model}:generateContent?{query}"
    assert crossing.post(path, ASK, headers={"Accept": "application/x-protobuf"}).status_code == 200
    came = side.upstream.requests[-1]
    assert (came.query, came.header("accept")) == ("", None)


@pytest.mark.parametrize(("query", "sent"), [("alt=sse&fields=x", "alt=sse"), ("$alt=sse", ""), ("", "")])
def test_a_stream_comes_as_it_was_asked_for(crossing: Crossing, query: str, sent: str) -> None:
    side = crossing.sides[GEMINI]
    side.upstream.always(json_reply([REPLY]))
    crossing.post(f"/v1beta/models/{side.model}:streamGenerateContent?{query}", ASK)
    assert side.upstream.requests[-1].query == sent


def test_google_reads_its_parameters_behind_openais_api_too(crossing: Crossing) -> None:
    side = crossing.sides[CHAT]
    side.upstream.always(chat_reply("hello", usage_of(1, 1)))
    body = {"model": side.model, "messages": [{"role": "user", "content": "hi"}]}
    crossing.post("/v1/chat/completions?fields=choices&%24callback=x&beta=true", body)
    assert side.upstream.requests[-1].query == "beta=true"


@pytest.mark.parametrize(("dialect", "body"), HIDDEN)
def test_a_prompt_is_held_for_wherever_it_stands(crossing: Crossing, dialect: str, body: dict[str, Any]) -> None:
    side = crossing.sides[dialect]
    poor = crossing.home.user(crossing.new_id(), "--group", "all", balance=POOR)
    before = len(side.upstream.requests)
    reply = crossing.gateway.post(path_of(dialect, side.model), poor.key, {**body, "model": side.model})
    assert reply.status_code == 402, reply.text
    assert len(side.upstream.requests) == before


@pytest.mark.parametrize(
    "item", [{"id": "msg_1"}, {"type": None, "id": "rs_1"}, {"type": "image_generation_call", "id": "ig_1"}]
)
def test_stored_items_are_known_without_their_type(crossing: Crossing, item: dict[str, Any]) -> None:
    side = crossing.sides[RESPONSES]
    reply = crossing.post("/v1/responses", {"model": side.model, "input": [item], "max_output_tokens": 16})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "previous_response_id")


def test_a_screenshot_by_its_url_is_held_for_as_an_image(crossing: Crossing) -> None:
    side = crossing.sides[RESPONSES]
    poor = crossing.home.user(crossing.new_id(), "--group", "all", balance="0.005")
    shot = {"type": "computer_screenshot", "image_url": "https://images.example/a.png"}
    item = {"type": "computer_call_output", "call_id": "c", "output": shot}
    body = {"model": side.model, "input": [item], "max_output_tokens": 16}
    assert crossing.gateway.post("/v1/responses", poor.key, body).status_code == 402
