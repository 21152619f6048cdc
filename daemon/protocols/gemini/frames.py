"""Cut a stream into its JSON objects: server-sent events, or the elements of one array; which, its first byte tells."""

from __future__ import annotations

import re
from typing import Final

from daemon.protocols.sse import Framer, LineTooLong, parse_frame

__all__ = ["MAX_ELEMENT", "ArrayFramer", "Frames"]

MAX_ELEMENT: Final = 32 * 1024 * 1024  # a generated image comes as one
QUOTE, BRACE, END = b'"{]'
OPENING: Final = b"{["
_NO_BRACKET: Final = re.compile(rb"[^{}\[\]]*+")
# Strings as a whole: it stops at a bracket, or at a string that has no end yet.
_TO_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SPACE: Final = b" \t\r\n"


class ArrayFramer:
    """Collects chunks and gives out the objects at the top of an array, or of a row of objects without one.

    However the bytes are cut into chunks, the objects are the same. `closed`: the array's end has passed.
    """

    def __init__(self, most: int = MAX_ELEMENT) -> None:
        self._most = most
        self._buffer = bytearray()
        self._at = 0  # up to here the buffer is scanned
        self._depth = 0  # brackets that are open inside an object
        self._in_string = False
        self.closed = False

    def split(self, chunk: bytes) -> list[bytes]:
        """The objects that `chunk` completes. LineTooLong (sse) when one exceeds the limit."""
        return [piece for is_object, piece in self.pieces(chunk) if is_object]

    def pieces(self, chunk: bytes) -> list[tuple[bool, bytes]]:
        """Every byte that can go on, in order: (True, an object) or (False, what stands between objects)."""
        buffer = self._buffer
        buffer += chunk
        found: list[tuple[bool, bytes]] = []
        begun = 0
        while (place := self._next()) is not None:
            byte = buffer[place]
            if self._depth == 0 and byte == BRACE:
                if place > begun:
                    found.append((False, bytes(buffer[begun:place])))
                begun = place
                self._depth = 1
            elif self._depth == 0:
                self.closed = self.closed or byte == END
            elif byte in OPENING:
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    found.append((True, bytes(buffer[begun : place + 1])))
                    begun = place + 1
        if self._depth == 0 and self._at > begun:
            found.append((False, bytes(buffer[begun : self._at])))
            begun = self._at
        del buffer[:begun]
        self._at -= begun
        self._check(found)
        return found

    def rest(self) -> bytes:
        """What is left of an object that never ended."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._at = 0
        return rest

    def _next(self) -> int | None:
        """The place of the next bracket outside of strings; None when the rest holds none."""
        buffer = self._buffer
        while True:
            if self._in_string:
                found = _STRING.match(buffer, self._at)
                self._at = found.end() if found else self._at
                if buffer[self._at : self._at + 1] != b'"':
                    return None  # the string goes on, maybe with an escape that is cut in two
                self._at += 1
                self._in_string = False
            # Outside of objects a quote opens nothing: only nonsense stands there.
            found = (_TO_BRACKET if self._depth else _NO_BRACKET).match(buffer, self._at)
            place = found.end() if found else self._at
            if place == len(buffer):
                self._at = place
                return None
            self._at = place + 1
            if buffer[place] != QUOTE:
                return place
            self._in_string = True

    def _check(self, found: list[tuple[bool, bytes]]) -> None:
        for index, (_, piece) in enumerate(found):
            if len(piece) > self._most:
                raise LineTooLong(self._most, [piece for is_object, piece in found[:index] if is_object])
        if len(self._buffer) > self._most:
            raise LineTooLong(self._most, [piece for is_object, piece in found if is_object])


class Frames:
    """The JSON texts of a stream in either form. `ended`: an array's end has passed; events have no such sign."""

    def __init__(self, most: int = MAX_ELEMENT) -> None:
        self._most = most
        self._events: Framer | None = None
        self._elements: ArrayFramer | None = None

    @property
    def ended(self) -> bool:
        return self._elements is not None and self._elements.closed

    def split(self, chunk: bytes) -> list[bytes]:
        """What `chunk` completes. LineTooLong (sse) with what came before, when one exceeds the limit."""
        if self._elements is not None:
            return self._elements.split(chunk)
        if self._events is None:
            chunk = chunk.lstrip(_SPACE)
            if not chunk:
                return []
            if chunk[:1] in (b"[", b"{"):
                self._elements = ArrayFramer(self._most)
                return self._elements.split(chunk)
            self._events = Framer(self._most)
        try:
            return _texts(self._events.split(chunk))
        except LineTooLong as error:
            raise LineTooLong(self._most, _texts(error.frames)) from None

    def split_rest(self) -> list[bytes]:
        """The stream is over: the event that stands after the last blank line, or half of an element."""
        if self._elements is not None:
            rest = self._elements.rest().strip()
            return [rest] if rest else []
        return _texts(self._events.split_rest()) if self._events is not None else []


def _texts(raws: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for raw in raws:
        data = parse_frame(raw).data
        if not data and raw.lstrip(_SPACE)[:1] in (b"{", b"["):
            data = raw  # Google writes an error among the events as plain JSON
        if data:
            found.append(data)
    return found
