"""Replies whose dialect the gateway relays without knowing it: only usage objects of known shapes are read.

| shape | input | cached | output |
|---|---|---|---|
| prompt_tokens … | includes cached | prompt_tokens_details.cached_tokens | completion_tokens |
| input_tokens with input_tokens_details, or total_tokens | includes cached | input_tokens_details.cached_tokens |
output_tokens | | input_tokens with cache_read/cache_creation_input_tokens | excludes both | cache_read_input_tokens |
output_tokens |

A usage object stands at the top, in `response`, or in `message`. In a stream the fields of later ones replace earlier
ones: they are cumulative, never added.
"""

from __future__ import annotations

from typing import Any, Final

import jiter

from daemon.domain.usage import InvalidUsage, Usage, checked_count
from daemon.protocols.hosted import hosted_calls_of, with_hosted
from daemon.protocols.sse import MAX_LINE, Framer, parse_frame
from daemon.protocols.tiers import reported_tier

__all__ = ["StreamReader", "reply_text", "usage_of"]

HOLDERS: Final = ("response", "message")
TEXT_KEYS: Final = frozenset({"text", "delta", "content", "partial_json", "thinking", "arguments", "output_text"})
TEXT_MAX: Final = 1024 * 1024


def raw_usage(reply: dict[str, Any]) -> dict[str, Any] | None:
    """The usage object, wherever it stands."""
    for holder in (reply, *(reply.get(name) for name in HOLDERS)):
        if isinstance(holder, dict) and isinstance(found := holder.get("usage"), dict):
            return found
    return None


def usage_of(reply: dict[str, Any]) -> Usage | None:
    """As disjoint meters; None when there is none, InvalidUsage when it cannot be true."""
    found = raw_usage(reply)
    return None if found is None else _read(found, _tier(reply), reply.get("output"))


def _tier(reply: dict[str, Any]) -> str | None:
    response = reply.get("response")
    return reported_tier(response if isinstance(response, dict) else reply)


def _optional(holder: object, name: str) -> int:
    value = holder.get(name) if isinstance(holder, dict) else None
    return 0 if value is None else checked_count(value, name)


def _read(usage: dict[str, Any], tier: str | None, items: object = None) -> Usage:
    names = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
    if "input_tokens" in usage:
        names = ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
    elif "prompt_tokens" not in usage:
        raise InvalidUsage("usage of an unknown shape")
    prompt, output = checked_count(usage[names[0]], names[0]), _optional(usage, names[1])
    cached = _optional(usage.get(names[2]), "cached_tokens")
    if cached > prompt:
        raise InvalidUsage("more cached tokens than prompt tokens")
    meters = {"input": prompt - cached, "output": output}
    cached += _optional(usage, "cache_read_input_tokens")
    written = _optional(usage, "cache_creation_input_tokens")
    long = min(written, _optional(usage.get("cache_creation"), "ephemeral_1h_input_tokens"))
    for meter, count in (("cached_input", cached), ("cache_write_5m", written - long), ("cache_write_1h", long)):
        if count:
            meters[meter] = count
    meters = with_hosted(meters, hosted_calls_of(usage, items))
    return Usage(meters, _optional(usage.get(names[3]), "reasoning_tokens"), tier=reported_tier(usage) or tier)


def reply_text(reply: dict[str, Any]) -> str:
    """Every generated string that a reply of unknown shape may hold, at most 1 MiB."""
    found: list[str] = []
    _collect(reply, found, 0)
    return "\n".join(found)[:TEXT_MAX]


def _collect(value: object, found: list[str], depth: int) -> None:
    if depth > 12:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str):
                if key in TEXT_KEYS:
                    found.append(inner)
            else:
                _collect(inner, found, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _collect(inner, found, depth + 1)


class StreamReader:
    """Reads usage off a stream of unknown dialect without touching it. Same attributes as the other readers."""

    __slots__ = (
        "_framer",
        "_size",
        "_texts",
        "_tier",
        "_usage",
        "delivered",
        "done",
        "early_usage",
        "error",
        "events",
        "finish_reasons",
        "garbage",
    )

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._framer = Framer(max_line)
        self._usage: dict[str, Any] = {}
        self._tier: str | None = None
        self._texts: list[str] = []
        self._size = 0
        self.delivered = False
        self.early_usage = False  # text came after the last usage
        self.done = False
        self.error: dict[str, Any] | None = None
        self.events = 0
        self.finish_reasons: dict[int, str] = {}
        self.garbage = 0  # what is not JSON may be right in a dialect that is not known

    @property
    def usage(self) -> Usage | None:
        """Of the last events that told it; None when none did or it cannot be true."""
        try:
            return _read(self._usage, self._tier) if self._usage else None
        except InvalidUsage:
            return None

    @property
    def delivered_chars(self) -> int:
        """Characters of generated text so far."""
        return self._size

    def feed(self, chunk: bytes) -> None:
        """Watch one chunk."""
        self._read_frames(self._framer.split(chunk))

    def flush(self) -> None:
        """The stream is over."""
        self._read_frames(self._framer.split_rest())

    def estimate_text(self) -> str:
        """The text generated so far."""
        return "\n".join(self._texts)

    def _read_frames(self, frames: list[bytes]) -> None:
        for raw in frames:
            data = parse_frame(raw).data
            if not data:
                continue
            self.events += 1
            if data.strip() == b"[DONE]":
                self.done = True
                continue
            self.delivered = True
            try:
                event = jiter.from_json(data)
            except ValueError:
                continue
            if isinstance(event, dict):
                self._read_event(event)

    def _read_event(self, event: dict[str, Any]) -> None:
        found = raw_usage(event)
        if found is not None:
            self._usage.update({name: value for name, value in found.items() if value is not None})
            self.early_usage = False
            self._tier = _tier(event) or self._tier
        if event.get("type") == "error" and isinstance(event.get("error"), dict):
            self.error = event["error"]
        if self._size < TEXT_MAX and (found is None or "delta" in event):
            text = reply_text(event)
            self._texts.append(text)
            self._size += len(text)
            self.early_usage = self.early_usage or (found is None and bool(text and self._usage))
