"""S2: chat completions: authentication, parameters, replies, streams, tools, JSON mode (S2-01 … S2-07, S2-14)."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from daemon.api.billable import UNIFIED
from tests.support.gateway import ALIAS, CHAT, ask
from tests.support.upstream import Until, chat_frames, chat_reply, chunk, head, json_reply, sse, usage_of
from tests.support.world import World, data_lines, error_of

PORTFOLIO_TOOL = {
    "type": "function",
    "function": {
        "name": "get_portfolio",
        "description": "Get user's crypto portfolio",
        "parameters": {
            "type": "object",
            "properties": {"wallet_address": {"type": "string"}},
            "required": ["wallet_address"],
        },
    },
}
PORTFOLIO_CALL = {
    "id": "call_abc123",
    "type": "function",
    "function": {"name": "get_portfolio", "arguments": '{"wallet_address": "0x123..."}'},
}


# ------------------------------------------------------------------------------------------------ S2-01


@pytest.mark.parametrize("path", sorted(UNIFIED))
def test_s2_01_every_unified_route_needs_a_key(world: World, path: str) -> None:
    error_of(world.gateway.post(path, None, ask()), 401, "missing_api_key")
    error_of(world.gateway.post(path, None, b"not even json"), 401, "missing_api_key")


@pytest.mark.parametrize("path", ["/v1/key", "/v1/credits", "/v1/usage"])
def test_s2_01_self_service_needs_a_key(world: World, path: str) -> None:
    error_of(world.gateway.get(path), 401, "missing_api_key")
    assert world.gateway.get(path, world.alice.key).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{CHAT}", "/v1/provider", "/health", "/api/status"])
def test_s2_01_public_routes_need_none(world: World, path: str) -> None:
    assert world.gateway.get(path).status_code == 200


# ------------------------------------------------------------------------------------------------ S2-02


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ask().items() if key != name}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (without("model"), "model", "missing_required_parameter"),
        (without("messages"), "messages", "missing_required_parameter"),
        (ask() | {"messages": []}, "messages", "missing_required_parameter"),
        (ask(temperature=2.5), "temperature", "invalid_value"),
        (ask(temperature=-0.1), "temperature", "invalid_value"),
        (ask(temperature="1"), "temperature", "invalid_value"),
        (ask(top_p=1.5), "top_p", "invalid_value"),
        (ask(max_tokens=0), "max_tokens", "invalid_value"),
        (ask(max_tokens=True), "max_tokens", "invalid_value"),
        (ask(max_tokens="10"), "max_tokens", "invalid_value"),
        (ask(stream="yes"), "stream", "invalid_value"),
        (ask(stop=7), "stop", "invalid_value"),
        (ask(tools={}), "tools", "invalid_value"),
        (ask(tool_choice=1), "tool_choice", "invalid_value"),
        (ask(response_format="json"), "response_format", "invalid_value"),
        (ask() | {"messages": "hi"}, "messages", "invalid_value"),
    ],
)
def test_s2_02_a_bad_parameter_is_400_and_named(world: World, body: dict[str, Any], param: str, code: str) -> None:
    error = error_of(world.gateway.post("/v1/chat/completions", world.alice.key, body), 400, code)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]
    assert world.openai.requests == []


def test_s2_02_everything_else_reaches_the_provider_as_sent(world: World) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.3,
        "top_p": 0.5,
        "max_completion_tokens": 77,
        "seed": 7,
        "logprobs": True,
        "reasoning_effort": "low",
        "foo": 1,
        "metadata": {"a": "b"},
    }
    for stop in ("a", ["a"], ["a", "b"]):
        body = ask(stop=stop, **fields)
        assert world.gateway.post("/v1/chat/completions", world.alice.key, body).status_code == 200
        assert world.openai.requests[-1].json == body


def test_s2_02_on_a_providers_own_route_only_json_and_model_are_checked(world: World) -> None:
    world.openai.script(chat_reply("fine", usage_of(1, 1)))
    odd = ask(temperature=9, top_p="x", stop=7, tool_choice=1) | {"messages": "as they like"}
    assert world.gateway.post("/v1/openai/chat/completions", world.alice.key, odd).status_code == 200
    assert world.openai.requests[0].json == odd


# ------------------------------------------------------------------------------------------------ S2-03


def test_s2_03_messages_reach_the_provider_identical(world: World) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": "Also kind.", "name": "house"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it? ☃ \u0000"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [PORTFOLIO_CALL]},
        {"role": "tool", "tool_call_id": "call_abc123", "content": "42"},
    ]
    reply = world.gateway.post("/v1/chat/completions", world.alice.key, {"model": CHAT, "messages": messages})
    assert reply.status_code == 200, reply.text
    assert world.openai.requests[0].json["messages"] == messages


def test_s2_03_an_unknown_role_is_400(world: World) -> None:
    body = {"model": CHAT, "messages": [{"role": "wizard", "content": "abracadabra"}]}
    error = error_of(world.gateway.post("/v1/chat/completions", world.alice.key, body), 400, "invalid_value")
    assert error["param"] == "messages[0].role"


# ------------------------------------------------------------------------------------------------ S2-04


def test_s2_04_the_reply_names_the_alias_and_has_usage(world: World) -> None:
    world.openai.script(chat_reply("The current price …", usage_of(25, 50), model="gpt-4o-mini-2024-07-18"))
    body = world.gateway.chat(world.alice.key, model=ALIAS).json()
    assert world.openai.requests[0].json["model"] == CHAT
    assert body["model"] == ALIAS
    assert {"id", "object", "created", "model", "choices", "usage"} <= set(body)
    assert body["object"] == "chat.completion"
    assert body["usage"] == {"prompt_tokens": 25, "completion_tokens": 50, "total_tokens": 75}


def test_s2_04_usage_is_there_though_the_provider_gave_none(world: World) -> None:
    world.openai.script(chat_reply("some words that were counted", None))
    assert world.gateway.chat(world.alice.key).json()["usage"]["completion_tokens"] > 0


# ------------------------------------------------------------------------------------------------ S2-05


def test_s2_05_the_first_chunk_does_not_wait_for_the_rest(world: World) -> None:
    rest = threading.Event()
    first, *others = [frame if isinstance(frame, dict) else {} for frame in chat_frames(["Hello", "!"], done=False)]
    start = head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
    tail = b"".join(f"data: {json.dumps(frame)}\n\n".encode() for frame in others) + b"data: [DONE]\n\n"
    world.openai.script([start + chunk(f"data: {json.dumps(first)}\n\n".encode()), Until(rest), chunk(tail) + chunk(b"")])
    began = time.monotonic()
    headers = world.gateway.headers(world.alice.key)
    with world.gateway.client.stream("POST", "/v1/chat/completions", json=ask(stream=True), headers=headers) as reply:
        pieces = reply.iter_text()
        opening = next(pieces)
        assert time.monotonic() - began < 1.0
        assert not rest.is_set()  # the provider still waits
        rest.set()
        text = opening + "".join(pieces)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    lines = data_lines(text)
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello!"


# ------------------------------------------------------------------------------------------------ S2-06


def test_s2_06_the_body_decides_about_streaming_not_accept(world: World) -> None:
    streamed = world.gateway.chat(world.alice.key, stream=True, path="/v1/chat/completions")
    assert streamed.headers["content-type"].startswith("text/event-stream")
    asked_json = world.gateway.post(
        "/v1/chat/completions", world.alice.key, ask(stream=True), headers={"Accept": "application/json"}
    )
    assert asked_json.headers["content-type"].startswith("text/event-stream")
    for body in (ask(), ask(stream=False)):
        plain = world.gateway.post("/v1/chat/completions", world.alice.key, body, headers={"Accept": "text/event-stream"})
        assert plain.headers["content-type"].startswith("application/json")
        assert plain.json()["object"] == "chat.completion"


# ------------------------------------------------------------------------------------------------ S2-07


def tool_reply() -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": [PORTFOLIO_CALL]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": CHAT,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": usage_of(20, 11),
    }


def test_s2_07_a_tool_call_comes_back_untouched_and_the_second_turn_is_taken(world: World) -> None:
    world.openai.script(json_reply(tool_reply()))
    question = {"role": "user", "content": "Get my portfolio for 0x123..."}
    body = {"model": CHAT, "messages": [question], "tools": [PORTFOLIO_TOOL], "tool_choice": "auto"}
    reply = world.gateway.post("/v1/chat/completions", world.alice.key, body)
    assert reply.json() == tool_reply()
    assert world.openai.requests[0].json == body
    answer = {"role": "tool", "tool_call_id": "call_abc123", "content": '{"eth": 1}'}
    body["messages"] = [question, reply.json()["choices"][0]["message"], answer]
    second = world.gateway.post("/v1/chat/completions", world.alice.key, body)
    assert second.status_code == 200
    assert world.openai.requests[1].json == body


def test_s2_07_streamed_arguments_arrive_as_they_were_cut(world: World) -> None:
    pieces = ['{"wal', 'let_address": "0', 'x123..."}', ""]
    calls = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    calls[0] = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_portfolio", "arguments": pieces[0]}}
    frames: list[Any] = [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": CHAT,
         "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}
        for call in calls
    ]  # fmt: skip
    end = dict(frames[0], choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    world.openai.script(list(sse([*frames, end, "[DONE]"], split=5)))
    body = ask(stream=True) | {"tools": [PORTFOLIO_TOOL]}
    reply = world.gateway.post("/v1/chat/completions", world.alice.key, body)
    assert [json.loads(line) for line in data_lines(reply.text)[:-1]] == [*frames, end]


# ------------------------------------------------------------------------------------------------ S2-14


def test_s2_14_json_mode_reaches_the_provider_or_is_refused(world: World) -> None:
    wanted = {"type": "json_object"}
    assert world.gateway.chat(world.alice.key, response_format=wanted).status_code == 200
    assert world.openai.requests[0].json["response_format"] == wanted
    schema = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}}}
    assert world.gateway.chat(world.alice.key, response_format=schema).status_code == 200
    assert world.openai.requests[1].json["response_format"] == schema

    plain = world.model("--feature", "streaming")
    for shape in (wanted, schema):
        error = error_of(world.gateway.chat(world.alice.key, model=plain, response_format=shape), 400, "unsupported_parameter")
        assert error["param"] == "response_format"
    json_only = world.model("--feature", "json_mode")
    assert world.gateway.chat(world.alice.key, model=json_only, response_format=wanted).status_code == 200
    error_of(world.gateway.chat(world.alice.key, model=json_only, response_format=schema), 400, "unsupported_parameter")
    assert len(world.openai.requests) == 3
