"""Events of the stream as bytes. A delta's bytes are all but ready before it comes: there is one for each token."""

from __future__ import annotations

import json
from typing import Any


def json_bytes(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()


def frame(kind: str, fields: dict[str, Any], sequence: int) -> bytes:
    """One event. `type` comes first and sequence_number last."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json_bytes({"type": kind, **fields, "sequence_number": sequence}))


def delta_head(kind: str, place: dict[str, Any]) -> bytes:
    """The bytes of a delta event up to the delta itself."""
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), json_bytes({"type": kind, **place})[:-1])


def delta_frame(head: bytes, delta: str, tail: bytes, sequence: int) -> bytes:
    """One delta event. `tail`: further fields, each with a comma before it."""
    return b'%b%b%b,"sequence_number":%d}\n\n' % (head, json_bytes(delta), tail, sequence)
