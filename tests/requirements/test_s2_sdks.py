"""S2-23: the official OpenAI SDKs of Python and Node: lists, chats, streams, tools, JSON mode, and the right exceptions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.clients.openai_hosts import PICTURE, VECTOR, one_shot, responses_host
from tests.clients.persona import GREETING
from tests.support import node
from tests.support.gateway import CHAT, EMBEDDING, IMAGE, User
from tests.support.upstream import Answer, Received, chat_frames, closed_port_url, default_answer, json_reply, sse, usage_of
from tests.support.world import World

TEXT = "Hello from the scripted upstream."
ARGUMENTS = '{"a": 1, "b": 2}'
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
HI: Any = [{"role": "user", "content": "hi"}]


def completion(message: dict[str, Any], finish: str) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": CHAT, "choices": [choice], "usage": usage_of(9, 5)}
    return json_reply(body)


def answer(request: Received) -> Answer:
    """Calls the tool when there is one, speaks JSON when asked to, else says hello."""
    body = request.json
    if "tools" in body and body.get("stream"):
        frames: list[Any] = chat_frames([], usage_of(9, 5), finish_reason="tool_calls")
        parts = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}]
        parts += [{"index": 0, "function": {"arguments": text}} for text in (ARGUMENTS[:5], ARGUMENTS[5:])]
        calls = [dict(frames[0], choices=[{"index": 0, "delta": {"tool_calls": [part]}}]) for part in parts]
        return list(sse([frames[0], *calls, *frames[1:]]))
    if "tools" in body:
        call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": ARGUMENTS}}
        return completion({"content": None, "tool_calls": [call]}, "tool_calls")
    if "response_format" in body:
        return completion({"content": '{"answer": 42}'}, "stop")
    return default_answer(request)


@dataclass(frozen=True)
class Stage:
    """A world in which every failure can be had: a poor user, a model of a paused provider, one of a dead provider."""

    world: World
    poor: User
    paused: str
    dead: str


@pytest.fixture
def stage(world: World) -> Stage:
    world.openai.always(answer)
    slug = world.provider()
    paused = world.model(provider=slug)
    world.home.ok("providers", "pause", slug)
    dead = world.model(provider=world.provider(url=closed_port_url()))
    return Stage(world, world.person(balance=None), paused, dead)


# ------------------------------------------------------------------------------------------------ Python


def sdk_of(stage: Stage, key: str | None = None, **options: Any) -> openai.OpenAI:
    options = {"max_retries": 0, **options}
    return openai.OpenAI(base_url=f"{stage.world.gateway.url}/v1", api_key=key or stage.world.alice.key, **options)


def test_s2_23_python_lists_and_retrieves_models(stage: Stage) -> None:
    sdk = sdk_of(stage)
    assert {CHAT, f"OpenAI#{CHAT}"} <= {model.id for model in sdk.models.list()}
    assert sdk.models.retrieve(CHAT).id == CHAT
    assert sdk.models.retrieve(f"OpenAI#{CHAT}").id == f"OpenAI#{CHAT}"  # it encodes `#` itself


def test_s2_23_python_chats_and_streams(stage: Stage) -> None:
    sdk = sdk_of(stage)
    assert sdk.chat.completions.create(model=CHAT, messages=HI).choices[0].message.content == TEXT
    stream = sdk.chat.completions.create(model=CHAT, messages=HI, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT
    counted = sdk.chat.completions.create(model=CHAT, messages=HI, stream=True, stream_options={"include_usage": True})
    usages = [chunk.usage for chunk in counted if chunk.usage]
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in usages] == [(1, 6)]


def test_s2_23_python_calls_tools_and_speaks_json(stage: Stage) -> None:
    sdk = sdk_of(stage)
    choice = sdk.chat.completions.create(model=CHAT, messages=HI, tools=[TOOL]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls
    call: Any = choice.message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("add", ARGUMENTS)
    pieces = ""
    for chunk in sdk.chat.completions.create(model=CHAT, messages=HI, tools=[TOOL], stream=True):
        for delta in chunk.choices[0].delta.tool_calls or ():
            pieces += (delta.function and delta.function.arguments) or ""
    assert pieces == ARGUMENTS
    said = sdk.chat.completions.create(model=CHAT, messages=HI, response_format={"type": "json_object"})
    assert json.loads(said.choices[0].message.content or "") == {"answer": 42}


def test_s2_23_python_raises_the_right_exception(stage: Stage) -> None:
    rich, poor = stage.world.alice.key, stage.poor.key
    cases: list[tuple[type[openai.APIStatusError], int, str, str, dict[str, Any]]] = [
        (openai.BadRequestError, 400, "invalid_value", rich, {"temperature": 3}),
        (openai.AuthenticationError, 401, "invalid_api_key", "sk-gw-wrong", {}),
        (openai.APIStatusError, 402, "insufficient_balance", poor, {}),
        (openai.NotFoundError, 404, "model_not_found", rich, {"model": "nope"}),
        (openai.RateLimitError, 429, "provider_paused", rich, {"model": stage.paused}),
        (openai.InternalServerError, 502, "upstream_error", rich, {"model": stage.dead}),
    ]
    for kind, status, code, key, body in cases:
        for stream in (False, True):
            with pytest.raises(kind) as caught:
                sdk_of(stage, key).chat.completions.create(**{"model": CHAT, "messages": HI, "stream": stream, **body})
            error = caught.value
            assert (type(error), error.status_code, error.code) == (kind, status, code)
            assert error.request_id == error.response.headers["x-request-id"]
            assert isinstance(error.body, dict)
            assert str(error.body["message"]) in error.message


def test_s2_23_python_does_not_retry_what_a_retry_cannot_help(stage: Stage) -> None:
    with pytest.raises(openai.APIStatusError):
        sdk_of(stage, stage.poor.key, max_retries=2).chat.completions.create(model=CHAT, messages=HI)
    paying = stage.world.person()
    with pytest.raises(openai.RateLimitError):
        sdk_of(stage, paying.key, max_retries=2).chat.completions.create(model=stage.paused, messages=HI)
    for user in (stage.poor, paying):
        assert len(stage.world.home.usage("--user", user.name)) == 1


def test_s2_23_python_embeds_draws_and_asks_for_responses(stage: Stage) -> None:
    world = stage.world
    slug = world.provider("--chat-api", "both")
    model = world.model(provider=slug)
    world.openai.always(lambda request: (responses_host if request.path.endswith("/responses") else one_shot)(request))
    sdk = sdk_of(stage)
    embedded = sdk.embeddings.create(model=EMBEDDING, input=["one", "two"])  # as base64, and it decodes it
    assert [one.embedding for one in embedded.data] == [list(VECTOR)] * 2
    assert world.openai.requests[-1].json["encoding_format"] == "base64"
    drawn = sdk.images.generate(model=IMAGE, prompt="a cat", size="1024x1024", quality="low")
    assert drawn.data
    assert drawn.data[0].b64_json == PICTURE
    said = sdk.responses.create(model=model, input="hi")
    assert (said.output_text, said.model, said.status) == ("".join(GREETING), model, "completed")
    with sdk.responses.stream(model=model, input="hi") as stream:
        assert stream.get_final_response().output_text == "".join(GREETING)


# ------------------------------------------------------------------------------------------------ Node


def test_s2_23_node_does_the_same(stage: Stage) -> None:
    done = node.run(
        "sdk.mjs",
        {
            "BASE_URL": f"{stage.world.gateway.url}/v1",
            "API_KEY": stage.world.alice.key,
            "POOR_KEY": stage.poor.key,
            "MODEL": CHAT,
            "PAUSED_MODEL": stage.paused,
            "DEAD_MODEL": stage.dead,
        },
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert {CHAT, f"OpenAI#{CHAT}"} <= set(seen.pop("models"))
    assert seen == {
        "retrieved": CHAT,
        "retrieved_hash": f"OpenAI#{CHAT}",
        "text": TEXT,
        "streamed": TEXT,
        "usage": usage_of(1, 6),
        "tool": {"name": "add", "arguments": ARGUMENTS},
        "finish": "tool_calls",
        "streamed_arguments": ARGUMENTS,
        "json": {"answer": 42},
        "failures": [
            ["BadRequestError", 400, "invalid_value", True],
            ["AuthenticationError", 401, "invalid_api_key", True],
            ["APIError", 402, "insufficient_balance", True],
            ["NotFoundError", 404, "model_not_found", True],
            ["RateLimitError", 429, "provider_paused", True],
            ["InternalServerError", 502, "upstream_error", True],
        ],
    }
