"""What a reply says: the words, thoughts and calls in the bytes of any dialect, read without the daemon's help.

`Said` is also what the readers of the official SDKs give (tests.support.sdks), so that the two can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Raw = dict[str, Any]


@dataclass
class Said:
    """The first answer of a reply. `calls`: (name, arguments as JSON text); `usage`: as `recordings.counted` has it."""

    text: str = ""
    refusal: str = ""
    thoughts: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    usage: dict[str, int] | None = None
    finish: str | None = None

    @property
    def arguments(self) -> list[tuple[str, Any]]:
        """The calls with their arguments as values; text that is no JSON stays text, no text is no arguments."""
        return [(name, _value(arguments)) for name, arguments in self.calls]


def _value(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


def events_of(stream: bytes) -> list[Raw]:
    """The JSON of each event."""
    blocks = stream.decode().replace("\r\n", "\n").split("\n\n")
    datas = ["\n".join(line[5:].strip() for line in block.split("\n") if line.startswith("data:")) for block in blocks]
    return [json.loads(data) for data in datas if data.startswith("{")]


def said(api: str, content: bytes, *, stream: bool) -> Said:
    """Of the bytes of one reply of a provider."""
    if stream and content.lstrip().startswith(b"["):
        return READERS[api](json.loads(content))
    return READERS[api](events_of(content) if stream else [json.loads(content)])


# -- chat completions: a whole reply is a stream of one piece whose `message` is its delta


def _chat(pieces: list[Raw]) -> Said:
    found, calls = Said(), dict[int, list[str]]()
    for piece in pieces:
        for choice in piece.get("choices", ()):
            if choice.get("index", 0) != 0:
                continue
            found.finish = choice.get("finish_reason") or found.finish
            _chat_delta(choice.get("message") or choice.get("delta") or {}, found, calls)
    found.calls = [(name, arguments) for name, arguments in calls.values()]
    return found


def _chat_delta(delta: Raw, found: Said, calls: dict[int, list[str]]) -> None:
    content = delta.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    for part in parts:
        if part["type"] == "thinking":  # Mistral
            found.thoughts += "".join(inner["text"] for inner in part["thinking"])
        else:
            found.text += part["text"]
    found.refusal += delta.get("refusal") or ""
    found.thoughts += delta.get("reasoning_content") or delta.get("reasoning") or ""
    for position, call in enumerate(delta.get("tool_calls") or ()):
        entry = calls.setdefault(call.get("index", position), ["", ""])
        entry[0] += call["function"].get("name") or ""
        entry[1] += call["function"].get("arguments") or ""


# -- the Responses API: the last event of a stream holds the whole response


def _responses(pieces: list[Raw]) -> Said:
    response = next((piece["response"] for piece in reversed(pieces) if "response" in piece), pieces[-1])
    found = Said(finish=response.get("status"))
    for item in response.get("output", ()):
        if item["type"] == "message":
            found.text += "".join(part["text"] for part in item["content"] if part["type"] == "output_text")
            found.refusal += "".join(part["refusal"] for part in item["content"] if part["type"] == "refusal")
        elif item["type"] == "function_call":
            found.calls.append((item["name"], item["arguments"]))
        elif item["type"] == "reasoning":
            shown = item.get("summary") or item.get("content") or ()
            found.thoughts += "".join(part["text"] for part in shown)
    return found


# -- the Messages API


def _messages(pieces: list[Raw]) -> Said:
    if len(pieces) == 1 and pieces[0].get("type") == "message":
        return _message(pieces[0])
    blocks: dict[int, Raw] = {}
    stop = None
    for piece in pieces:
        if piece["type"] == "content_block_start":
            blocks[piece["index"]] = {"input_json": "", **piece["content_block"]}
        elif piece["type"] == "content_block_delta":
            block, delta = blocks[piece["index"]], piece["delta"]
            for name, into in (("text", "text"), ("thinking", "thinking"), ("partial_json", "input_json")):
                if name in delta:
                    block[into] = block.get(into, "") + delta[name]
        elif piece["type"] == "message_delta":
            stop = piece["delta"].get("stop_reason") or stop
    return _message({"content": list(blocks.values()), "stop_reason": stop})


def _message(message: Raw) -> Said:
    found = Said(finish=message["stop_reason"])
    for block in message["content"]:
        if block["type"] == "text":
            found.text += block["text"]
        elif block["type"] == "thinking":
            found.thoughts += block["thinking"]
        elif block["type"] == "tool_use":
            found.calls.append((block["name"], block.get("input_json") or json.dumps(block["input"])))
    return found


# -- Gemini: partial arguments of a call are strings at one place each


def _gemini(pieces: list[Raw]) -> Said:
    found = Said()
    for piece in pieces:
        for candidate in piece.get("candidates", ()):
            found.finish = candidate.get("finishReason") or found.finish
            for part in candidate.get("content", {}).get("parts", ()):
                if part.get("thought"):
                    found.thoughts += part.get("text", "")
                    continue
                found.text += part.get("text", "")
                if (call := part.get("functionCall")) is not None:
                    _gemini_call(call, found)
    return found


def _gemini_call(call: Raw, found: Said) -> None:
    if "name" in call:
        found.calls.append((call["name"], json.dumps(call.get("args", {}))))
    for partial in call.get("partialArgs", ()):
        name, written = found.calls[-1]
        arguments = json.loads(written)
        place = partial["jsonPath"].removeprefix("$.")
        arguments[place] = arguments.get(place, "") + partial["stringValue"]
        found.calls[-1] = (name, json.dumps(arguments))


READERS: dict[str, Callable[[list[Raw]], Said]] = {
    "openai.chat": _chat,
    "openai.responses": _responses,
    "anthropic.messages": _messages,
    "gemini.generate": _gemini,
    "gemini.stream": _gemini,
}
