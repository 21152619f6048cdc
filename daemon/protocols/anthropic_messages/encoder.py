"""Events → a stream of a message for a client, in the order that the official SDKs and Claude Code insist on.

message_start; for each block content_block_start, its deltas, content_block_stop; message_delta with the stop reason and the
usage; message_stop. Blocks are numbered as they start. One text or thinking block is open at a time; a call stays open beside
the next one only when its arguments are not whole yet, for hosts that send the arguments of several calls in turns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import jiter

from daemon.domain.chat import (
    Chat,
    CitationAdded,
    Event,
    Finish,
    Finished,
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
from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols.anthropic_messages.citations import encode_citation
from daemon.protocols.anthropic_messages.errors import error_frame
from daemon.protocols.anthropic_messages.reply import CallIds, stop_reason
from daemon.protocols.anthropic_messages.seals import call_signature_block, thinking_blocks
from daemon.protocols.anthropic_messages.usage import usage_object
from daemon.protocols.anthropic_messages.values import compact

__all__ = ["Encoder"]

PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
TEXT: Final = "text"
THINKING: Final = "thinking"


@dataclass(slots=True)
class _Call:
    """An open tool_use block."""

    block: int
    head: bytes  # of its delta events
    custom: bool
    pieces: list[str] = field(default_factory=list)


class Encoder:
    """Implements base.StreamEncoder. Answers other than the first, log probabilities and media have no place."""

    def __init__(self, *, model: str, id: str, created: int, chat: Chat) -> None:
        self._model, self._id = model, id
        self._out: list[bytes] = []
        self._started = False
        self._open = ""  # TEXT, THINKING or nothing
        self._head = b""  # the bytes of a delta event of the open block, up to the delta's value
        self._blocks = 0
        self._calls: dict[int, _Call] = {}
        self._seen: set[int] = set()  # calls that were begun
        self._ids = CallIds()
        self._finish: Finished | None = None
        self._refused = False
        self._usage: Usage | None = None

    def feed(self, events: list[Event]) -> bytes:
        """What goes to the client for these events."""
        for event in events:
            handler = HANDLERS.get(type(event))
            if handler is not None and not getattr(event, "choice", 0):
                handler(self, event)
        return self._take()

    def finish(self, usage: Usage | None) -> bytes:
        """The end of a complete stream."""
        self._begin()
        self._close()
        reason = stop_reason(self._finish.reason if self._finish else None, self._refused, self._ids.count > 0)
        sequence = self._finish.stop_sequence if self._finish and reason == "stop_sequence" else None
        found = usage if usage is not None else self._usage
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        self._emit("message_delta", {"delta": delta, "usage": usage_object(found)})
        self._out.append(STOP)
        return self._take()

    def fail(self, error: ApiError) -> bytes:
        """The end of a stream that broke."""
        self._out.append(error_frame(error))
        return self._take()

    def _take(self) -> bytes:
        out, self._out = self._out, []
        return b"".join(out)

    def _emit(self, kind: str, fields: dict[str, Any]) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), _bytes({"type": kind, **fields})))

    def _begin(self, event: Started | None = None) -> None:
        if self._started:
            return
        self._started = True
        if event is not None:
            self._usage = event.usage
        message: dict[str, Any] = {
            "id": event.id if event is not None and event.id else self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_object(self._usage),
        }
        self._emit("message_start", {"message": message})

    # -- blocks

    def _start_block(self, block: dict[str, Any], delta: str, value: str) -> int:
        """The index of a new block; `delta` and `value`: the type of its deltas, and their member that grows."""
        self._begin()
        index = self._blocks
        self._blocks += 1
        self._emit("content_block_start", {"index": index, "content_block": block})
        self._head = _head(index, delta, value)
        return index

    def _stop_block(self, index: int) -> None:
        self._out.append(b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % index)

    def _close_open(self) -> None:
        if self._open:
            self._open = ""
            self._stop_block(self._blocks - 1)

    def _close(self) -> None:
        """Everything that is open."""
        self._close_open()
        for call in self._calls.values():
            self._stop_call(call)
        self._calls.clear()

    def _whole_block(self, block: dict[str, Any]) -> None:
        """A block that has no deltas."""
        self._stop_block(self._start_block(block, "", ""))

    def _grow(self, text: str) -> None:
        self._out.append(b"%b%b}}\n\n" % (self._head, _bytes(text)))

    def _open_text(self) -> None:
        if self._open != TEXT:
            self._close()
            self._start_block({"type": "text", "text": ""}, "text_delta", "text")
            self._open = TEXT

    def _text(self, event: TextDelta | RefusalDelta) -> None:
        if event.text:
            self._open_text()
            self._grow(event.text)

    def _refusal(self, event: RefusalDelta) -> None:
        self._refused = self._refused or bool(event.text)
        self._text(event)

    def _cite(self, event: CitationAdded) -> None:
        if (citation := encode_citation(event.citation)) is not None:
            self._open_text()
            delta = {"type": "citations_delta", "citation": citation}
            self._emit("content_block_delta", {"index": self._blocks - 1, "delta": delta})

    # -- thoughts

    def _think(self, event: ThinkingDelta) -> None:
        if event.text:
            self._open_thought()
            self._grow(event.text)

    def _open_thought(self) -> None:
        if self._open != THINKING:
            self._close()
            self._start_block({"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta", "thinking")
            self._open = THINKING

    def _end_thought(self, event: ThinkingEnded) -> None:
        for block in thinking_blocks(Thinking("", event.signature, event.encrypted, origin=event.origin)):
            if block["type"] == "thinking":
                self._sign(block["signature"])
            else:
                self._close()
                self._whole_block(block)
        if self._open == THINKING:
            self._close_open()

    def _sign(self, signature: str) -> None:
        self._open_thought()
        delta = {"type": "signature_delta", "signature": signature}
        self._emit("content_block_delta", {"index": self._blocks - 1, "delta": delta})
        self._close_open()

    # -- calls

    def _start_call(self, event: ToolCallStarted) -> None:
        if event.index in self._seen:
            return
        self._seen.add(event.index)
        if event.signature is not None:
            self._close()
            self._sign(call_signature_block(event.signature)["signature"])
        self._close_open()
        for index, call in list(self._calls.items()):
            if _is_whole(call):
                self._stop_call(self._calls.pop(index))
        block = {"type": "tool_use", "id": self._ids.of(event.id), "name": event.name, "input": {}}
        index = self._start_block(block, "input_json_delta", "partial_json")
        self._calls[event.index] = _Call(index, self._head, event.custom)

    def _call_delta(self, event: ToolCallDelta) -> None:
        call = self._calls.get(event.index)
        if call is None or not event.arguments:
            return
        call.pieces.append(event.arguments)
        if not call.custom:
            self._emit_input(call, event.arguments)

    def _emit_input(self, call: _Call, text: str) -> None:
        self._out.append(b"%b%b}}\n\n" % (call.head, _bytes(text)))

    def _stop_call(self, call: _Call) -> None:
        if call.custom:  # free text becomes an object, which has to be written at once
            self._emit_input(call, compact({"input": "".join(call.pieces)}))
        self._stop_block(call.block)

    # -- the rest

    def _finished(self, event: Finished) -> None:
        self._begin()
        if self._finish is None or self._finish.reason is Finish.STOP:
            self._finish = event

    def _report(self, event: UsageReported) -> None:
        self._usage = event.usage

    def _ping(self, event: Pinged) -> None:
        self._out.append(PING)


def _bytes(value: object) -> bytes:
    try:
        return compact(value).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return compact(value).encode("utf-8", "replace")


def _head(index: int, delta: str, value: str) -> bytes:
    return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":' % (
        index,
        delta.encode(),
        value.encode(),
    )


def _is_whole(call: _Call) -> bool:
    """Whether nothing can follow: the arguments so far are a JSON value."""
    if call.custom:
        return False
    try:
        jiter.from_json("".join(call.pieces).encode("utf-8", "replace"))
    except ValueError:
        return False
    return True


# Failed and Ended say nothing themselves: `fail` and `finish` do.
HANDLERS: Final[dict[type[Any], Callable[[Encoder, Any], None]]] = {
    Started: Encoder._begin,
    TextDelta: Encoder._text,
    RefusalDelta: Encoder._refusal,
    ThinkingDelta: Encoder._think,
    ThinkingEnded: Encoder._end_thought,
    ToolCallStarted: Encoder._start_call,
    ToolCallDelta: Encoder._call_delta,
    CitationAdded: Encoder._cite,
    Finished: Encoder._finished,
    UsageReported: Encoder._report,
    Pinged: Encoder._ping,
}
