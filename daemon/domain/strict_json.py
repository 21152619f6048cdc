"""Decode a request body strictly: whatever two JSON parsers could read differently is refused here, once."""

from __future__ import annotations

import re
from typing import Any, Final

import jiter

__all__ = ["InvalidJson", "decode_object"]

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1
INFINITY: Final = float("inf")
KEY_SHOWN: Final = 40
# What a value costs to decode, by the marks around it; a body of 3-byte values takes minutes of the event loop and gigabytes.
MARKS: Final = ((b",", 1), (b":", 3), (b"{", 3), (b"[", 3))
MOST_MARKS: Final = 400_000
UTF16_OR_32: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")

_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_DUPLICATE: Final = re.compile(r'Detected duplicate key "(.*)" at (line \d+ column \d+)$', re.DOTALL)
_POSITION: Final = re.compile(r"^(.*?) at (line \d+ column \d+)$", re.DOTALL)

# The decoder's word for a fault (by its beginning) and ours. Anything else becomes the last row.
_SAYS: Final = (
    ("EOF", "the body ends in the middle of the JSON"),
    ("recursion limit", "it is nested too deeply"),
    ("trailing comma", "there is a comma with nothing after it"),
    ("trailing characters", "there is something after the end of the JSON object"),
    ("number out of range", "a number has too many digits"),
    ("invalid number", "a number is not written as JSON writes numbers"),
    ("lone leading surrogate", r"a \u escape is half of a surrogate pair"),
    ("unexpected end of hex escape", r"a \u escape is half of a surrogate pair"),
    ("invalid escape", "a string has an escape that JSON does not know"),
    ("invalid unicode", "a string is not valid UTF-8"),
    ("control character", "a string contains an unescaped control character"),
    ("key must be a string", "a key is not a string in double quotes"),
    ("", "the JSON is not well formed"),
)


class InvalidJson(ValueError):
    """The body is not one JSON object that every parser reads alike. The message is one sentence without its
    content.
    """


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body` (RFC 8259, UTF-8, no byte order mark), with unique keys and numbers that have
    a value.

    Refused with InvalidJson: anything but an object, NaN, Infinity and numbers too large to have a value
    (1e999), integers that do not fit 64 bits, duplicate keys at any depth, lone surrogates, UTF-16 and
    UTF-32, a byte order mark, nesting deeper than 200, anything after the object, more than some 100,000 values with names
    (400,000 without): every one of them is work that all other requests wait for.
    """
    if len(body) > MOST_MARKS and _weight(body) > MOST_MARKS and _is_too_much(body):
        raise InvalidJson("The request body holds too many values, or is nested too deeply.")
    try:
        # "keys": strings of one caller's prompt are not kept in a cache that every request shares.
        value: Any = jiter.from_json(body, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError as error:
        raise InvalidJson(_explain(body, str(error))) from None
    if type(value) is not dict:
        raise InvalidJson("The request body must be a JSON object.")
    _refuse_valueless_numbers(value)
    return value


def _weight(text: bytes) -> int:
    return sum(weight * text.count(mark) for mark, weight in MARKS)


def _is_too_much(body: bytes) -> bool:
    # An opening quote has no backslash before it, so there are at most this many strings to leave out.
    return body.count(b'"') - body.count(b'\\"') > MOST_MARKS or _weight(_STRINGS.sub(b"", body)) > MOST_MARKS


def _refuse_valueless_numbers(root: dict[str, Any]) -> None:
    # A walk, not a search of the bytes: it costs per value, and long bodies are long because of their
    # strings.
    todo: list[Any] = [root]
    while todo:
        node = todo.pop()
        for value in node.values() if type(node) is dict else node:
            kind = type(value)
            if kind is str:
                continue
            if kind is dict or kind is list:
                todo.append(value)
            elif kind is int:
                if not INT_MIN <= value <= INT_MAX:
                    raise InvalidJson("The request body contains an integer that does not fit 64 bits.")
            elif kind is float and (value == INFINITY or value == -INFINITY):
                raise InvalidJson("The request body contains a number that is too large.")


def _explain(body: bytes, says: str) -> str:
    if not body.strip():
        return "The request body is empty; a JSON object was expected."
    if body.startswith(b"\xef\xbb\xbf"):
        return "The request body starts with a byte order mark; send UTF-8 without one."
    if body.startswith(UTF16_OR_32) or b"\x00" in body[:4]:
        return "The request body must be encoded as UTF-8, not UTF-16 or UTF-32."
    if found := _DUPLICATE.search(says):
        return f'The request body has the key "{_shown(found[1])}" twice ({found[2]}).'
    found = _POSITION.match(says)
    what, where = (found[1], f" ({found[2]})") if found else (says, "")
    reason = next(ours for start, ours in _SAYS if what.startswith(start))
    return f"The request body is not valid JSON: {reason}{where}."


def _shown(key: str) -> str:
    """A key as an error may show it: printable, and cut short."""
    key = "".join(char if char.isprintable() else "?" for char in key[: KEY_SHOWN + 1])
    return key if len(key) <= KEY_SHOWN else key[:KEY_SHOWN] + "..."
