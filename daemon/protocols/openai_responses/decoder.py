"""A provider's stream of a response → events. What deltas left out is made up for by the events that repeat the whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jiter

from daemon.domain.chat import (
    CitationAdded,
    Ended,
    Event,
    Failed,
    Finished,
    LogprobsAdded,
    MediaAdded,
    Pinged,
    RefusalDelta,
    Started,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.openai_responses.items import PARAGRAPH, CallSignature, decode_image, decode_thinking
from daemon.protocols.openai_responses.names import flatten
from daemon.protocols.openai_responses.parts import citation_of
from daemon.protocols.openai_responses.reply import created_of, failed_of, finish_of, text_of
from daemon.protocols.openai_responses.usage import usage_of
from daemon.protocols.sse import Framer, LineTooLong, parse_frame

# The last event repeats the whole reply, pictures included.
MAX_EVENT: Final = 16 * 1024 * 1024
DONE: Final = b"[DONE]"
CALLS: Final = frozenset({"function_call", "custom_tool_call"})
PINGS: Final = frozenset({"keepalive", "ping", "response.heartbeat"})

Key = int | str  # of an output item: its index, or its id where a host sends no index
Channel = tuple[Key, str, int]  # item, what of it, and which part of that


class Decoder:
    """Implements base.StreamDecoder."""

    def __init__(self) -> None:
        self._framer = Framer(MAX_EVENT)
        self._out: list[Event] = []
        self._started = self._over = self._refused = False
        self._sent: dict[Channel, list[str]] = {}  # what has gone out, in pieces
        self._cited: dict[Channel, int] = {}  # citations that have gone out
        self._calls: dict[Key, int] = {}  # item -> index of its call
        self._called = 0
        self._thoughts: dict[Key, str] = {}  # item -> which of its two texts goes out: summary or content
        self._signature: str | None = None  # of the call that follows
        self._done: set[Key] = set()  # items that are complete, by index and by id
        self._ids: dict[Key, str] = {}
        self._ran: list[dict[str, Any]] = []  # calls of hosted tools: some hosts leave them out of the last event
        self.usage: Usage | None = None
        self.usage_invalid = ""
        self.garbage = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Nothing is raised: an event that is too long ends the stream with Failed."""
        try:
            frames = self._framer.split(chunk)
        except LineTooLong as error:
            for raw in error.frames:
                self._frame(raw)
            self._fail(Failed(str(error), "upstream_error"))
            return self._take()
        for raw in frames:
            self._frame(raw)
        return self._take()

    def flush(self) -> list[Event]:
        """The stream is over: the event that stands after the last blank line, if one does."""
        for raw in self._framer.split_rest():
            self._frame(raw)
        return self._take()

    def _take(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _frame(self, raw: bytes) -> None:
        frame = parse_frame(raw)
        data = frame.data
        if not data:
            if raw.startswith(b":") and not self._over:
                self._out.append(Pinged())
            return
        if data.strip() == DONE:
            self._end()
            return
        try:
            event = jiter.from_json(data, cache_mode="keys")
        except ValueError:
            event = None
        if type(event) is not dict:
            self.garbage += 1
            return
        kind = event.get("type")
        if type(kind) is not str:
            kind = event["type"] = "error" if event.get("error") else frame.event
        handler = HANDLERS.get(kind)
        if handler is not None:
            if not self._over or kind == "response.failed":
                handler(self, event)
        elif kind in PINGS and not self._over:
            self._out.append(Pinged())

    # -- the life of a response

    def _start(self, event: dict[str, Any]) -> dict[str, Any]:
        """The response object of an event ({} if none), Started being said."""
        response = event.get("response")
        if type(response) is not dict:
            response = {}
        if not self._started:
            self._started = True
            self._out.append(Started(text_of(response, "id"), text_of(response, "model"), created_of(response)))
        return response

    def _ensure_started(self) -> None:
        if not self._started:
            self._start({})

    def _complete(self, event: dict[str, Any]) -> None:
        response = self._start(event)
        self._finish_items(response.get("output"))
        status = "incomplete" if event["type"] == "response.incomplete" else response.get("status")
        reason = finish_of(status, response.get("incomplete_details"), self._called > 0, self._refused)
        self._out.append(Finished(reason))
        self._read_usage(response)
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._ensure_started()
            self._over = True
            self._out.append(Ended())

    def _read_failed(self, event: dict[str, Any]) -> None:
        response = event.get("response")
        if type(response) is not dict:
            response = {}
        self._read_usage(response)
        self._fail(failed_of(response.get("error")))

    def _read_error(self, event: dict[str, Any]) -> None:
        error = event.get("error")
        self._fail(failed_of(error if error else {**event, "type": ""}))

    def _fail(self, failed: Failed) -> None:
        if not self._over:
            self._over = True
            self._out.append(failed)

    def _read_usage(self, response: dict[str, Any]) -> None:
        try:
            found = usage_of({**response, "output": self._ran})
        except InvalidUsage as problem:
            self.usage_invalid = str(problem)
            return
        if found is None:
            return
        self.usage, self.usage_invalid = found, ""
        if not self._over:
            self._out.append(UsageReported(found))

    # -- what the model says

    def _delta(self, event: dict[str, Any], what: str, index: str) -> str:
        """The delta of an event, kept as sent; "" when there is none."""
        delta = event.get("delta")
        if type(delta) is not str or not delta:
            return ""
        self._ensure_started()
        self._keep((_key(event), what, _number(event, index)), delta)
        return delta

    def _keep(self, channel: Channel, text: str) -> None:
        sent = self._sent.get(channel)
        if sent is None:
            self._sent[channel] = [text]
        else:
            sent.append(text)

    def _rest(self, channel: Channel, whole: object) -> str:
        """What of the whole text has not gone out, kept as sent; "" when what went out was something else."""
        if type(whole) is not str or not whole:
            return ""
        sent = "".join(self._sent.get(channel, ()))
        if len(whole) <= len(sent) or not whole.startswith(sent):
            return ""
        self._ensure_started()
        self._sent[channel] = [whole]
        return whole[len(sent) :]

    def _text_delta(self, event: dict[str, Any]) -> None:
        if delta := self._delta(event, "text", "content_index"):
            self._out.append(TextDelta(delta))
        if (tokens := event.get("logprobs")) and type(tokens) is list:
            self._ensure_started()
            self._out.append(LogprobsAdded(tokens))

    def _text_done(self, event: dict[str, Any]) -> None:
        if rest := self._rest((_key(event), "text", _number(event, "content_index")), event.get("text")):
            self._out.append(TextDelta(rest))

    def _refusal_delta(self, event: dict[str, Any]) -> None:
        if delta := self._delta(event, "refusal", "content_index"):
            self._refused = True
            self._out.append(RefusalDelta(delta))

    def _annotation(self, event: dict[str, Any]) -> None:
        channel = (_key(event), "text", _number(event, "content_index"))
        self._cited[channel] = self._cited.get(channel, 0) + 1
        if (citation := citation_of(event.get("annotation"))) is not None:
            self._ensure_started()
            self._out.append(CitationAdded(citation))

    def _summary_delta(self, event: dict[str, Any]) -> None:
        self._thought(event, "summary", "summary_index")

    def _thought_delta(self, event: dict[str, Any]) -> None:
        self._thought(event, "content", "content_index")

    def _thought(self, event: dict[str, Any], which: str, index: str) -> None:
        key, number = _key(event), _number(event, index)
        if self._thoughts.setdefault(key, which) != which:
            return  # the other text of this thought goes out
        new = (key, which, number) not in self._sent
        if delta := self._delta(event, which, index):
            self._out.append(ThinkingDelta(PARAGRAPH + delta if new and number else delta))

    # -- what the model calls

    def _arguments_delta(self, event: dict[str, Any]) -> None:
        call = self._calls.get(_key(event))
        if call is not None and (delta := self._delta(event, "arguments", "")):
            self._out.append(ToolCallDelta(call, delta))

    def _add_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if type(item) is not dict:
            return
        self._ensure_started()
        key, item_id = _key(event), text_of(item, "id")
        if key in self._done and self._ids.get(key) != item_id:
            self._forget(key)  # a host that numbers its items anew
        self._ids.setdefault(key, item_id)
        if text_of(item, "type") in CALLS and text_of(item, "name"):
            self._start_call(key, item)

    def _forget(self, key: Key) -> None:
        self._done.discard(key)
        self._ids.pop(key, None)
        self._calls.pop(key, None)
        self._thoughts.pop(key, None)
        for channel in [channel for channel in self._sent if channel[0] == key]:
            del self._sent[channel]
            self._cited.pop(channel, None)

    def _start_call(self, key: Key, item: dict[str, Any]) -> int:
        if (index := self._calls.get(key)) is not None:
            return index
        index = self._calls[key] = self._called
        self._called += 1
        name = flatten(item.get("namespace"), text_of(item, "name"))
        call_id = text_of(item, "call_id") or text_of(item, "id")
        custom = item.get("type") == "custom_tool_call"
        self._out.append(ToolCallStarted(index, call_id, name, custom, self._signature))
        self._signature = None
        return index

    # -- whole items

    def _item_done(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        key = _key(event)
        if type(item) is dict and key not in self._done:
            self._ensure_started()
            self._finish_item(key, item)

    def _finish_items(self, output: object) -> None:
        """The output of the last event: items that no event before it has completed."""
        keys: dict[str, Key] = {item_id: key for key, item_id in self._ids.items() if item_id}
        keyed = {channel[0] for channel in self._sent}
        for index, item in enumerate(output if type(output) is list else ()):
            if type(item) is not dict:
                continue
            item_id = text_of(item, "id")
            if index not in self._done and item_id not in self._done:
                self._finish_item(keys.get(item_id, item_id if item_id in keyed else index), item)

    def _finish_item(self, key: Key, item: dict[str, Any]) -> None:
        """Sends what of an item has not been sent."""
        self._done.add(key)
        if item_id := text_of(item, "id"):
            self._done.add(item_id)
        kind = item.get("type")
        if kind == "message":
            content = item.get("content")
            for index, part in enumerate(content if type(content) is list else ()):
                if type(part) is dict:
                    self._finish_part(key, index, part)
        elif kind == "reasoning":
            self._finish_thought(key, item)
        elif kind == "function_call" or kind == "custom_tool_call":
            call = self._start_call(key, item)
            whole = item.get("input" if kind == "custom_tool_call" else "arguments")
            if rest := self._rest((key, "arguments", 0), whole):
                self._out.append(ToolCallDelta(call, rest))
        elif type(kind) is str and kind.endswith("_call"):
            self._ran.append({name: item.get(name) for name in ("type", "status", "action")})
            if kind == "image_generation_call" and (image := decode_image(item)) is not None:
                self._out.append(MediaAdded(image))

    def _finish_part(self, key: Key, index: int, part: dict[str, Any]) -> None:
        if part.get("type") == "refusal":
            if rest := self._rest((key, "refusal", index), part.get("refusal")):
                self._refused = True
                self._out.append(RefusalDelta(rest))
            return
        channel = (key, "text", index)
        if rest := self._rest(channel, part.get("text")):
            self._out.append(TextDelta(rest))
            if type(tokens := part.get("logprobs")) is list and tokens and rest == part["text"]:
                self._out.append(LogprobsAdded(tokens))
        annotations = part.get("annotations")
        for annotation in annotations[self._cited.get(channel, 0) :] if type(annotations) is list else ():
            self._annotation({"output_index": key, "content_index": index, "annotation": annotation})

    def _finish_thought(self, key: Key, item: dict[str, Any]) -> None:
        which = self._thoughts.get(key) or ("summary" if item.get("summary") else "content")
        parts = item.get(which)
        for index, part in enumerate(parts if type(parts) is list else ()):
            new = (key, which, index) not in self._sent
            if type(part) is dict and (rest := self._rest((key, which, index), part.get("text"))):
                self._out.append(ThinkingDelta(PARAGRAPH + rest if new and index else rest))
        for found in decode_thinking(item) or ([Thinking()] if key in self._thoughts else []):
            if isinstance(found, CallSignature):
                self._signature = found.signature
            else:
                self._out.append(ThinkingEnded(found.signature, found.encrypted, found.id, found.origin))


def _key(event: dict[str, Any]) -> Key:
    index = event.get("output_index")
    if type(index) is int or type(index) is str:
        return index
    item = event.get("item")
    return text_of(event, "item_id") or (text_of(item, "id") if type(item) is dict else "")


def _number(event: dict[str, Any], name: str) -> int:
    value = event.get(name)
    return value if type(value) is int else 0


# What is not here is dropped: hosted tools at work, and the events between that only repeat what others say.
HANDLERS: Final[dict[str, Callable[[Decoder, dict[str, Any]], object]]] = {
    "response.created": Decoder._start,
    "response.queued": Decoder._start,
    "response.in_progress": Decoder._start,
    "response.completed": Decoder._complete,
    "response.done": Decoder._complete,
    "response.incomplete": Decoder._complete,
    "response.failed": Decoder._read_failed,
    "response.cancelled": Decoder._read_failed,
    "error": Decoder._read_error,
    "response.error": Decoder._read_error,
    "response.output_item.added": Decoder._add_item,
    "response.output_item.done": Decoder._item_done,
    "response.output_text.delta": Decoder._text_delta,
    "response.output_text.done": Decoder._text_done,
    "response.output_text.annotation.added": Decoder._annotation,
    "response.refusal.delta": Decoder._refusal_delta,
    "response.reasoning_summary_text.delta": Decoder._summary_delta,
    "response.reasoning_text.delta": Decoder._thought_delta,
    "response.function_call_arguments.delta": Decoder._arguments_delta,
    "response.custom_tool_call_input.delta": Decoder._arguments_delta,
}
