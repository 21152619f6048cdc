"""S3-19: any chat model behind /v1/messages and /v1/responses, with a tool's round trip through each pair of dialects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import pytest

from tests.support.gateway import User
from tests.support.upstream import Answer, Received, default_answer, json_reply, usage_of
from tests.support.world import World

TEXT = "Hello from the scripted upstream."
FOUND = "It is 42."
ARGUMENTS = {"a": 1, "b": 2}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
PROVIDERS = ("openai", "anthropic")


def server(request: Received) -> Answer:
    """Calls the tool that it is given, then says what it found; without a tool it says hello."""
    body = request.json
    if "tools" not in body:
        return default_answer(request)
    found = "42" in json.dumps(body["messages"])
    if request.path.endswith("/messages"):
        call = {"type": "tool_use", "id": "call_1", "name": "add", "input": ARGUMENTS}
        content = [{"type": "text", "text": FOUND}] if found else [call]
        return json_reply({"id": "m", "type": "message", "role": "assistant", "model": "c", "content": content,
                           "stop_reason": "end_turn" if found else "tool_use",
                           "usage": {"input_tokens": 10, "output_tokens": 5}})  # fmt: skip
    tool = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": json.dumps(ARGUMENTS)}}
    message = {"role": "assistant", "content": FOUND} if found else {"role": "assistant", "content": None, "tool_calls": [tool]}
    choice = {"index": 0, "message": message, "finish_reason": "stop" if found else "tool_calls"}
    return json_reply({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                       "usage": usage_of(10, 5)})  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A model whose provider speaks one API, and a user."""

    world: World
    protocol: str
    model: str
    user: User

    def check(self, calls: int) -> None:
        """So many calls went to the provider in its own dialect, and cost what its usage says."""
        upstream = self.world.claude if self.protocol == "anthropic" else self.world.openai
        path = "/v1/messages" if self.protocol == "anthropic" else "/v1/chat/completions"
        assert [request.path for request in upstream.requests] == [path] * calls
        records = self.world.home.usage("--user", self.user.name)
        assert {record["provider"] for record in records} == {self.model.replace("model", "host")}
        assert [record["estimated"] for record in records] == [False] * calls


@pytest.fixture(params=PROVIDERS)
def pair(request: pytest.FixtureRequest, world: World) -> Pair:
    upstream = world.claude if request.param == "anthropic" else world.openai
    upstream.always(server)
    model = world.name("model")
    slug = model.replace("model", "host")
    world.home.ok("providers", "add", slug, "--protocol", request.param, "--base-url", f"{upstream.url}/v1", "--no-auth")
    prices = ("--input-price", "3", "--output-price", "15")
    world.home.ok("models", "add", model, "--provider", slug, *prices, "--feature", "tools", "--feature", "streaming")
    return Pair(world, request.param, model, world.person())


def test_s3_19_messages_reach_every_model(pair: Pair) -> None:
    sdk = anthropic.Anthropic(base_url=pair.world.gateway.url, api_key=pair.user.key, max_retries=0)
    asked: Any = [{"role": "user", "content": "one two three"}]
    whole = sdk.messages.create(model=pair.model, max_tokens=50, messages=asked)
    assert (whole.content[0].to_dict()["text"], whole.model, whole.stop_reason) == (TEXT, pair.model, "end_turn")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 6)
    with sdk.messages.stream(model=pair.model, max_tokens=50, messages=asked) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 6

    tools: Any = [{"name": "add", "description": "Adds.", "input_schema": SCHEMA}]
    first = sdk.messages.create(model=pair.model, max_tokens=50, messages=asked, tools=tools)
    call: Any = first.content[0]
    assert (first.stop_reason, call.type, call.name, call.input) == ("tool_use", "tool_use", "add", ARGUMENTS)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "42"}
    again: Any = [*asked, {"role": "assistant", "content": [call.to_dict()]}, {"role": "user", "content": [result]}]
    second = sdk.messages.create(model=pair.model, max_tokens=50, messages=again, tools=tools)
    assert (second.content[0].to_dict()["text"], second.stop_reason) == (FOUND, "end_turn")
    pair.check(4)


def test_s3_19_responses_reach_every_model(pair: Pair) -> None:
    sdk = openai.OpenAI(base_url=f"{pair.world.gateway.url}/v1", api_key=pair.user.key, max_retries=0)
    whole = sdk.responses.create(model=pair.model, input="one two three")
    assert (whole.output_text, whole.model, whole.status) == (TEXT, pair.model, "completed")
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 6)
    events = list(sdk.responses.create(model=pair.model, input="one two three", stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"

    tools: Any = [{"type": "function", "name": "add", "description": "Adds.", "parameters": SCHEMA, "strict": False}]
    first = sdk.responses.create(model=pair.model, input="one two three", tools=tools)
    call: Any = next(item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("add", ARGUMENTS)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "42"}
    again: Any = [{"role": "user", "content": "one two three"}, call.to_dict(), result]
    assert sdk.responses.create(model=pair.model, input=again, tools=tools).output_text == FOUND
    pair.check(4)
