"""Server-sent events as bytes, and back as strictly as the dialects write them."""

from __future__ import annotations

import json
from typing import Any

DONE = "[DONE]"


def data(value: Any) -> bytes:
    """One event without a name."""
    return b"data: " + (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode() + b"\n\n"


def named(value: dict[str, Any]) -> bytes:
    """One event that is named by the type of its data."""
    return f"event: {value['type']}\n".encode() + data(value)


def events(stream: bytes) -> list[tuple[str | None, Any]]:
    """(name, JSON or DONE) of every event. Every event must be whole, and hold nothing but these two fields."""
    assert stream.endswith(b"\n\n"), stream[-200:]
    found: list[tuple[str | None, Any]] = []
    for block in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, value = None, None
        for line in block.split("\n"):
            field, _, text = line.partition(": ")
            if field == "event":
                name = text
            elif field == "data":
                assert value is None, block
                value = text if text == DONE else json.loads(text)
            else:
                assert line.startswith(":"), block
        if value is not None:
            found.append((name, value))
    return found


def pieces_of(text: str, size: int = 5) -> list[str]:
    """A text as a provider streams it."""
    return [text[at : at + size] for at in range(0, len(text), size)]
