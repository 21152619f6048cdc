"""Proofs of other protocols inside the signature of a thinking block: clients hand signatures back unread.

`thought:<origin>:<kind>:<value>`; kind is signature, encrypted, or call (the signature of the tool call that follows). The
API's own signatures are base64 and have no colon. An origin that is not known is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from daemon.domain.chat import Thinking
from daemon.protocols.anthropic_messages.tables import NAME

__all__ = ["CallSignature", "call_signature_block", "open_thinking", "thinking_blocks"]

PREFIX: Final = "thought:"
SIGNATURE: Final = "signature"
ENCRYPTED: Final = "encrypted"
CALL: Final = "call"


@dataclass(frozen=True, slots=True)
class CallSignature:
    """A thinking block that only carries the signature of the tool call after it."""

    signature: str


def open_thinking(text: str, signature: str) -> Thinking | CallSignature:
    """A thinking block as it was before it was sealed; one of Anthropic's own when it was not."""
    if not signature:
        return Thinking(text)
    pieces = signature.split(":", 3) if signature.startswith(PREFIX) else []
    if len(pieces) != 4 or pieces[2] not in (SIGNATURE, ENCRYPTED, CALL):
        return Thinking(text, signature, origin=NAME)
    _, origin, kind, value = pieces
    if kind == CALL:
        return CallSignature(value)
    return Thinking(text, value, origin=origin) if kind == SIGNATURE else Thinking(text, encrypted=value, origin=origin)


def seal(signature: str | None, encrypted: str | None, origin: str) -> str:
    """What stands in a thinking block's signature; "" when nothing proves the thought. What hides it goes first."""
    if origin == NAME:
        return signature or ""
    if encrypted:
        return f"{PREFIX}{origin}:{ENCRYPTED}:{encrypted}"
    return f"{PREFIX}{origin}:{SIGNATURE}:{signature}" if signature else ""


def thinking_blocks(thought: Thinking) -> list[dict[str, Any]]:
    """A thought as a client gets it: a thinking block, a redacted one, or both; none when it holds nothing."""
    blocks: list[dict[str, Any]] = []
    signature = seal(thought.signature, thought.encrypted, thought.origin)
    if thought.text or signature:
        blocks.append({"type": "thinking", "thinking": thought.text, "signature": signature})
    if thought.encrypted and thought.origin == NAME:
        blocks.append({"type": "redacted_thinking", "data": thought.encrypted})
    return blocks


def call_signature_block(signature: str) -> dict[str, Any]:
    """The block before a tool call that has a signature."""
    return {"type": "thinking", "thinking": "", "signature": f"{PREFIX}:{CALL}:{signature}"}
