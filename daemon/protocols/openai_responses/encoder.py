"""Events → a stream of a response for a client, in the order that the official SDKs and Codex CLI insist on.

response.created, response.in_progress; then for each item: output_item.added, its parts (added, deltas, done),
output_item.done; then response.completed or response.incomplete with the whole response and its usage. One message or
thought is open at a time; several calls may be, because their arguments can come in turns. Every event has its
sequence_number. An error is an `error` event, at which SDKs raise, and response.failed, which Codex reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Finish,
    Finished,
    LogprobsAdded,
    MediaAdded,
    MediaKind,
    Pinged,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnded,
    ToolCallDelta,
    ToolCallStarted,
    UsageReported,
)
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.openai_responses.errors import error_fields
from daemon.protocols.openai_responses.frames import delta_frame, delta_head, frame, json_bytes
from daemon.protocols.openai_responses.items import call_item, picture, sealed_thinking, thought
from daemon.protocols.openai_responses.names import seal
from daemon.protocols.openai_responses.parts import annotation_of
from daemon.protocols.openai_responses.reply import (
    EMPTY_ARGUMENTS,
    custom_names,
    response_id,
    response_object,
    status_of,
    unique_call_id,
    unwrapped,
)
from daemon.protocols.openai_responses.usage import usage_object

PING: Final = b": ping\n\n"


@dataclass(slots=True)
class _Part:
    """A part of the open message. `kind`: output_text or refusal."""

    kind: str
    delta: bytes  # the bytes of a delta event up to the delta itself
    pieces: list[str] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)

    def content(self) -> dict[str, Any]:
        text = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": self.annotations, "logprobs": self.logprobs}


@dataclass(slots=True)
class _Item:
    """An open item: a message, a thought or a call."""

    index: int
    id: str
    fields: dict[str, Any]
    delta: bytes = b""
    pieces: list[str] = field(default_factory=list)  # of a thought's summary, or a call's arguments
    content: list[dict[str, Any]] = field(default_factory=list)  # finished parts of a message
    wrapped: bool = False  # arguments hold the free text of a custom tool in JSON


class Encoder:
    """Implements base.StreamEncoder. Answers other than the first, and generated sound, have no place and are left out."""

    def __init__(self, *, model: str, id: str, created: int, chat: Chat) -> None:
        self._model, self._id, self._created, self._chat = model, response_id(id), created, chat
        self._custom = custom_names(chat)
        self._base: dict[str, Any] = {}  # the response object, once the stream has begun
        self._out: list[bytes] = []
        self._output: list[dict[str, Any]] = []  # items, as far as they are known
        self._sequence = 0
        self._message: _Item | None = None
        self._part: _Part | None = None
        self._thought: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._call_ids: set[str] = set()
        self._logprobs: list[Any] = []  # of the text that comes next
        self._finish: Finish | None = None
        self._refused = False
        self._usage: Usage | None = None

    def feed(self, events: list[Event]) -> bytes:
        """What goes to the client for these events."""
        if len(events) > 1 and any(type(event) is LogprobsAdded for event in events):
            events = _logprobs_first(events)
        for event in events:
            if (handler := HANDLERS.get(type(event))) is not None and not getattr(event, "choice", 0):
                handler(self, event)
        return self._take()

    def finish(self, usage: Usage | None) -> bytes:
        """The end of a complete stream."""
        self._begin()
        status, reason = status_of(self._finish, self._refused)
        self._close_all("completed" if status == "completed" else "incomplete")
        found = usage if usage is not None else self._usage
        response = {
            **self._base,
            "status": status,
            "output": self._output,
            "incomplete_details": {"reason": reason} if reason else None,
            "error": {"code": "server_error", "message": "The reply failed."} if status == "failed" else None,
            "usage": usage_object(found) if found is not None else None,
        }
        self._emit(f"response.{status}", {"response": response})
        return self._take()

    def fail(self, error: ApiError) -> bytes:
        """The end of a stream that broke."""
        self._begin()
        self._emit("error", error_fields(error))
        done = [item for item in self._output if item["status"] == "completed"]
        cause = {"code": error.code, "message": error.message}
        self._emit("response.failed", {"response": {**self._base, "status": "failed", "error": cause, "output": done}})
        return self._take()

    def _take(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    def _emit(self, kind: str, fields: dict[str, Any]) -> None:
        self._out.append(frame(kind, fields, self._sequence))
        self._sequence += 1

    def _emit_delta(self, head: bytes, delta: str, tail: bytes = b"") -> None:
        self._out.append(delta_frame(head, delta, tail, self._sequence))
        self._sequence += 1

    # -- the life of a response

    def _begin(self, event: Started | None = None) -> None:
        if self._base:
            return
        if event is not None:
            self._id = response_id(event.id) if event.id else self._id
            self._created = event.created or self._created
            self._usage = event.usage
        self._base = response_object(self._id, self._created, self._model, self._chat)
        self._emit("response.created", {"response": self._base})
        self._emit("response.in_progress", {"response": self._base})

    def _open(self, prefix: str, kind: str, fields: dict[str, Any], item_id: str | None = None) -> _Item:
        """A new item. Messages and thoughts that are open end before it."""
        self._begin()
        self._close_message("completed")
        self._close_thought(None)
        index = len(self._output)
        item_id = item_id or f"{prefix}_{self._id.removeprefix('resp_')}_{index}"
        item = {"id": item_id, "type": kind, "status": "in_progress", **fields}
        self._output.append(item)
        self._emit("response.output_item.added", {"output_index": index, "item": item})
        return _Item(index, item_id, fields)

    def _close(self, item: _Item, fields: dict[str, Any], status: str = "completed") -> None:
        whole = {**self._output[item.index], "status": status, **fields}
        self._output[item.index] = whole
        self._emit("response.output_item.done", {"output_index": item.index, "item": whole})

    def _close_all(self, status: str) -> None:
        self._close_message(status)
        self._close_thought(None)
        self._close_calls(status)

    # -- messages

    def _text(self, event: TextDelta) -> None:
        if event.text or self._logprobs:
            part = self._open_part("output_text")
            part.pieces.append(event.text)
            self._emit_text(part, event.text)

    def _emit_text(self, part: _Part, text: str) -> None:
        """A delta with the log probabilities that wait for one."""
        if not self._logprobs:
            self._emit_delta(part.delta, text, b',"logprobs":[]')
            return
        tokens, self._logprobs = self._logprobs, []
        part.logprobs += tokens
        self._emit_delta(part.delta, text, b',"logprobs":' + json_bytes(tokens))

    def _refusal(self, event: RefusalDelta) -> None:
        if event.text:
            self._refused = True
            part = self._open_part("refusal")
            part.pieces.append(event.text)
            self._emit_delta(part.delta, event.text)

    def _open_part(self, kind: str) -> _Part:
        if (part := self._part) is not None and part.kind == kind:
            return part
        message = self._message
        if message is None:
            self._close_calls()
            message = self._message = self._open("msg", "message", {"role": "assistant", "content": []})
        self._close_part()
        place = {"item_id": message.id, "output_index": message.index, "content_index": len(message.content)}
        part = self._part = _Part(kind, delta_head(f"response.{kind}.delta", place))
        self._emit("response.content_part.added", {**place, "part": part.content()})
        return part

    def _close_part(self) -> None:
        part, message = self._part, self._message
        if part is None or message is None:
            return
        if self._logprobs and part.kind == "output_text":
            self._emit_text(part, "")
        content = part.content()
        place = {"item_id": message.id, "output_index": message.index, "content_index": len(message.content)}
        if part.kind == "refusal":
            self._emit("response.refusal.done", {**place, "refusal": content["refusal"]})
        else:
            self._emit("response.output_text.done", {**place, "text": content["text"], "logprobs": part.logprobs})
        self._emit("response.content_part.done", {**place, "part": content})
        message.content.append(content)
        self._part = None

    def _close_message(self, status: str) -> None:
        if (message := self._message) is not None:
            self._close_part()
            self._message = None
            self._close(message, {"content": message.content}, status)

    def _citation(self, event: CitationAdded) -> None:
        if type(event.citation.get("url")) is not str:
            return
        part = self._open_part("output_text")
        annotation = annotation_of(event.citation, sum(map(len, part.pieces)))
        message = self._message
        if annotation is None or message is None:
            return
        place = {"item_id": message.id, "output_index": message.index, "content_index": len(message.content)}
        number = {"annotation_index": len(part.annotations), "annotation": annotation}
        part.annotations.append(annotation)
        self._emit("response.output_text.annotation.added", {**place, **number})

    def _add_logprobs(self, event: LogprobsAdded) -> None:
        self._logprobs += event.content

    # -- thoughts

    def _think(self, event: ThinkingDelta) -> None:
        if not event.text:
            return
        if (item := self._thought) is None:
            self._close_calls()
            item = self._thought = self._open("rs", "reasoning", {"summary": []})
            place = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
            item.delta = delta_head("response.reasoning_summary_text.delta", place)
            part = {"type": "summary_text", "text": ""}
            self._emit("response.reasoning_summary_part.added", {**place, "part": part})
        item.pieces.append(event.text)
        self._emit_delta(item.delta, event.text)

    def _end_thought(self, event: ThinkingEnded) -> None:
        if self._thought is None and (event.signature is not None or event.encrypted is not None):
            self._close_calls()
            self._thought = self._open("rs", "reasoning", {"summary": []}, event.id)
        same_id = self._thought is not None and event.id in (None, self._thought.id)
        self._close_thought(sealed_thinking(event.signature, event.encrypted, event.origin, same_id))

    def _close_thought(self, sealed: str | None) -> None:
        if (item := self._thought) is None:
            return
        self._thought = None
        text = "".join(item.pieces)
        if text:
            place = {"item_id": item.id, "output_index": item.index, "summary_index": 0}
            self._emit("response.reasoning_summary_text.done", {**place, "text": text})
            part = {"type": "summary_text", "text": text}
            self._emit("response.reasoning_summary_part.done", {**place, "part": part})
        self._close(item, thought(text, sealed))

    # -- calls

    def _start_call(self, event: ToolCallStarted) -> None:
        if event.index in self._calls:
            return
        if event.signature is not None:
            self._close_calls()
            self._close(self._open("rs", "reasoning", {"summary": []}), thought("", seal("", "call", event.signature)))
        wrapped = not event.custom and event.name in self._custom
        custom = event.custom or wrapped
        fields = call_item(unique_call_id(event.id, self._call_ids), event.name, "", custom)
        item = self._open("ctc" if custom else "fc", fields.pop("type"), fields)
        kind = "response.custom_tool_call_input.delta" if custom else "response.function_call_arguments.delta"
        item.delta = delta_head(kind, {"item_id": item.id, "output_index": item.index})
        item.wrapped = wrapped
        self._calls[event.index] = item

    def _call_delta(self, event: ToolCallDelta) -> None:
        item = self._calls.get(event.index)
        if item is None or not event.arguments:
            return
        item.pieces.append(event.arguments)
        if not item.wrapped:
            self._emit_delta(item.delta, event.arguments)

    def _close_calls(self, status: str = "completed") -> None:
        """`status` is that of the last one: those before it are complete."""
        calls, self._calls = list(self._calls.values()), {}
        for item in calls:
            arguments = "".join(item.pieces)
            custom = "input" in item.fields
            if item.wrapped:
                arguments = unwrapped(arguments)
            elif not custom and not arguments:
                arguments = EMPTY_ARGUMENTS
            if arguments and (item.wrapped or not item.pieces):
                self._emit_delta(item.delta, arguments)
            name = "input" if custom else "arguments"
            kind = "response.custom_tool_call_input.done" if custom else "response.function_call_arguments.done"
            self._emit(kind, {"item_id": item.id, "output_index": item.index, name: arguments})
            self._close(item, {name: arguments}, status if item is calls[-1] else "completed")

    # -- the rest

    def _media(self, event: MediaAdded) -> None:
        if event.media.kind is not MediaKind.IMAGE or event.media.data is None:
            return
        self._close_calls()
        item = self._open("ig", "image_generation_call", {"result": None})
        self._emit("response.image_generation_call.completed", {"item_id": item.id, "output_index": item.index})
        self._close(item, picture(event.media))

    def _finished(self, event: Finished) -> None:
        self._begin()
        self._finish = event.reason

    def _report(self, event: UsageReported) -> None:
        self._usage = event.usage

    def _ping(self, event: Pinged) -> None:
        self._out.append(PING)


def _logprobs_first(events: list[Event]) -> list[Event]:
    """Log probabilities before the text they belong to: some protocols tell them after it."""
    found = list(events)
    for index in range(1, len(found)):
        before = type(found[index - 2]) if index > 1 else None
        if type(found[index]) is LogprobsAdded and type(found[index - 1]) is TextDelta and before is not LogprobsAdded:
            found[index - 1], found[index] = found[index], found[index - 1]
    return found


# Failed and Ended say nothing themselves: `fail` and `finish` do.
HANDLERS: Final[dict[type[Any], Callable[[Encoder, Any], None]]] = {
    Started: Encoder._begin,
    TextDelta: Encoder._text,
    RefusalDelta: Encoder._refusal,
    ThinkingDelta: Encoder._think,
    ThinkingEnded: Encoder._end_thought,
    ToolCallStarted: Encoder._start_call,
    ToolCallDelta: Encoder._call_delta,
    CitationAdded: Encoder._citation,
    MediaAdded: Encoder._media,
    LogprobsAdded: Encoder._add_logprobs,
    Finished: Encoder._finished,
    UsageReported: Encoder._report,
    Pinged: Encoder._ping,
}
