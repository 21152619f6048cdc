"""Chat completions: a client that asks, a provider that is asked."""

from __future__ import annotations

import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming, CompletionCreateParamsStreaming

from tests.support.said import Said
from tests.support.speakers.frames import DONE, data, events, pieces_of
from tests.support.speakers.scenario import IMAGE_TYPE, Call, Heard, Scenario, Turn
from tests.support.typed import problems
from tests.support.upstream import Received

Raw = dict[str, Any]
FINISH = {"stop": "stop", "stop_sequence": "stop", "length": "length", "tool_calls": "tool_calls", "refusal": "stop"}
HEAD = {"id": "chatcmpl-7", "created": 1_700_000_000, "model": "the-real-name"}
IMAGE_URL = f"data:{IMAGE_TYPE};base64,"


class Speaker:
    """See tests.support.speakers.Speaker."""

    def asked(self, scenario: Scenario) -> Scenario:
        return scenario

    # -- the client asks

    def request(self, scenario: Scenario, model: str, *, stream: bool) -> Raw:
        messages = [{"role": "system", "content": scenario.system}] if scenario.system else []
        body: Raw = {"model": model, "messages": messages, "max_completion_tokens": scenario.limit}
        for turn in scenario.turns:
            messages += _messages(turn)
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if scenario.tools:
            described = [
                {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in scenario.tools
            ]
            body["tools"] = [{"type": "function", "function": function} for function in described]
        if scenario.schema:
            wanted = {"name": "weather_report", "schema": scenario.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        if scenario.effort:
            body["reasoning_effort"] = scenario.effort
        if scenario.stop:
            body["stop"] = list(scenario.stop)
        return body

    # -- the provider hears

    def heard(self, request: Received, *, stream: bool) -> Heard:
        assert request.path == "/v1/chat/completions"
        body = request.json
        shape = CompletionCreateParamsStreaming if stream else CompletionCreateParamsNonStreaming
        assert problems(body, shape) == []
        if stream:
            assert body["stream_options"]["include_usage"] is True
        found, numbers = Heard(), dict[str, int]()
        for message in body["messages"]:
            _hear(message, found, numbers)
        found.tools = [
            (tool["function"]["name"], tool["function"]["description"], tool["function"]["parameters"])
            for tool in body.get("tools", ())
        ]
        if (wanted := body.get("response_format")) is not None:
            assert wanted["json_schema"]["strict"] is True
            found.schema = wanted["json_schema"]["schema"]
        found.thinks = body.get("reasoning_effort") == "high"
        stop = body.get("stop", [])
        found.stop = (stop,) if isinstance(stop, str) else tuple(stop)
        limits = {body[name] for name in ("max_tokens", "max_completion_tokens") if name in body}
        (found.limit,) = limits
        return found

    # -- the provider answers

    def told(self, finish: str) -> str:
        return "stop" if finish == "stop_sequence" else finish

    def reply(self, scenario: Scenario) -> Raw:
        answer = scenario.answer
        message: Raw = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal or None}
        if answer.thoughts:
            message["reasoning_content"] = answer.thoughts
        if answer.calls:
            message["tool_calls"] = [_call(call) for call in answer.calls]
        choice = {"index": 0, "message": message, "finish_reason": FINISH[answer.finish], "logprobs": None}
        return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": _usage(scenario)}

    def frames(self, scenario: Scenario) -> list[bytes]:
        answer = scenario.answer
        deltas: list[Raw] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in pieces_of(answer.thoughts)]
        deltas += [{"content": piece} for piece in pieces_of(answer.text)]
        deltas += [{"refusal": piece} for piece in pieces_of(answer.refusal)]
        for index, call in enumerate(answer.calls):
            start = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
            deltas.append({"tool_calls": [start]})
            deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in pieces_of(call.text)]
        chunks = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
        chunks.append(_chunk([{"index": 0, "delta": {}, "finish_reason": FINISH[answer.finish]}]))
        chunks.append(_chunk([], usage=_usage(scenario)))
        return [*map(data, chunks), data(DONE)]

    def error(self, message: str) -> Raw:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "its_own_code"}}

    def error_frame(self, message: str) -> bytes:
        return data({"error": {"message": message, "type": "server_error", "param": None, "code": "overloaded"}})

    # -- the client reads

    def read(self, body: Raw, model: str) -> Said:
        ChatCompletion.model_validate(body)
        assert (body["object"], body["model"], len(body["choices"])) == ("chat.completion", model, 1)
        (choice,) = body["choices"]
        message = choice["message"]
        assert message["role"] == "assistant"
        return Said(
            message["content"] or "",
            message.get("refusal") or "",
            message.get("reasoning_content") or "",
            [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()],
            _counted(body["usage"]),
            choice["finish_reason"],
        )

    def read_stream(self, stream: bytes, model: str) -> Said:
        chunks = [value for name, value in events(stream)]
        assert chunks.pop() == DONE
        usage = chunks.pop()
        assert usage["choices"] == []
        found = _read_chunks(chunks, model)
        assert found.finish is not None
        assert chunks[-1]["choices"][0]["finish_reason"] == found.finish
        found.usage = _counted(usage["usage"])
        return found

    def read_broken(self, stream: bytes, model: str) -> tuple[str, str]:
        chunks = [value for name, value in events(stream)]
        assert DONE not in chunks
        message = self.read_error(chunks.pop(), 502)
        found = _read_chunks(chunks, model) if chunks else Said()
        assert found.finish is None
        return found.text, message

    def read_error(self, body: Raw, status: int) -> str:
        assert set(body) == {"error"}
        error = body["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        return str(error["message"])

    def finish(self, finish: str) -> str:
        return FINISH[finish]


def _messages(turn: Turn) -> list[Raw]:
    if turn.who == "user":
        if not turn.images:
            return [{"role": "user", "content": turn.text}]
        shown = [{"type": "image_url", "image_url": {"url": IMAGE_URL + image}} for image in turn.images]
        return [{"role": "user", "content": [{"type": "text", "text": turn.text}, *shown]}]
    if turn.who == "tool":  # in any order
        return [{"role": "tool", "tool_call_id": call_id, "content": text} for call_id, text in reversed(turn.results)]
    message: Raw = {"role": "assistant", "content": turn.text or None}
    return [message | ({"tool_calls": [_call(call) for call in turn.calls]} if turn.calls else {})]


def _call(call: Call) -> Raw:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}


def _hear(message: Raw, found: Heard, numbers: dict[str, int]) -> None:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    if message["role"] in ("system", "developer"):
        assert not found.turns
        found.system += text
    elif message["role"] == "user":
        images = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        assert all(url.startswith(IMAGE_URL) for url in images)
        found.user(text, [(IMAGE_TYPE, url.removeprefix(IMAGE_URL)) for url in images])
    elif message["role"] == "assistant":
        for call in message.get("tool_calls", ()):
            assert call["id"] not in numbers
            numbers[call["id"]] = len(numbers)
        functions = [call["function"] for call in message.get("tool_calls", ())]
        found.assistant(text, [(function["name"], json.loads(function["arguments"])) for function in functions])
    else:
        assert message["role"] == "tool"
        found.result(numbers[message["tool_call_id"]], text)


def _chunk(choices: list[Raw], **more: Any) -> Raw:
    return {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}


def _usage(scenario: Scenario) -> Raw:
    answer = scenario.answer
    prompt = answer.input + answer.cached
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.output,
        "total_tokens": prompt + answer.output,
        "prompt_tokens_details": {"cached_tokens": answer.cached},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning},
    }


def _counted(usage: Raw) -> dict[str, int]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    return {
        "input": usage["prompt_tokens"] - cached,
        "cached_input": cached,
        "output": usage["completion_tokens"],
        "reasoning": usage["completion_tokens_details"]["reasoning_tokens"],
    }


def _read_chunks(chunks: list[Raw], model: str) -> Said:
    """Chunks of one answer: all of one reply, the role first, calls in their order, nothing after the reason of the end."""
    found, calls = Said(), list[list[str]]()
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
        assert (chunk["object"], chunk["model"]) == ("chat.completion.chunk", model)
        assert (chunk["id"], chunk["created"]) == (chunks[0]["id"], chunks[0]["created"])
        (choice,) = chunk["choices"]
        assert (choice["index"], found.finish) == (0, None)
        delta = choice["delta"]
        found.text += delta.get("content") or ""
        found.refusal += delta.get("refusal") or ""
        found.thoughts += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(calls):
                assert call["id"]
                assert call["type"] == "function"
                calls.append([call["function"]["name"], ""])
            calls[call["index"]][1] += call["function"].get("arguments", "")
        found.finish = choice["finish_reason"]
    found.calls = [(name, arguments) for name, arguments in calls]
    return found
