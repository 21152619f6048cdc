"""The Responses API: a client that asks, a provider that is asked."""

from __future__ import annotations

import json
from typing import Any

from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming, ResponseCreateParamsStreaming

from tests.support.said import Said
from tests.support.speakers.frames import events, named, pieces_of
from tests.support.speakers.scenario import IMAGE_TYPE, Answer, Call, Heard, Scenario, Turn, without_stop
from tests.support.typed import by_type, problems
from tests.support.upstream import Received

Raw = dict[str, Any]
FINISH = {
    "stop": "completed", "stop_sequence": "completed", "length": "max_output_tokens", "tool_calls": "completed",
    "refusal": "completed",
}  # fmt: skip
IMAGE_URL = f"data:{IMAGE_TYPE};base64,"
EVENTS = by_type(ResponseStreamEvent)
# event that adds to an item -> the event that ends it, and the field of that which repeats the whole
DELTAS = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.refusal.delta": ("response.refusal.done", "refusal"),
    "response.reasoning_summary_text.delta": ("response.reasoning_summary_text.done", "text"),
    "response.function_call_arguments.delta": ("response.function_call_arguments.done", "arguments"),
}
ENDS = ("response.completed", "response.incomplete", "response.failed")


class Speaker:
    """See tests.support.speakers.Speaker."""

    def asked(self, scenario: Scenario) -> Scenario:
        return without_stop(scenario)

    # -- the client asks

    def request(self, scenario: Scenario, model: str, *, stream: bool) -> Raw:
        body: Raw = {"model": model, "input": [], "max_output_tokens": scenario.limit, "store": False}
        for turn in scenario.turns:
            body["input"] += _items(turn)
        if scenario.system:
            body["instructions"] = scenario.system
        if stream:
            body["stream"] = True
        if scenario.tools:
            body["tools"] = [
                {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters,
                 "strict": False}
                for tool in scenario.tools
            ]  # fmt: skip
        if scenario.schema:
            wanted = {"type": "json_schema", "name": "weather_report", "schema": scenario.schema, "strict": True}
            body["text"] = {"format": wanted}
        if scenario.effort:
            body["reasoning"] = {"effort": scenario.effort, "summary": "auto"}
        return body

    # -- the provider hears

    def heard(self, request: Received, *, stream: bool) -> Heard:
        assert request.path == "/v1/responses"
        body = request.json
        shape = ResponseCreateParamsStreaming if stream else ResponseCreateParamsNonStreaming
        assert problems(body, shape) == []
        assert body["store"] is False
        found, numbers = Heard(system=body.get("instructions", "")), dict[str, int]()
        items = [{"role": "user", "content": body["input"]}] if isinstance(body["input"], str) else body["input"]
        for item in items:
            _hear(item, found, numbers)
        found.tools = [(tool["name"], tool["description"], tool["parameters"]) for tool in body.get("tools", ())]
        if (wanted := body.get("text", {}).get("format")) is not None:
            assert wanted["strict"] is True
            found.schema = wanted["schema"]
        found.thinks = body.get("reasoning", {}).get("effort") == "high"
        found.limit = body["max_output_tokens"]
        return found

    # -- the provider answers

    def told(self, finish: str) -> str:
        return finish

    def reply(self, scenario: Scenario) -> Raw:
        return _response(scenario, [done for _, done in _output(scenario.answer)], _status(scenario.answer))

    def frames(self, scenario: Scenario) -> list[bytes]:
        found = [
            {"type": "response.created", "response": _response(scenario, [], "in_progress")},
            {"type": "response.in_progress", "response": _response(scenario, [], "in_progress")},
        ]
        for index, (begun, done) in enumerate(_output(scenario.answer)):
            found.append({"type": "response.output_item.added", "output_index": index, "item": begun})
            found += [{"output_index": index, "item_id": done["id"], **event} for event in _inside(done)]
            found.append({"type": "response.output_item.done", "output_index": index, "item": done})
        whole = self.reply(scenario)
        found.append({"type": f"response.{whole['status']}", "response": whole})
        return [named({**event, "sequence_number": number}) for number, event in enumerate(found)]

    def error(self, message: str) -> Raw:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "its_own_code"}}

    def error_frame(self, message: str) -> bytes:
        event = {"type": "error", "code": "overloaded", "message": message, "param": None, "sequence_number": 99}
        return named(event)

    # -- the client reads

    def read(self, body: Raw, model: str) -> Said:
        Response.model_validate(body)
        assert (body["object"], body["model"]) == ("response", model)
        assert body["status"] in ("completed", "incomplete")
        assert (body["incomplete_details"] is None, body["error"]) == (body["status"] == "completed", None)
        found = Said(finish=(body["incomplete_details"] or {"reason": "completed"})["reason"], usage=_counted(body["usage"]))
        ids = [item["id"] for item in body["output"]]
        assert len(set(ids)) == len(ids)
        for item in body["output"]:
            assert item["type"] in ("message", "reasoning", "function_call")
            if item["type"] == "message":
                found.text += "".join(part["text"] for part in item["content"] if part["type"] == "output_text")
                found.refusal += "".join(part["refusal"] for part in item["content"] if part["type"] == "refusal")
            elif item["type"] == "reasoning":
                found.thoughts += "".join(part["text"] for part in item["summary"])
            else:
                assert item["call_id"]
                found.calls.append((item["name"], item["arguments"]))
        return found

    def read_stream(self, stream: bytes, model: str) -> Said:
        seen = _read_events(stream)
        last = seen[-1]
        assert last["type"] in ("response.completed", "response.incomplete")
        assert last["type"] == f"response.{last['response']['status']}"
        done = [event["item"] for event in seen if event["type"] == "response.output_item.done"]
        assert last["response"]["output"] == done
        found = self.read(last["response"], model)
        assert _text_of(seen) == found.text
        return found

    def read_broken(self, stream: bytes, model: str) -> tuple[str, str]:
        seen = _read_events(stream)
        error = seen[-1]
        if error["type"] == "error":
            message = error["message"]
        else:
            assert error["type"] == "response.failed"
            message = error["response"]["error"]["message"]
        assert not any(event["type"] in ("response.completed", "response.incomplete") for event in seen)
        return _text_of(seen), message

    def read_error(self, body: Raw, status: int) -> str:
        assert set(body) == {"error"}
        assert {"message", "type", "param", "code"} <= set(body["error"])
        return str(body["error"]["message"])

    def finish(self, finish: str) -> str:
        return FINISH[finish]


def _items(turn: Turn) -> list[Raw]:
    if turn.who == "user":
        shown = [{"type": "input_image", "image_url": IMAGE_URL + image, "detail": "auto"} for image in turn.images]
        return [{"role": "user", "content": [{"type": "input_text", "text": turn.text}, *shown]}]
    if turn.who == "tool":  # in any order
        return [
            {"type": "function_call_output", "call_id": call_id, "output": text} for call_id, text in reversed(turn.results)
        ]
    said = [{"role": "assistant", "content": turn.text}] if turn.text else []
    calls = [{"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.text} for call in turn.calls]
    return [*said, *calls]


def _hear(item: Raw, found: Heard, numbers: dict[str, int]) -> None:
    kind = item.get("type", "message")
    if kind == "function_call":
        assert item["call_id"] not in numbers
        numbers[item["call_id"]] = len(numbers)
        found.assistant("", [(item["name"], json.loads(item["arguments"]))])
        return
    if kind == "function_call_output":
        output = item["output"]
        text = output if isinstance(output, str) else "".join(part["text"] for part in output)
        found.result(numbers[item["call_id"]], text)
        return
    assert kind == "message"
    content = item["content"]
    parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
    text = "".join(part["text"] for part in parts if part["type"] in ("input_text", "output_text"))
    if item["role"] in ("system", "developer"):
        assert not found.turns
        found.system += text
    elif item["role"] == "assistant":
        assert all(part["type"] == "output_text" for part in parts) or isinstance(content, str)
        found.assistant(text)
    else:
        assert item["role"] == "user"
        images = [part["image_url"] for part in parts if part["type"] == "input_image"]
        assert all(url.startswith(IMAGE_URL) for url in images)
        found.user(text, [(IMAGE_TYPE, url.removeprefix(IMAGE_URL)) for url in images])


def _response(scenario: Scenario, output: list[Raw], status: str) -> Raw:
    answer = scenario.answer
    prompt = answer.input + answer.cached
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": answer.cached, "cache_write_tokens": 0},
        "output_tokens": answer.output,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning},
        "total_tokens": prompt + answer.output,
    }
    return {
        "id": "resp_7", "object": "response", "created_at": 1_700_000_000, "status": status, "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None, "instructions": None,
        "model": "the-real-name", "output": output, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "usage": None if status == "in_progress" else usage,
    }  # fmt: skip


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish == "length" else "completed"


def _output(answer: Answer) -> list[tuple[Raw, Raw]]:
    """Each item as it begins and as it ends."""
    found: list[tuple[Raw, Raw]] = []
    if answer.thoughts:
        item = {"id": "rs_1", "type": "reasoning", "summary": []}
        found.append((item, {**item, "summary": [{"type": "summary_text", "text": answer.thoughts}]}))
    if answer.text or answer.refusal:
        state = "incomplete" if answer.finish == "length" else "completed"
        part = (
            {"type": "output_text", "text": answer.text, "annotations": []}
            if answer.text
            else {"type": "refusal", "refusal": answer.refusal}
        )
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        found.append((item, {**item, "status": state, "content": [part]}))
    for call in answer.calls:
        found.append((_called(call, "", "in_progress"), _called(call, call.text, "completed")))
    return found


def _called(call: Call, arguments: str, status: str) -> Raw:
    return {
        "id": f"fc_{call.id}", "type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments,
        "status": status,
    }  # fmt: skip


def _inside(item: Raw) -> list[Raw]:
    """The events between an item's beginning and its end."""
    if item["type"] == "function_call":
        pieces = [{"type": "response.function_call_arguments.delta", "delta": one} for one in pieces_of(item["arguments"])]
        whole = {"type": "response.function_call_arguments.done", "arguments": item["arguments"], "name": item["name"]}
        return [*pieces, whole]
    if item["type"] == "reasoning":
        (part,) = item["summary"]
        stem, kind, empty, place = "response.reasoning_summary_text", "response.reasoning_summary_part", "", "summary_index"
        words, field, more = part["text"], "text", dict[str, Any]()
    else:
        (part,) = item["content"]
        place, kind = "content_index", "response.content_part"
        field, empty = ("text", "") if part["type"] == "output_text" else ("refusal", "")
        stem = f"response.{part['type']}"
        words, more = part[field], ({"logprobs": []} if field == "text" else {})
    at = {place: 0}
    return [
        {"type": f"{kind}.added", **at, "part": {**part, field: empty}},
        *({"type": f"{stem}.delta", **at, "delta": piece, **more} for piece in pieces_of(words)),
        {"type": f"{stem}.done", **at, field: words, **more},
        {"type": f"{kind}.done", **at, "part": part},
    ]


def _counted(usage: Raw) -> dict[str, int]:
    cached = usage["input_tokens_details"]["cached_tokens"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    return {
        "input": usage["input_tokens"] - cached,
        "cached_input": cached,
        "output": usage["output_tokens"],
        "reasoning": usage["output_tokens_details"]["reasoning_tokens"],
    }


def _text_of(seen: list[Raw]) -> str:
    return "".join(event["delta"] for event in seen if event["type"] == "response.output_text.delta")


def check_event(event: Raw) -> None:
    """Valid by the SDK's types; one that ends a broken stream tells at least what broke it."""
    if event["type"] == "response.failed":
        assert {"code", "message"} <= set(event["response"]["error"])
        assert event["response"]["status"] == "failed"
    else:
        EVENTS[event["type"]].model_validate(event)


def _read_events(stream: bytes) -> list[Raw]:
    """Named and numbered events; items begin in order and end once, what is done repeats its deltas."""
    seen = []
    for name, event in events(stream):
        check_event(event)
        assert name == event["type"]
        seen.append(event)
    ended = [event["type"] for event in seen if event["type"] in ENDS]
    assert len(ended) <= 1
    types = [event["type"] for event in seen if event["type"] not in ("error", *ENDS)]
    assert types[:2] == ["response.created", "response.in_progress"][: len(types)]
    numbered = seen[:-1] if seen[-1]["type"] == "error" else seen  # a provider's own error may be out of step
    assert [event["sequence_number"] for event in numbered] == list(range(len(numbered)))
    begun: list[Raw] = []
    written: dict[int, str] = {}
    for event in seen[2:]:
        kind = event["type"]
        index = event.get("output_index", -1)
        if kind == "response.output_item.added":
            assert index == len(begun)
            begun.append(event["item"])
            written[index] = ""
        elif kind == "response.output_item.done":
            del written[index]
            assert (event["item"]["id"], event["item"]["type"]) == (begun[index]["id"], begun[index]["type"])
        elif kind in DELTAS:
            assert event["item_id"] == begun[index]["id"]
            written[index] += event["delta"]
        for end, field in DELTAS.values():
            if kind == end:
                assert event[field] == written[index]
    return seen
