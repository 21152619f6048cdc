"""Where the values of a JSON object stand in its raw bytes, so that one can be replaced and no other byte
moves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

__all__ = ["Edit", "Span", "apply_edits", "known_key_span", "member_edit", "top_level_span", "top_level_spans"]

Span = tuple[int, int]  # [start, end) of a value
Edit = tuple[int, int, bytes]  # replace [start, end) by these bytes

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRING_REST: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^,\]} \t\r\n]+")
_OPEN: Final = b"{["


class NotAnObject(ValueError):
    """The bytes are not a whole JSON object."""


def top_level_spans(body: bytes, keys: Iterable[str], start: int = 0) -> dict[str, Span]:
    """The spans of the values of `keys` in the object that begins at `start` (space may stand before it).

    Only members of that object count, whatever strings and nested objects contain; a key may be written with
    escapes. With duplicates the first is found, so decode strictly before. NotAnObject (a ValueError) when
    the bytes up to the last key that is found are not JSON.
    """
    wanted = set(keys)
    spans: dict[str, Span] = {}
    at = _space(body, start)
    if body[at : at + 1] != b"{":
        raise NotAnObject("no object here")
    at = _space(body, at + 1)
    if body[at : at + 1] == b"}":
        return spans
    while True:
        key_start = at
        if body[at : at + 1] != b'"':
            raise NotAnObject("a key is missing")
        at = _string_end(body, at)
        raw = body[key_start + 1 : at - 1]
        key = json.loads(body[key_start:at]) if b"\\" in raw else raw.decode("utf-8", "replace")
        at = _space(body, at)
        if body[at : at + 1] != b":":
            raise NotAnObject("a colon is missing")
        at = _space(body, at + 1)
        end = _value_end(body, at)
        if key in wanted:
            wanted.discard(key)
            spans[key] = (at, end)
            if not wanted:
                return spans
        at = _space(body, end)
        mark = body[at : at + 1]
        if mark == b"}":
            return spans
        if mark != b",":
            raise NotAnObject("a comma is missing")
        at = _space(body, at + 1)


def top_level_span(body: bytes, key: str) -> Span | None:
    """The span of one key's value, as top_level_spans; None when it is absent or the bytes are not an object."""
    # Usually the key stands in front of everything nested: with no bracket between the first one and the key,
    # its depth is 1 and nothing needs to be scanned.
    quoted = b'"' + key.encode() + b'"'
    at = body.find(quoted)
    if at > 0 and body[at - 1] != 0x5C and _only_brace_is_first(body, at):
        colon = _space(body, at + len(quoted))
        if body[colon : colon + 1] == b":":
            value = _space(body, colon + 1)
            try:
                return value, _value_end(body, value)
            except NotAnObject:
                return None
    try:
        return top_level_spans(body, (key,)).get(key)
    except (NotAnObject, ValueError):
        return None


def known_key_span(body: bytes, key: str) -> Span:
    """As top_level_span, for a key that the decoded object is known to have (unique keys); ValueError if it has not.

    When the quoted key occurs once in all the bytes, that must be it: a string that contains it would escape the
    quotes. Only a key spelled with escapes of ASCII letters would be hidden, so their presence forces the scan.
    """
    quoted = b'"' + key.encode() + b'"'
    at = body.find(quoted)
    if at > 0 and body[at - 1] != 0x5C and body.find(quoted, at + 1) < 0 and b"\\u00" not in body:
        colon = _space(body, at + len(quoted))
        if body[colon : colon + 1] == b":":
            value = _space(body, colon + 1)
            return value, _value_end(body, value)
    return top_level_spans(body, (key,))[key]


def member_edit(body: bytes, key: str, value: bytes, span: Span | None, start: int = 0) -> Edit:
    """The edit that gives `key` (written plainly in ASCII) a value: in place of `span`, else as a new first
    member.
    """
    if span is not None:
        return span[0], span[1], value
    brace = body.index(b"{", start)
    after = _space(body, brace + 1)
    comma = b"" if body[after : after + 1] == b"}" else b","
    return brace + 1, brace + 1, b'"' + key.encode() + b'":' + value + comma


def apply_edits(body: bytes, edits: Iterable[Edit]) -> bytes:
    """`body` with the edits made; they must not overlap. Insertions at one place keep their order."""
    out: list[bytes] = []
    at = 0
    for start, end, value in sorted(edits, key=lambda edit: edit[0]):
        out.append(body[at:start])
        out.append(value)
        at = end
    out.append(body[at:])
    return b"".join(out)


def _only_brace_is_first(body: bytes, end: int) -> bool:
    # Brackets inside strings make this False too, which only costs the scan.
    return body.count(b"{", 0, end) == 1 and body.find(b"[", 0, end) < 0 and body.find(b"}", 0, end) < 0


def _space(body: bytes, at: int) -> int:
    if body[at : at + 1] > b" ":
        return at
    found = _SPACE.match(body, at)
    return found.end() if found else at


def _string_end(body: bytes, at: int) -> int:
    """Past the closing quote of the string that opens at `at`."""
    # memchr first: most strings hold no escaped quote, and the long ones (images) hold no backslash at all.
    end = body.find(b'"', at + 1)
    if end > 0 and body[end - 1] != 0x5C:
        return end + 1
    if end < 0:
        raise NotAnObject("a string does not end")
    # From the first of these backslashes on: an even number of them before the quote would end the string there.
    found = _STRING_REST.match(body, at + 1 + len(body[at + 1 : end].rstrip(b"\\")))
    if found is None:
        raise NotAnObject("a string does not end")
    return found.end()


# Everything up to the next bracket, strings as a whole.
_TO_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)


def _value_end(body: bytes, at: int) -> int:
    """Past the value that begins at `at`."""
    mark = body[at : at + 1]
    if mark == b'"':
        return _string_end(body, at)
    if mark not in (b"{", b"["):
        scalar = _SCALAR.match(body, at)
        if scalar is None:
            raise NotAnObject("a value is missing")
        return scalar.end()
    depth, size = 0, len(body)
    match = _TO_BRACKET.match
    while True:
        found = match(body, at)
        at = found.end() if found else at
        if at >= size:
            raise NotAnObject("a bracket does not close")
        char = body[at]
        if char == 0x22:
            raise NotAnObject("a string does not end")
        depth += 1 if char in _OPEN else -1
        at += 1
        if depth == 0:
            return at
