"""Show a client the model under the name that it used: in whole replies and in streams, touching no other byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from daemon.protocols.json_spans import Edit, Span, apply_edits, known_key_span, member_edit, top_level_span
from daemon.protocols.sse import BOM, MAX_LINE, Framer, one_line

__all__ = ["TOP", "Path", "StreamRenamer", "json_string", "rename_in_frame", "rename_model", "with_members"]

Path = tuple[str, ...]  # keys from the outermost object inwards
TOP: Final[tuple[Path, ...]] = (("model",),)


def json_string(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")


def with_members(body: bytes, data: dict[str, object], wanted: dict[str, bytes]) -> bytes:
    """`body` with these top-level members set to the JSON given; `data` is `body` decoded strictly (unique keys)."""
    edits: list[Edit] = [
        member_edit(body, name, value, known_key_span(body, name) if name in data else None) for name, value in wanted.items()
    ]
    return apply_edits(body, edits) if edits else body


def rename_model(body: bytes, name: str, paths: Iterable[Path] = TOP) -> bytes:
    """A reply's bytes with the model named `name`, where the first of `paths` leads to one; unchanged otherwise."""
    span = _span(body, paths)
    return body if span is None else body[: span[0]] + json_string(name) + body[span[1] :]


def _span(body: bytes, paths: Iterable[Path]) -> Span | None:
    for path in paths:
        start, span = 0, None
        for key in path:
            span = top_level_span(body[start:], key)
            if span is None:
                break
            span = start + span[0], start + span[1]
            start = span[0]
        if span is not None:
            return span
    return None


class StreamRenamer:
    """Passes a stream of events on with the model renamed in each; an event is passed on when it is whole."""

    __slots__ = ("_framer", "_model", "_paths")

    def __init__(self, name: str, paths: tuple[Path, ...] = TOP, max_line: int = MAX_LINE) -> None:
        self._framer = Framer(max_line)
        self._model = json_string(name)
        self._paths = paths

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that go on to the client for this chunk. LineTooLong (sse) when an event exceeds the limit."""
        if self._framer.passes(chunk) and b'"model' not in chunk:
            return chunk
        return b"".join([rename_in_frame(raw, self._model, self._paths) for raw in self._framer.split(chunk)])

    def flush(self) -> bytes:
        """What is left when the stream is over."""
        return b"".join([rename_in_frame(raw, self._model, self._paths) for raw in self._framer.split_rest()])


def rename_in_frame(raw: bytes, model: bytes, paths: tuple[Path, ...] = TOP) -> bytes:
    """One event with the JSON string `model` in place of the model that it names, if it names one."""
    if b'"model' not in raw:
        return raw
    if (end := one_line(raw)) is not None:
        span = _span(raw[6:end], paths)
        return raw if span is None else raw[: 6 + span[0]] + model + raw[6 + span[1] :]
    return _in_lines(raw, model, paths)


def _in_lines(raw: bytes, model: bytes, paths: tuple[Path, ...]) -> bytes:
    """The same for an event in any legal form: CRs, several data lines, other fields. A string stays on its line."""
    pieces: list[tuple[int, int]] = []  # where each data line's value stands in raw, and in the joined data
    joined = bytearray()
    at = 0
    for line in raw.splitlines(keepends=True):
        value = line.rstrip(b"\r\n")
        if at == 0 and value.startswith(BOM):
            value = value[len(BOM) :]
            at = len(BOM)
            line = line[len(BOM) :]
        if value.startswith(b"data:"):
            skip = 6 if value.startswith(b"data: ") else 5
            if pieces:
                joined += b"\n"
            pieces.append((at + skip, len(joined)))
            joined += value[skip:]
        at += len(line)
    span = _span(bytes(joined), paths) if pieces else None
    if span is None:
        return raw
    place, base = next((place, base) for place, base in reversed(pieces) if base <= span[0])
    start, end = place + span[0] - base, place + span[1] - base
    return raw[:start] + model + raw[end:]
