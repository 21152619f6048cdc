"""Cut a byte stream into server-sent events, keeping every byte (WHATWG HTML, 9.2 Server-sent events)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Frame", "Framer", "LineTooLong", "WholeEvents", "ends_whole", "one_line", "parse_frame"]

MAX_LINE: Final = 1024 * 1024  # bytes; the default of the setting
LF: Final = 0x0A
OVERLAP: Final = 3  # bytes of an unfinished blank line: they are looked at again when more has come
BOM: Final = b"\xef\xbb\xbf"

# A line ends with CRLF, CR or LF. Atomic groups: CRLF is one end of line and never two.
_BLANK_LINE: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
BLANK_LINES: Final = (b"\n\n", b"\r\r", b"\r\n\r\n")
_END: Final = re.compile(rb"\r\n|\r|\n")


class LineTooLong(ValueError):
    """A line, or an event of many lines, is longer than the limit. `frames` came whole before it in the same
    chunk.
    """

    def __init__(self, limit: int, frames: list[bytes]) -> None:
        super().__init__(f"a line of the event stream is longer than {limit} bytes")
        self.frames = frames


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: `raw` are its exact bytes with the blank line that ends it, `data` its data lines joined by
    LF.

    `event` is "" when there is no such line. A frame of comments only, or a stray blank line, has neither
    data nor event: it is kept because its bytes belong to the stream.
    """

    raw: bytes
    event: str
    data: bytes


class Framer:
    """Collects chunks and gives out whole events. However the bytes are cut into chunks, the events are the
    same.
    """

    __slots__ = ("_buffer", "_carriage", "_max_line", "_scanned")

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._buffer = bytearray()  # the beginning of an event that is not whole yet
        self._scanned = 0  # bytes of the buffer that hold no end of an event
        self._carriage = False  # a CR was seen: this stream takes the slower way from then on

    def passes(self, chunk: bytes) -> bool:
        """Whether `chunk` is whole events with LF ends within the limit, none being open: it need not be split at all."""
        return (
            not self._buffer
            and not self._carriage
            and chunk.endswith(b"\n\n")
            and len(chunk) <= self._max_line
            and b"\r" not in chunk
        )

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that `chunk` completes. LineTooLong when one exceeds the limit."""
        return [parse_frame(raw) for raw in self.split(chunk)]

    def flush(self) -> list[Frame]:
        """What stands after the last blank line (some upstreams end without one); empty when nothing does."""
        return [parse_frame(raw) for raw in self.split_rest()]

    def split(self, chunk: bytes) -> list[bytes]:
        """As feed, but the raw bytes of each event only; joined, with split_rest, they are the input."""
        if b"\r" in chunk:
            self._carriage = True
        if self._buffer or self._carriage:
            self._buffer += chunk
            return self._split_buffer()
        # The common case: the chunk holds whole events that end with LF LF; nothing is copied but the events.
        frames: list[bytes] = []
        start, size = 0, len(chunk)
        while start < size:
            if chunk[start] == LF:
                end = start + 1
            elif (found := chunk.find(b"\n\n", start)) >= 0:
                end = found + 2
            else:
                self._buffer += chunk[start:]
                self._scanned = max(0, len(self._buffer) - OVERLAP)
                break
            frames.append(chunk[start:end])
            start = end
        self._check(frames)
        return frames

    def split_rest(self) -> list[bytes]:
        """As flush, the raw bytes only."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._scanned = 0
        if not rest:
            return []
        # A CR that was waiting for its LF may end an event of its own.
        frames: list[bytes] = []
        start = 0
        while found := self._next_end(rest, start, start):
            frames.append(rest[start:found])
            start = found
        if start < len(rest):
            frames.append(rest[start:])
        return frames

    def _split_buffer(self) -> list[bytes]:
        buffer = self._buffer
        frames: list[bytes] = []
        start, scan = 0, self._scanned
        while end := self._next_end(buffer, start, scan):
            if end == len(buffer) and buffer.endswith(b"\r"):
                break  # the LF that belongs to this CR may be in the next chunk
            frames.append(bytes(buffer[start:end]))
            start = scan = end
        if start:
            del buffer[:start]
        self._scanned = max(0, len(buffer) - OVERLAP)
        self._check(frames)
        return frames

    def _next_end(self, data: bytes | bytearray, start: int, scan: int) -> int:
        """Where the event that begins at `start` ends; 0 when it is not whole. Nothing ends before `scan`."""
        first = data[start : start + 1]
        if first == b"\n":
            return start + 1
        if not self._carriage:
            found = data.find(b"\n\n", scan)
            return found + 2 if found >= 0 else 0
        if first == b"\r":
            return start + 2 if data[start + 1 : start + 2] == b"\n" else start + 1
        blank = _BLANK_LINE.search(data, scan)
        return blank.end() if blank else 0

    def _check(self, frames: list[bytes]) -> None:
        for index, raw in enumerate(frames):
            if len(raw) > self._max_line:
                raise LineTooLong(self._max_line, frames[:index])
        if len(self._buffer) > self._max_line:
            raise LineTooLong(self._max_line, frames)


def one_line(raw: bytes) -> int | None:
    """Where the value ends in an event of one `data: ` line with LF or CRLF ends, as nearly all are; None for any other."""
    if raw.startswith(b"data: "):
        first = raw.find(b"\n")
        if first == len(raw) - 2 and b"\r" not in raw:
            return first
        if first == len(raw) - 3 and raw.endswith(b"\r\n\r\n") and raw.find(b"\r") == first - 1:
            return first - 1
    return None


class WholeEvents:
    """Passes a stream on unchanged, an event when it is whole: so that one which breaks off never ends in half an event."""

    __slots__ = ("_framer",)

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._framer = Framer(max_line)

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that go on for this chunk. LineTooLong when an event exceeds the limit."""
        return chunk if self._framer.passes(chunk) else b"".join(self._framer.split(chunk))

    def flush(self) -> bytes:
        """What stands after the last blank line."""
        return b"".join(self._framer.split_rest())


def ends_whole(passed: bytes) -> bool:
    """Whether these bytes, the last that were sent of a stream, end an event; True when nothing was sent."""
    return not passed or passed.endswith(BLANK_LINES)


def parse_frame(raw: bytes) -> Frame:
    """The event name and the data of one raw event. Lines of other fields and comments are skipped."""
    if (end := one_line(raw)) is not None:
        return Frame(raw, "", raw[6:end])
    event, data = "", []
    for line in _END.split(raw.removeprefix(BOM)):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.removeprefix(b" ").decode("utf-8", "replace")
    return Frame(raw, event, b"\n".join(data))
