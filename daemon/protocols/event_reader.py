"""Watch the stream of a one-shot endpoint pass: usage, text, errors, its end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import jiter

from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.sse import Framer, LineTooLong, parse_frame

__all__ = ["EventReader", "Skimmer"]

TEXT_MAX: Final = 1024 * 1024  # characters kept for counting; beyond it only their number
KEPT: Final = 4096  # bytes of a run of base64 that are looked at
_RUN: Final = re.compile(rb"[A-Za-z0-9+/=_-]*")
_LONG: Final = re.compile(rb"[A-Za-z0-9+/=_-]{%d,}" % (KEPT + 1))


class Skimmer:
    """Leaves all but the beginning of long base64 out of a stream's bytes: an event with a picture in it need not be held.

    What is left is the same JSON with shorter strings, however the bytes are cut into chunks.
    """

    __slots__ = ("_run",)

    def __init__(self) -> None:
        self._run = 0  # bytes of the run that the last chunk ended in, KEPT at most

    def feed(self, chunk: bytes) -> bytes:
        """What is worth reading of this chunk."""
        if not self._run and len(chunk) <= KEPT:
            out = chunk
        else:
            lead = len(_RUN.match(chunk)[0])  # type: ignore[index]
            out = chunk[: min(lead, KEPT - self._run)] + _LONG.sub(lambda run: run[0][:KEPT], chunk[lead:])
        tail = chunk[: -KEPT - 1 : -1]
        ending = len(_RUN.match(tail)[0])  # type: ignore[index]
        self._run = min(KEPT, ending + (self._run if ending == len(chunk) else 0))
        return out


class EventReader:
    """Reads a stream without touching it. Same attributes as the reader of chat completions.

    Made of what tells the dialects apart: `usage_of` an event (None: it has none), `text_of` an event ("" for none), and
    the types of the events that `ends` it, where there is no [DONE]. With `more`, several such events may come: then they
    are finish reasons, and the stream is over when its bytes are. `skims`: long base64 in it is of no interest.
    """

    __slots__ = (
        *(
            "_ends",
            "_framer",
            "_more",
            "_size",
            "_skimmer",
            "_text_of",
            "_texts",
            "_usage_of",
            "delivered",
            "done",
            "early_usage",
            "error",
            "events",
        ),
        *("finish_reasons", "garbage", "tool_calls", "usage", "usage_invalid"),
    )

    def __init__(
        self,
        usage_of: Callable[[dict[str, Any]], Usage | None],
        text_of: Callable[[dict[str, Any]], str],
        ends: tuple[str, ...] = (),
        *,
        more: bool = False,
        skims: bool = False,
    ) -> None:
        self._usage_of, self._text_of, self._ends, self._more = usage_of, text_of, ends, more
        self._framer = Framer()
        self._skimmer = Skimmer() if skims else None
        self._texts: list[str] = []
        self._size = 0
        self.delivered = False
        self.done = False
        self.early_usage = False  # these dialects tell their usage at the end
        self.error: dict[str, Any] | None = None
        self.events = 0
        self.finish_reasons: dict[int, str] = {}
        self.garbage = 0
        self.tool_calls = 0
        self.usage: Usage | None = None
        self.usage_invalid = ""

    @property
    def delivered_chars(self) -> int:
        """Characters of generated text so far."""
        return self._size

    def estimate_text(self) -> str:
        """The text generated so far, at most 1 MiB characters."""
        return "".join(self._texts)

    def feed(self, chunk: bytes) -> None:
        """Watch one chunk. LineTooLong (sse) when an event exceeds the limit; what came before it is read."""
        if self._skimmer is not None:
            chunk = self._skimmer.feed(chunk)
        try:
            frames = self._framer.split(chunk)
        except LineTooLong as error:
            self._read_frames(error.frames)
            raise
        self._read_frames(frames)

    def flush(self) -> None:
        """The stream is over."""
        self._read_frames(self._framer.split_rest())

    def _read_frames(self, frames: list[bytes]) -> None:
        for raw in frames:
            frame = parse_frame(raw)
            if not frame.data:
                continue
            self.events += 1
            if frame.data.strip() == b"[DONE]":
                self.done = True
                continue
            try:
                event = jiter.from_json(frame.data)
            except ValueError:
                event = None
            if type(event) is dict:
                self._read(event, frame.event)
            else:
                self.garbage += 1

    def _read(self, event: dict[str, Any], name: str) -> None:
        error = event.get("error")
        if error or name == "error" or event.get("type") == "error":
            self.error = error if type(error) is dict else {"message": error if type(error) is str else ""}
            return
        self.delivered = True
        if event.get("type") in self._ends:
            self.done = not self._more
            self.finish_reasons[len(self.finish_reasons)] = "completed"
        text = self._text_of(event)
        if self._size + len(text) <= TEXT_MAX:
            self._texts.append(text)
        self._size += len(text)
        choices = event.get("choices")
        for choice in choices if type(choices) is list else ():
            if type(choice) is dict and type(choice.get("finish_reason")) is str:
                index = choice.get("index")
                self.finish_reasons[index if type(index) is int else 0] = choice["finish_reason"]
        try:
            usage = self._usage_of(event)
        except InvalidUsage as problem:
            self.usage, self.usage_invalid = None, str(problem)
            return
        if usage is not None:
            self.usage, self.usage_invalid = usage, ""
