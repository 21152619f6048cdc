"""S5-11: a model of another company through OpenAI's SDK, which does not notice: whole, streamed, with tools, with an image."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import openai
import pytest

from tests.clients.other_hosts import messages_host
from tests.clients.persona import GREETING, INPUT_TOKENS, OUTPUT_TOKENS
from tests.support.gateway import User
from tests.support.world import World, data_lines

TEXT = "".join(GREETING)
PICTURE = "iVBORw0KGgo="
HI: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
TOOLS: Any = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}]
COST = (INPUT_TOKENS * Decimal(3) + OUTPUT_TOKENS * Decimal(15)) / 1_000_000


class Claude:
    """A model whose provider speaks the Messages API, and OpenAI's SDK in front of it."""

    def __init__(self, world: World) -> None:
        self.world, self.user = world, world.person()
        slug = world.name("anthropic-like")
        world.home.ok("providers", "add", slug, "--protocol", "anthropic", "--base-url", f"{world.claude.url}/v1", "--no-auth")
        self.model = world.model("--feature", "tools", "--streaming", provider=slug, price=("3", "15"))
        world.claude.always(messages_host)
        sdk = openai.OpenAI(base_url=f"{world.gateway.url}/v1", api_key=self.user.key, max_retries=0)
        self.create: Any = sdk.chat.completions.create

    def received(self) -> dict[str, Any]:
        """What the provider got last."""
        request = self.world.claude.requests[-1]
        assert (request.path, request.header("anthropic-version")) == ("/v1/messages", "2023-06-01")
        body: dict[str, Any] = request.json
        return body

    def check_bill(self, calls: int) -> None:
        """Each call is charged by what the provider reported."""
        records = self.world.home.usage("--user", self.user.name)
        assert len(records) == calls
        for record in records:
            meters = {meter: count for meter, count in record["usage"].items() if count}
            assert meters == {"input": INPUT_TOKENS, "output": OUTPUT_TOKENS}
            assert (Decimal(record["cost"]), record["estimated"]) == (COST, False)


@pytest.fixture
def claude(world: World) -> Claude:
    return Claude(world)


def test_s5_11_a_whole_reply(claude: Claude) -> None:
    reply = claude.create(model=claude.model, messages=HI, stop=["END"], temperature=0.5)
    choice = reply.choices[0]
    assert (reply.object, reply.model, choice.message.content, choice.finish_reason) == (
        "chat.completion", claude.model, TEXT, "stop",
    )  # fmt: skip
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    sent = claude.received()
    assert "Be brief." in json.dumps(sent["system"])
    assert [message["role"] for message in sent["messages"]] == ["user"]
    assert (sent["stop_sequences"], sent["temperature"]) == (["END"], 0.5)
    assert sent["max_tokens"] > 0  # which that API needs and the client did not say
    claude.check_bill(1)


def test_s5_11_a_stream_with_its_end(claude: Claude) -> None:
    chunks = list(claude.create(model=claude.model, messages=HI, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == TEXT
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert {chunk.model for chunk in chunks} == {claude.model}
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (INPUT_TOKENS, OUTPUT_TOKENS)
    body = {"model": claude.model, "messages": HI, "stream": True}
    raw = claude.world.gateway.post("/v1/chat/completions", claude.user.key, body).text
    assert data_lines(raw)[-1] == "[DONE]"
    claude.check_bill(2)


@pytest.mark.parametrize("stream", [False, True])
def test_s5_11_a_tool_and_its_result(claude: Claude, stream: bool) -> None:
    asked = {"model": claude.model, "tools": TOOLS}
    if stream:
        deltas = [chunk.choices[0].delta for chunk in claude.create(**asked, messages=HI, stream=True)]
        parts = [part for delta in deltas for part in delta.tool_calls or ()]
        identifier, name = parts[0].id, parts[0].function.name
        arguments = "".join(part.function.arguments or "" for part in parts)
    else:
        choice = claude.create(**asked, messages=HI).choices[0]
        assert choice.finish_reason == "tool_calls"
        [call] = choice.message.tool_calls
        identifier, name, arguments = call.id, call.function.name, call.function.arguments
    assert (name, json.loads(arguments)) == ("add", {"a": 1, "b": 2})
    assert claude.received()["tools"][0]["input_schema"]["properties"] == SCHEMA["properties"]

    made = {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}
    turn = [{"role": "assistant", "tool_calls": [made]}, {"role": "tool", "tool_call_id": identifier, "content": "3"}]
    reply = claude.create(**asked, messages=[*HI, *turn])
    assert reply.choices[0].message.content == "The tool said 3."
    [use] = [block for block in claude.received()["messages"][-2]["content"] if block["type"] == "tool_use"]
    [result] = [block for block in claude.received()["messages"][-1]["content"] if block["type"] == "tool_result"]
    assert use["id"] == result["tool_use_id"] == identifier
    claude.check_bill(2)


def test_s5_11_an_image(claude: Claude) -> None:
    claude.world.home.ok("models", "update", claude.model, "--media-tokens", "2000")
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    content = [{"type": "text", "text": "What is it?"}, image]
    reply = claude.create(model=claude.model, messages=[{"role": "user", "content": content}])
    assert reply.choices[0].message.content == TEXT
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    blocks = claude.received()["messages"][0]["content"]
    assert [block.get("source") for block in blocks if block["type"] == "image"] == [source]
    claude.check_bill(1)


def test_s5_11_who_pays(claude: Claude) -> None:
    poor: User = claude.world.person(balance=None)
    sdk = openai.OpenAI(base_url=f"{claude.world.gateway.url}/v1", api_key=poor.key, max_retries=0)
    with pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(model=claude.model, messages=HI)
    assert (caught.value.status_code, claude.world.claude.requests) == (402, [])
