"""The Messages API: a client that asks, a provider that is asked."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming

from tests.support.said import Said
from tests.support.speakers.frames import events, named, pieces_of
from tests.support.speakers.scenario import IMAGE_TYPE, Heard, Scenario, Turn
from tests.support.typed import by_type, problems
from tests.support.upstream import Received

Raw = dict[str, Any]
STOP = {
    "stop": "end_turn", "stop_sequence": "stop_sequence", "length": "max_tokens", "tool_calls": "tool_use",
    "refusal": "refusal",
}  # fmt: skip
SIGNATURE = "c2lnbmVk"
EVENTS = by_type(RawMessageStreamEvent)
# kind of a block -> the deltas that it may have
DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "redacted_thinking": set(),
}


class Speaker:
    """See tests.support.speakers.Speaker."""

    def asked(self, scenario: Scenario) -> Scenario:
        return scenario

    # -- the client asks

    def request(self, scenario: Scenario, model: str, *, stream: bool) -> Raw:
        body: Raw = {"model": model, "messages": _turns(scenario.turns), "max_tokens": scenario.limit}
        if scenario.system:
            body["system"] = [{"type": "text", "text": scenario.system}]
        if stream:
            body["stream"] = True
        if scenario.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in scenario.tools
            ]
        if scenario.schema:
            body["output_config"] = {"format": {"type": "json_schema", "schema": scenario.schema}}
        if scenario.effort:
            body["thinking"] = {"type": "adaptive"}
            body["output_config"] = {"effort": scenario.effort}
        if scenario.stop:
            body["stop_sequences"] = list(scenario.stop)
        return body

    # -- the provider hears

    def heard(self, request: Received, *, stream: bool) -> Heard:
        assert request.path == "/v1/messages"
        assert request.header("anthropic-version") == "2023-06-01"
        body = request.json
        assert problems(body, MessageCreateParamsStreaming if stream else MessageCreateParamsNonStreaming) == []
        system = body.get("system", "")
        found, numbers = Heard(), dict[str, int]()
        found.system = system if isinstance(system, str) else "".join(block["text"] for block in system)
        roles = [message["role"] for message in body["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        for message in body["messages"]:
            _hear(message, found, numbers)
        found.tools = [(tool["name"], tool["description"], tool["input_schema"]) for tool in body.get("tools", ())]
        config = body.get("output_config", {})
        if "format" in config:
            found.schema = config["format"]["schema"]
        thinking = body.get("thinking", {"type": "disabled"})
        found.thinks = (thinking["type"], config.get("effort")) == ("adaptive", "high")
        found.stop = tuple(body.get("stop_sequences", ()))
        found.limit = body["max_tokens"]
        return found

    # -- the provider answers

    def told(self, finish: str) -> str:
        return finish

    def reply(self, scenario: Scenario) -> Raw:
        answer = scenario.answer
        return {
            "id": "msg_7", "type": "message", "role": "assistant", "model": "the-real-name", "content": _blocks(scenario),
            "stop_reason": STOP[answer.finish], "stop_sequence": "three" if answer.finish == "stop_sequence" else None,
            "usage": _usage(scenario, answer.output),
        }  # fmt: skip

    def frames(self, scenario: Scenario) -> list[bytes]:
        whole = self.reply(scenario)
        start = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(scenario, 1)}
        found: list[Raw] = [{"type": "message_start", "message": start}, {"type": "ping"}]
        for index, block in enumerate(whole["content"]):
            found.append({"type": "content_block_start", "index": index, "content_block": _begun(block)})
            found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in _deltas(block)]
            found.append({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
        found += [{"type": "message_delta", "delta": delta, "usage": whole["usage"]}, {"type": "message_stop"}]
        return [named(event) for event in found]

    def error(self, message: str) -> Raw:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_7"}

    def error_frame(self, message: str) -> bytes:
        return named({"type": "error", "error": {"type": "overloaded_error", "message": message}})

    # -- the client reads

    def read(self, body: Raw, model: str) -> Said:
        Message.model_validate(body)
        assert (body["type"], body["role"], body["model"]) == ("message", "assistant", model)
        found = Said(finish=body["stop_reason"], usage=_counted(body["usage"]))
        for block in body["content"]:
            assert block["type"] in DELTAS
            if block["type"] == "text":
                found.text += block["text"]
            elif block["type"] == "thinking":
                assert isinstance(block["signature"], str)
                found.thoughts += block["thinking"]
            elif block["type"] == "tool_use":
                assert block["id"]
                found.calls.append((block["name"], json.dumps(block["input"])))
        return found

    def read_stream(self, stream: bytes, model: str) -> Said:
        message, types = _read_events(stream)
        assert types[-2:] == ["message_delta", "message_stop"]
        assert types.count("message_delta") == 1
        return self.read(message, model)

    def read_broken(self, stream: bytes, model: str) -> tuple[str, str]:
        *before, last = _split(stream)
        message, types = _read_events(b"".join(before)) if before else ({"model": model, "content": []}, [])
        assert message["model"] == model
        assert "message_stop" not in types
        ((name, error),) = events(last)
        assert name == "error"
        words = self.read_error(error, 502)
        return "".join(block.get("text", "") for block in message["content"]), words

    def read_error(self, body: Raw, status: int) -> str:
        assert body["type"] == "error"
        assert body["error"]["type"].endswith("_error")
        return str(body["error"]["message"])

    def finish(self, finish: str) -> str:
        return STOP[finish]


def _turns(turns: tuple[Turn, ...]) -> list[Raw]:
    found: list[Raw] = []
    for turn in turns:
        role, content = ("assistant" if turn.who == "assistant" else "user"), _content(turn)
        if found and found[-1]["role"] == role:
            found[-1]["content"] += content
        else:
            found.append({"role": role, "content": content})
    return found


def _content(turn: Turn) -> list[Raw]:
    content: list[Raw] = [
        {"type": "tool_result", "tool_use_id": call_id, "content": text} for call_id, text in reversed(turn.results)
    ]
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    content += [
        {"type": "image", "source": {"type": "base64", "media_type": IMAGE_TYPE, "data": image}} for image in turn.images
    ]
    content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in turn.calls]
    return content


def _hear(message: Raw, found: Heard, numbers: dict[str, int]) -> None:
    content = message["content"]
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if block["type"] == "text":
            assert block["text"].strip()
            (found.user if message["role"] == "user" else found.assistant)(block["text"])
        elif block["type"] == "image":
            assert block["source"]["type"] == "base64"
            found.user("", [(block["source"]["media_type"], block["source"]["data"])])
        elif block["type"] == "tool_use":
            assert block["id"] not in numbers
            numbers[block["id"]] = len(numbers)
            found.assistant("", [(block["name"], block["input"])])
        else:
            assert block["type"] == "tool_result"
            inner = block["content"]
            text = inner if isinstance(inner, str) else "".join(part["text"] for part in inner)
            found.result(numbers[block["tool_use_id"]], text)


def _blocks(scenario: Scenario) -> list[Raw]:
    answer = scenario.answer
    blocks: list[Raw] = []
    if answer.thoughts:
        blocks.append({"type": "thinking", "thinking": answer.thoughts, "signature": SIGNATURE})
    if answer.text or answer.refusal:
        blocks.append({"type": "text", "text": answer.text + answer.refusal, "citations": None})
    return blocks + [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in answer.calls]


def _begun(block: Raw) -> Raw:
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    return {**block, **empty[block["type"]]}


def _deltas(block: Raw) -> list[Raw]:
    if block["type"] == "text":
        return [{"type": "text_delta", "text": piece} for piece in pieces_of(block["text"])]
    if block["type"] == "thinking":
        thought = [{"type": "thinking_delta", "thinking": piece} for piece in pieces_of(block["thinking"])]
        return [*thought, {"type": "signature_delta", "signature": block["signature"]}]
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces_of(json.dumps(block["input"]))]]


def _usage(scenario: Scenario, output: int) -> Raw:
    answer = scenario.answer
    return {
        "input_tokens": answer.input, "cache_read_input_tokens": answer.cached, "cache_creation_input_tokens": 0,
        "output_tokens": output, "output_tokens_details": {"thinking_tokens": min(answer.reasoning, output)},
    }  # fmt: skip


def _counted(usage: Raw) -> dict[str, int]:
    assert usage["cache_creation_input_tokens"] == 0
    return {
        "input": usage["input_tokens"],
        "cached_input": usage["cache_read_input_tokens"],
        "output": usage["output_tokens"],
        "reasoning": usage["output_tokens_details"]["thinking_tokens"],
    }


def _split(stream: bytes) -> list[bytes]:
    assert stream.endswith(b"\n\n")
    return [block + b"\n\n" for block in stream.removesuffix(b"\n\n").split(b"\n\n")]


def _read_events(stream: bytes) -> tuple[Raw, list[str]]:
    """The message that the events make, and their types: blocks one after the other, each with deltas of its own kind."""
    types: list[str] = []
    message: Raw = {}
    open_block = -1
    for name, event in events(stream):
        assert name == event["type"]
        if name == "ping":
            continue
        EVENTS[event["type"]].model_validate(event)
        types.append(event["type"])
        if name == "message_start":
            assert message == {}
            message = event["message"]
            assert message["content"] == []
            continue
        content = message["content"]
        if name == "content_block_start":
            assert (open_block, event["index"]) == (-1, len(content))
            open_block = event["index"]
            content.append({**event["content_block"], "sent": ""})
        elif name == "content_block_delta":
            assert event["index"] == open_block
            _apply(content[open_block], event["delta"])
        elif name == "content_block_stop":
            assert event["index"] == open_block
            block, open_block = content[open_block], -1
            if block["type"] == "tool_use":
                block["input"] = json.loads(block.pop("sent") or "{}")
        elif name == "message_delta":
            assert open_block == -1
            message |= event["delta"]
            message["usage"] |= event["usage"]
    return message, types


def _apply(block: Raw, delta: Raw) -> None:
    assert delta["type"] in DELTAS[block["type"]]
    for name in ("text", "thinking", "signature"):
        if name in delta:
            block[name] += delta[name]
    block["sent"] += delta.get("partial_json", "")
