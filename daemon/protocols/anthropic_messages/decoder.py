"""A provider's stream of a message → events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import jiter

from daemon.domain.chat import (
    CitationAdded,
    Ended,
    Event,
    Failed,
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
from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.anthropic_messages.blocks import arguments_of
from daemon.protocols.anthropic_messages.citations import decode_citation
from daemon.protocols.anthropic_messages.errors import read_error
from daemon.protocols.anthropic_messages.reply import explanation_of, finish_of, string_of, tier_of
from daemon.protocols.anthropic_messages.seals import CallSignature, open_thinking
from daemon.protocols.anthropic_messages.tables import NAME
from daemon.protocols.anthropic_messages.usage import overlaid, read_usage
from daemon.protocols.sse import Framer, LineTooLong, parse_frame

__all__ = ["Decoder"]

MAX_EVENT: Final = 16 * 1024 * 1024  # the results of hosted tools come as one event
DONE: Final = b"[DONE]"  # what hosts that imitate the API may add
Body = dict[str, Any]


@dataclass(slots=True)
class _Call:
    """An open tool_use block. `given`: the input that stood in its start, for hosts that send no deltas."""

    index: int
    given: object
    streamed: bool = False


class Decoder:
    """Implements base.StreamDecoder. `service_tier` is known at the end."""

    def __init__(self) -> None:
        self._framer = Framer(MAX_EVENT)
        self._out: list[Event] = []
        self._started = self._finished = self._over = False
        self._calls: dict[int, _Call] = {}  # open blocks of calls, by the index of the block
        self._called = 0
        self._thought = -1  # index of the open thinking block
        self._thinking = False
        self._signature = ""
        self._call_signature: str | None = None  # of the call that follows
        self._first: Body = {}  # usage of message_start
        self._later: Body = {}  # usage of the deltas: the last value of each field
        self.usage: Usage | None = None
        self.usage_invalid = ""
        self.garbage = 0

    @property
    def service_tier(self) -> str | None:
        return tier_of({**self._first, **self._later})

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes. Nothing is raised: an event that is too long ends the stream with Failed."""
        if self._over:
            return []
        try:
            frames = self._framer.split(chunk)
        except LineTooLong as error:
            for raw in error.frames:
                self._frame(raw)
            self._fail(Failed(str(error), "api_error"))
            return self._take()
        for raw in frames:
            self._frame(raw)
        return self._take()

    def flush(self) -> list[Event]:
        """The stream is over: the event that stands after the last blank line, if one does."""
        if not self._over:
            for raw in self._framer.split_rest():
                self._frame(raw)
        return self._take()

    def _take(self) -> list[Event]:
        out, self._out = self._out, []
        return out

    def _frame(self, raw: bytes) -> None:
        if self._over:
            return
        at = raw.find(b"\ndata: ")
        if at > 0 and raw.startswith(b"event: ") and raw.find(b"\n", at + 7) == len(raw) - 2 and b"\r" not in raw:
            data = raw[at + 7 : -2]  # the form in which nearly every event comes
        else:
            data = parse_frame(raw).data
        if not data:
            if raw.startswith(b":"):
                self._out.append(Pinged())
            return
        try:
            event = jiter.from_json(data, cache_mode="keys")
        except ValueError:
            event = None
        if type(event) is not dict:
            if data.strip() != DONE:
                self.garbage += 1
            return
        kind = event.get("type")
        if type(kind) is not str:
            kind = "error" if "error" in event else parse_frame(raw).event
        handler = HANDLERS.get(kind)
        if handler is not None:
            handler(self, event)

    # -- the life of a message

    def _start(self, event: Body) -> None:
        message = event.get("message")
        if type(message) is not dict:
            message = {}
        self._first = overlaid(self._first, message.get("usage"))
        usage = self._read_usage() if self._first else None
        if not self._started:
            self._started = True
            self._out.append(Started(string_of(message, "id"), string_of(message, "model"), 0, usage))

    def _ensure_started(self) -> None:
        if not self._started:
            self._started = True
            self._out.append(Started("", "", 0))

    def _delta(self, event: Body) -> None:
        self._ensure_started()
        delta = event.get("delta")
        if type(delta) is dict and not self._finished and (reason := finish_of(delta.get("stop_reason"))) is not None:
            self._finished = True
            self._close_blocks()
            if reason is Finish.REFUSAL and (words := explanation_of(delta)):
                self._out.append(RefusalDelta(words))
            self._out.append(Finished(reason, string_of(delta, "stop_sequence") or None))
        if type(event.get("usage")) is dict:
            self._later = overlaid(self._later, event["usage"])
            if (usage := self._read_usage()) is not None:
                self._out.append(UsageReported(usage))

    def _read_usage(self) -> Usage | None:
        """The usage so far; None when what was told last cannot be true."""
        try:
            found = read_usage({"output_tokens": 0, **self._first, **self._later})
        except InvalidUsage as problem:
            self.usage_invalid = str(problem)
            return None
        self.usage, self.usage_invalid = found, ""
        return found

    def _stop(self, event: Body) -> None:
        self._ensure_started()
        self._close_blocks()
        self._over = True
        self._out.append(Ended())

    def _error(self, event: Body) -> None:
        self._fail(read_error(event))

    def _fail(self, failed: Failed) -> None:
        self._over = True
        self._out.append(failed)

    def _ping(self, event: Body) -> None:
        self._out.append(Pinged())

    # -- blocks

    def _start_block(self, event: Body) -> None:
        block = event.get("content_block")
        if type(block) is not dict:
            return
        self._ensure_started()
        self._close_thought()
        kind, index = block.get("type"), _index(event)
        if kind == "text":
            if text := string_of(block, "text"):
                self._out.append(TextDelta(text))
            for citation in block["citations"] if type(block.get("citations")) is list else ():
                self._cite(citation)
        elif kind == "tool_use":
            self._start_call(index, block)
        elif kind == "thinking":
            self._thinking, self._thought, self._signature = True, index, string_of(block, "signature")
            if text := string_of(block, "thinking"):
                self._out.append(ThinkingDelta(text))
        elif kind == "redacted_thinking":
            self._out.append(ThinkingEnded(encrypted=string_of(block, "data"), origin=NAME))

    def _start_call(self, index: int, block: Body) -> None:
        if index in self._calls:
            return  # the same start again
        call = self._calls[index] = _Call(self._called, block.get("input"))
        self._called += 1
        signature, self._call_signature = self._call_signature, None
        self._out.append(ToolCallStarted(call.index, string_of(block, "id"), string_of(block, "name"), signature=signature))

    def _block_delta(self, event: Body) -> None:
        delta = event.get("delta")
        if type(delta) is not dict:
            return
        kind = delta.get("type")
        if kind == "text_delta":
            if text := string_of(delta, "text"):
                self._ensure_started()
                self._out.append(TextDelta(text))
        elif kind == "input_json_delta":
            call = self._calls.get(_index(event))
            if call is not None and (text := string_of(delta, "partial_json")):
                call.streamed = True
                self._out.append(ToolCallDelta(call.index, text))
        elif kind == "thinking_delta":
            if text := string_of(delta, "thinking"):
                self._ensure_started()
                self._thinking, self._thought = True, _index(event)
                self._out.append(ThinkingDelta(text))
        elif kind == "signature_delta":
            self._ensure_started()
            self._thinking, self._thought = True, _index(event)
            self._signature = string_of(delta, "signature")
        elif kind == "citations_delta":
            self._cite(delta.get("citation"))

    def _cite(self, value: object) -> None:
        if (citation := decode_citation(value)) is not None:
            self._ensure_started()
            self._out.append(CitationAdded(citation))

    def _stop_block(self, event: Body) -> None:
        index = _index(event)
        if self._thinking and index == self._thought:
            self._close_thought()
        elif (call := self._calls.pop(index, None)) is not None:
            if not call.streamed and not call.given:
                self._out.append(ToolCallDelta(call.index, "{}"))  # a call without arguments
            self._close_call(call)

    def _close_blocks(self) -> None:
        """What no event has closed."""
        self._close_thought()
        for call in self._calls.values():
            self._close_call(call)
        self._calls.clear()

    def _close_call(self, call: _Call) -> None:
        if not call.streamed and type(call.given) is dict and call.given:
            self._out.append(ToolCallDelta(call.index, arguments_of(call.given)))

    def _close_thought(self) -> None:
        if not self._thinking:
            return
        self._thinking = False
        found = open_thinking("", self._signature)
        self._signature = ""
        if isinstance(found, CallSignature):
            self._call_signature = found.signature
        else:
            self._out.append(_ended(found))


def _index(event: Body) -> int:
    """Of a block; hosts that number none have one open at a time."""
    index = event.get("index")
    return index if type(index) is int else -1


def _ended(thought: Thinking) -> ThinkingEnded:
    return ThinkingEnded(thought.signature, thought.encrypted, origin=thought.origin)


# What is not here is dropped: events that are not known, or will be added to the API.
HANDLERS: Final[dict[str, Callable[[Decoder, Body], None]]] = {
    "message_start": Decoder._start,
    "message_delta": Decoder._delta,
    "message_stop": Decoder._stop,
    "content_block_start": Decoder._start_block,
    "content_block_delta": Decoder._block_delta,
    "content_block_stop": Decoder._stop_block,
    "ping": Decoder._ping,
    "error": Decoder._error,
}
