"""Watch a stream through the decoder of its dialect: usage, text, errors, its end. The bytes are not touched."""

from __future__ import annotations

import re
from typing import Any, Final

from daemon.domain.chat import (
    Ended,
    Event,
    Failed,
    Finished,
    MediaAdded,
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
from daemon.domain.usage import Usage
from daemon.protocols.base import StreamDecoder

__all__ = ["DecodedReader"]

TEXT_MAX: Final = 1024 * 1024  # characters kept for counting; beyond it only their number
_BLANK_LINE: Final = re.compile(rb"\n\r?\n|\r\r")
_GENERATED: Final = (TextDelta, ThinkingDelta, RefusalDelta, ToolCallDelta, ToolCallStarted, MediaAdded)


class DecodedReader:
    """Same attributes as the reader of chat completions (openai_chat.StreamReader). Made with a fresh decoder."""

    __slots__ = (
        *("_begun", "_decoder", "_size", "_texts", "delivered", "done", "early_usage", "error", "events", "finish_reasons"),
        *("tool_calls",),
    )

    def __init__(self, decoder: StreamDecoder) -> None:
        self._decoder = decoder
        self._texts: list[str] = []
        self._size = 0
        self._begun = False  # an event, of which no end was seen
        self.delivered = False
        self.done = False
        self.early_usage = False
        self.error: dict[str, Any] | None = None
        self.events = 0
        self.finish_reasons: dict[int, str] = {}
        self.tool_calls = 0

    @property
    def usage(self) -> Usage | None:
        """Of the last events that told it; None when none did or it was not believable."""
        return None if self._decoder.usage_invalid else self._decoder.usage

    @property
    def usage_invalid(self) -> str:
        """Why it was not believed, else ""."""
        return self._decoder.usage_invalid

    @property
    def garbage(self) -> int:
        """Events that were not what they should be."""
        return self._decoder.garbage

    @property
    def delivered_chars(self) -> int:
        """Characters of generated text so far."""
        return self._size

    def estimate_text(self) -> str:
        """The text generated so far, at most 1 MiB characters."""
        return "".join(self._texts)

    def feed(self, chunk: bytes) -> list[Event]:
        """Watch one chunk; the events that it completes."""
        found = self._decoder.feed(chunk)
        if not found:
            self._begun = self._begun or b"data" in chunk
            if self._begun and _BLANK_LINE.search(chunk):
                self.events += 1  # something whole that the decoder has no event for
                self._begun = False
        self._note(found)
        return found

    def flush(self) -> list[Event]:
        """The stream is over."""
        found = self._decoder.flush()
        self._note(found)
        return found

    def _note(self, found: list[Event]) -> None:
        for event in found:
            kind = type(event)
            if kind is Pinged:
                continue
            self.events += 1
            if kind in _GENERATED:
                self._generated(event)
            elif isinstance(event, UsageReported) or (isinstance(event, Started) and event.usage is not None):
                self.early_usage = False
            elif isinstance(event, ThinkingEnded):
                self.delivered = True
            elif isinstance(event, Finished):
                self.finish_reasons[event.choice] = event.reason.value
            elif isinstance(event, Failed):
                self.error = {"message": event.message, "type": event.type, "code": event.code}
            elif isinstance(event, Ended):
                self.done = True

    def _generated(self, event: Event) -> None:
        self.delivered = True
        self.early_usage = self._decoder.usage is not None
        if isinstance(event, TextDelta | ThinkingDelta | RefusalDelta):
            text = event.text
        elif isinstance(event, ToolCallDelta):
            text = event.arguments
        elif isinstance(event, ToolCallStarted):
            self.tool_calls += 1
            text = event.name
        else:
            return
        if self._size + len(text) <= TEXT_MAX:
            self._texts.append(text)
        self._size += len(text)
