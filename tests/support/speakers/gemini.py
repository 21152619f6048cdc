"""The Gemini API: a client that asks, a provider that is asked."""

from __future__ import annotations

import json
from typing import Any

from google.genai import types

from tests.support.said import Said
from tests.support.speakers.frames import data, pieces_of
from tests.support.speakers.scenario import IMAGE_TYPE, Answer, Call, Heard, Scenario, Turn
from tests.support.upstream import Received

Raw = dict[str, Any]
FINISH = {"stop": "STOP", "stop_sequence": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "refusal": "SAFETY"}
FIELDS = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"}
SIGNATURE = "c2lnbmVk"


class Speaker:
    """See tests.support.speakers.Speaker."""

    def asked(self, scenario: Scenario) -> Scenario:
        return scenario

    # -- the client asks

    def request(self, scenario: Scenario, model: str, *, stream: bool) -> Raw:
        names = {call.id: call.name for turn in scenario.turns for call in turn.calls}
        config: Raw = {"maxOutputTokens": scenario.limit}
        body: Raw = {"contents": [], "generationConfig": config}
        for turn in scenario.turns:
            body["contents"].append({"role": "model" if turn.who == "assistant" else "user", "parts": _parts(turn, names)})
        if scenario.system:
            body["systemInstruction"] = {"parts": [{"text": scenario.system}]}
        if scenario.tools:
            functions = [
                {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
                for tool in scenario.tools
            ]
            body["tools"] = [{"functionDeclarations": functions}]
        if scenario.schema:
            config |= {"responseMimeType": "application/json", "responseJsonSchema": scenario.schema}
        if scenario.effort:
            config["thinkingConfig"] = {"thinkingLevel": scenario.effort.upper(), "includeThoughts": True}
        if scenario.stop:
            config["stopSequences"] = list(scenario.stop)
        return body

    # -- the provider hears

    def heard(self, request: Received, *, stream: bool) -> Heard:
        method, query = ("streamGenerateContent", "alt=sse") if stream else ("generateContent", "")
        assert request.path.startswith("/v1beta/models/")
        assert (request.path.rpartition(":")[2], request.query) == (method, query)
        body = request.json
        assert set(body) <= FIELDS
        config = body["generationConfig"]
        types.GenerationConfig.model_validate(config)
        found, calls = Heard(), list[tuple[str | None, str]]()
        if "systemInstruction" in body:
            types.Content.model_validate(body["systemInstruction"])
            found.system = "".join(part["text"] for part in body["systemInstruction"]["parts"])
        assert body["contents"][0]["role"] == body["contents"][-1]["role"] == "user"
        for content, after in zip(body["contents"], [*body["contents"][1:], None], strict=True):
            types.Content.model_validate(content)
            assert content["parts"]
            called = sum("functionCall" in part for part in content["parts"])
            if called:  # the API wants as many results, and nothing beside them
                assert after is not None
                assert [list(part) for part in after["parts"]] == [["functionResponse"]] * called
            else:
                assert after is None or after["role"] != content["role"] or "functionResponse" in content["parts"][0]
            for part in content["parts"]:
                _hear(content["role"], part, found, calls)
        for tool in body.get("tools", ()):
            types.Tool.model_validate(tool)
            found.tools += [
                (function["name"], function["description"], function["parametersJsonSchema"])
                for function in tool["functionDeclarations"]
            ]
        found.schema = config.get("responseJsonSchema")
        assert config.get("responseMimeType") == ("application/json" if found.schema else None)
        thinking = config.get("thinkingConfig", {})
        found.thinks = thinking.get("thinkingBudget", 0) >= 24_000 or thinking.get("thinkingLevel", "").lower() == "high"
        found.stop = tuple(config.get("stopSequences", ()))
        found.limit = config["maxOutputTokens"]
        return found

    # -- the provider answers

    def told(self, finish: str) -> str:
        return "stop" if finish == "stop_sequence" else finish

    def reply(self, scenario: Scenario) -> Raw:
        return _reply(scenario, _answer(scenario.answer), last=True)

    def frames(self, scenario: Scenario) -> list[bytes]:
        answer = scenario.answer
        parts: list[Raw] = [{"text": piece, "thought": True} for piece in pieces_of(answer.thoughts)]
        parts += [{"text": piece} for piece in pieces_of(answer.text)]
        parts += [_call(call) for call in answer.calls]
        if answer.thoughts:
            parts[-1] = {**parts[-1], "thoughtSignature": SIGNATURE}
        found = [_reply(scenario, [part], last=part is parts[-1]) for part in parts] or [_reply(scenario, [], last=True)]
        return [data(reply) for reply in found]

    def error(self, message: str) -> Raw:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}

    def error_frame(self, message: str) -> bytes:
        return data({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})

    # -- the client reads

    def read(self, body: Raw, model: str) -> Said:
        types.GenerateContentResponse.model_validate(body)
        return _read([body], model)

    def read_stream(self, stream: bytes, model: str) -> Said:
        found = _chunks(stream)
        said = _read(found, model)
        assert said.finish is not None
        return said

    def read_broken(self, stream: bytes, model: str) -> tuple[str, str]:
        *before, error = _chunks(stream)
        said = _read(before, model)
        assert said.finish is None
        assert set(error) == {"error"}
        return said.text, str(error["error"]["message"])

    def read_error(self, body: Raw, status: int) -> str:
        assert set(body) == {"error"}
        error = body["error"]
        assert error["code"] == status
        assert error["status"] == {400: "INVALID_ARGUMENT", 502: "UNAVAILABLE"}[status]
        return str(error["message"])

    def finish(self, finish: str) -> str:
        return FINISH[finish]


def _parts(turn: Turn, names: dict[str, str]) -> list[Raw]:
    parts: list[Raw] = [
        {"functionResponse": {"name": names[call_id], "response": {"output": text}}} for call_id, text in turn.results
    ]
    if turn.text:
        parts.append({"text": turn.text})
    parts += [{"inlineData": {"mimeType": IMAGE_TYPE, "data": image}} for image in turn.images]
    return parts + [_call(call) for call in turn.calls]


def _call(call: Call) -> Raw:
    return {"functionCall": {"name": call.name, "args": call.arguments}}


def _hear(role: str, part: Raw, found: Heard, calls: list[tuple[str | None, str]]) -> None:
    """Results are matched by id where there is one, else by name in the order of the calls."""
    if "text" in part:
        assert part["text"]
        (found.user if role == "user" else found.assistant)(part["text"])
    elif "inlineData" in part:
        found.user("", [(part["inlineData"]["mimeType"], part["inlineData"]["data"])])
    elif "functionCall" in part:
        call = part["functionCall"]
        calls.append((call.get("id"), call["name"]))
        found.assistant("", [(call["name"], call["args"])])
    else:
        result = part["functionResponse"]
        told = found.turns[-1][1] if found.turns[-1][0] == "tool" else {}
        matching = [
            number for number, (call_id, name) in enumerate(calls)
            if number not in told and name == result["name"] and call_id == result.get("id")
        ]  # fmt: skip
        assert result["response"].keys() == {"output"}
        found.result(matching[0], result["response"]["output"])


def _answer(answer: Answer) -> list[Raw]:
    parts: list[Raw] = [{"text": answer.thoughts, "thought": True}] if answer.thoughts else []
    parts += [{"text": answer.text}] if answer.text else []
    parts += [_call(call) for call in answer.calls]
    if answer.thoughts:
        parts[-1] = {**parts[-1], "thoughtSignature": SIGNATURE}
    return parts


def _reply(scenario: Scenario, parts: list[Raw], *, last: bool) -> Raw:
    answer = scenario.answer
    candidate: Raw = {"index": 0}
    if parts:
        candidate["content"] = {"role": "model", "parts": parts}
    if last:
        candidate["finishReason"] = FINISH[answer.finish]
        if answer.refusal:
            candidate["finishMessage"] = answer.refusal
    prompt = answer.input + answer.cached
    usage = {"promptTokenCount": prompt, "cachedContentTokenCount": answer.cached, "totalTokenCount": prompt}
    if last:
        usage |= {
            "candidatesTokenCount": answer.output - answer.reasoning,
            "thoughtsTokenCount": answer.reasoning,
            "totalTokenCount": prompt + answer.output,
        }
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "the-real-name", "responseId": "resp-7"}


def _chunks(stream: bytes) -> list[Raw]:
    blocks = stream.replace(b"\r\n", b"\n").decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


def _read(replies: list[Raw], model: str) -> Said:
    """One answer in pieces: all of one reply, nothing after the reason of its end, the usage at the end."""
    found = Said()
    for reply in replies:
        types.GenerateContentResponse.model_validate(reply)
        assert reply["modelVersion"] == model
        assert reply["responseId"] == replies[0]["responseId"]
        assert found.finish is None
        (candidate,) = reply["candidates"]
        assert candidate.get("index", 0) == 0
        content = candidate.get("content", {"role": "model", "parts": []})
        assert content["role"] == "model"
        for part in content["parts"]:
            if part.get("thought"):
                found.thoughts += part.get("text", "")
            elif "functionCall" in part:
                call = part["functionCall"]
                found.calls.append((call["name"], json.dumps(call.get("args", {}))))
            else:
                found.text += part["text"]
        found.finish = candidate.get("finishReason")
        if found.finish == "SAFETY":
            found.refusal = candidate.get("finishMessage", "")
    if replies and "usageMetadata" in replies[-1]:
        found.usage = _counted(replies[-1]["usageMetadata"])
    return found


def _counted(usage: Raw) -> dict[str, int]:
    cached, thoughts = usage.get("cachedContentTokenCount", 0), usage.get("thoughtsTokenCount", 0)
    output = usage.get("candidatesTokenCount", 0) + thoughts
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + output
    return {"input": usage["promptTokenCount"] - cached, "cached_input": cached, "output": output, "reasoning": thoughts}
