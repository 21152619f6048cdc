"""Watch the stream of a chat completion pass (StreamReader), and change the little that must change (StreamAdapter)."""

from __future__ import annotations

from typing import Any, Final

import jiter

from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.openai_chat.usage import CALL, delta_texts, raw_usage, usage_of
from daemon.protocols.rename import json_string, rename_in_frame
from daemon.protocols.sse import MAX_LINE, Framer, LineTooLong, parse_frame

__all__ = ["StreamAdapter", "StreamReader"]

PENDING_MAX: Final = 64 * 1024  # raw bytes kept undecoded; usage usually makes their text unnecessary
TEXT_MAX: Final = 1024 * 1024  # characters kept for counting; beyond it only their number
DONE: Final = b"[DONE]"


class StreamReader:
    """Reads the usage off a stream without touching it.

    `feed` looks at bytes and decodes only the events that can carry usage, an error, the end of a choice or the first
    output. The others wait undecoded (64 KiB at most) until their text is asked for or must make room. After it:

    - `usage`: of the last event that had one (not null); None when there was none or it was not believable
    - `early_usage`: output may have passed after that event
    - `usage_invalid`: why the last one was not believed, else ""
    - `delivered`: something generated has passed
    - `done`: [DONE] has passed; `finish_reasons`: choice -> reason; `error`: the error object of an error event
    - `garbage`: events that were not JSON objects, among those decoded so far
    - `events`: grows with every chunk that completes an event with data; comments alone leave it as it is
    """

    __slots__ = (
        "_framer",
        "_pending",
        "_pending_size",
        "_size",
        "_texts",
        "delivered",
        "done",
        "early_usage",
        "error",
        "events",
        "finish_reasons",
        "garbage",
        "usage",
        "usage_invalid",
    )

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._framer = Framer(max_line)
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._texts: dict[str, list[str]] = {}
        self._size = 0
        self.delivered = False
        self.done = False
        self.early_usage = False
        self.error: dict[str, Any] | None = None
        self.events = 0
        self.finish_reasons: dict[int, str] = {}
        self.garbage = 0
        self.usage: Usage | None = None
        self.usage_invalid = ""

    def feed(self, chunk: bytes) -> None:
        """Watch one chunk. LineTooLong (sse) when an event exceeds the limit; what came before it is read."""
        if self.delivered and chunk.startswith(b"data") and self._framer.passes(chunk) and not _is_telling(chunk):
            self.events += 1
            self.early_usage = self.usage is not None
            self._keep(chunk)
            return
        try:
            frames = self._framer.split(chunk)
        except LineTooLong as error:
            for raw in error.frames:
                self._event(raw)
            raise
        for raw in frames:
            self._event(raw)

    def flush(self) -> None:
        """The stream is over: read the event that stands after the last blank line, if one does."""
        for raw in self._framer.split_rest():
            self._event(raw)

    @property
    def delivered_chars(self) -> int:
        """Characters generated so far, over all choices (content, reasoning, refusals, tool calls)."""
        self._decode_pending()
        return self._size

    @property
    def tool_calls(self) -> int:
        """Tool calls begun so far, over all choices."""
        self._decode_pending()
        return sum(CALL in channel for channel in self._texts)

    def estimate_text(self) -> str:
        """The text generated so far for counting its tokens, at most 1 MiB characters; see `delivered_chars`."""
        self._decode_pending()
        return "\n".join("".join(parts) for parts in self._texts.values())

    def _event(self, raw: bytes) -> None:
        if raw[:1] in (b":", b"\n", b"\r") and b"data" not in raw:
            return
        self.events += 1
        if self.delivered and not _is_telling(raw):
            self.early_usage = self.usage is not None
            self._keep(raw)
            return
        frame = parse_frame(raw)
        data = frame.data
        if not data:
            self.events -= 1
            return
        if data.strip() == DONE:
            self.done = True
            return
        obj = _decode(data)
        if obj is None:
            self.garbage += 1
            return
        self._read(obj, frame.event)
        if self._pending:
            self._keep(raw)  # its text comes after that of the events which wait
        else:
            self._collect(obj)

    def _read(self, obj: dict[str, Any], event: str) -> None:
        error = obj.get("error")
        if error or event == "error":
            self.error = error if type(error) is dict else {"message": error if type(error) is str else ""}
        if raw_usage(obj) is not None:
            self.early_usage = False
            try:
                # The last one, never a sum: hosts repeat cumulative counts, some in every chunk.
                self.usage, self.usage_invalid = usage_of(obj), ""
            except InvalidUsage as problem:
                self.usage, self.usage_invalid = None, str(problem)
        choices = obj.get("choices")
        if type(choices) is list:
            for choice in choices:
                if type(choice) is dict and type(reason := choice.get("finish_reason")) is str:
                    index = choice.get("index")
                    self.finish_reasons[index if type(index) is int else 0] = reason

    def _keep(self, raw: bytes) -> None:
        self._pending.append(raw)
        self._pending_size += len(raw)
        if self._pending_size > PENDING_MAX:
            self._decode_pending()

    def _decode_pending(self) -> None:
        pending, self._pending, self._pending_size = self._pending, [], 0
        for chunk in pending:
            # A kept chunk is one event of any form, or several with LF ends.
            for raw in [chunk] if b"\r" in chunk else chunk.split(b"\n\n"):
                data = raw[6:] if raw.startswith(b"data: ") and b"\n" not in raw else parse_frame(raw).data
                if not data or data.strip() == DONE:
                    continue
                obj = _decode(data)
                if obj is None:
                    self.garbage += 1
                else:
                    self._collect(obj)

    def _collect(self, obj: dict[str, Any]) -> None:
        for channel, text in delta_texts(obj):
            self.delivered = True
            if self._size + len(text) <= TEXT_MAX:
                self._texts.setdefault(channel, []).append(text)
            self._size += len(text)


def _is_telling(raw: bytes) -> bool:
    """Whether an event may say more than text. Text cannot imitate it: quotes inside JSON strings are escaped."""
    if b'"error"' in raw or DONE in raw or raw.startswith(b"event") or b"\nevent" in raw:
        return True
    return _has_value(raw, b'"usage"') or _has_value(raw, b'"finish_reason"')


def _has_value(raw: bytes, key: bytes) -> bool:
    """Whether a key stands in the bytes with another value than null."""
    at = raw.find(key)
    while at >= 0:
        at += len(key)
        if not raw.startswith((b":null", b": null"), at):
            return True
        at = raw.find(key, at)
    return False


def _decode(data: bytes) -> dict[str, Any] | None:
    try:
        obj = jiter.from_json(data, cache_mode="keys")
    except ValueError:
        return None
    return obj if type(obj) is dict else None


class StreamAdapter:
    """Passes a stream on with two changes at most; every other byte, comments and odd spacing included, stays.

    `strip_usage` drops the chunk that exists only to carry usage (no choices), which the gateway asked for and its
    client did not. `model_name` replaces the value of the top-level `model` of each event, so that a client sees the
    name it used. An event is passed on when it is whole; without either change chunks pass at once.
    """

    __slots__ = ("_framer", "_model", "_strip_usage")

    def __init__(self, *, strip_usage: bool = False, model_name: str | None = None, max_line: int = MAX_LINE) -> None:
        self._framer = Framer(max_line)
        self._strip_usage = strip_usage
        self._model = json_string(model_name) if model_name is not None else None

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that go on to the client for this chunk. LineTooLong (sse) when an event exceeds the limit."""
        if self._model is None and not self._strip_usage:
            return chunk
        if self._model is None and self._framer.passes(chunk) and not _has_value(chunk, b'"usage"'):
            return chunk
        return self._adapt(self._framer.split(chunk))

    def flush(self) -> bytes:
        """What is left when the stream is over."""
        return self._adapt(self._framer.split_rest())

    def _adapt(self, frames: list[bytes]) -> bytes:
        out: list[bytes] = []
        for raw in frames:
            if self._strip_usage and _has_value(raw, b'"usage"') and _is_usage_only(raw):
                continue
            out.append(rename_in_frame(raw, self._model) if self._model is not None else raw)
        return b"".join(out)


def _is_usage_only(raw: bytes) -> bool:
    obj = _decode(parse_frame(raw).data)
    return obj is not None and not obj.get("choices") and type(obj.get("usage")) is dict and "error" not in obj
