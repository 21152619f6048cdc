"""Proofs of thoughts inside thoughtSignature: Gemini's own as they are, those of other protocols sealed.

Clients hand back parts as they got them. So what proves a thought to another provider travels as the base64 (the field is
bytes, and SDKs decode it) of `thought:<origin>:<kind>:<value>`; kind is signature or encrypted. Google's own begin otherwise.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from daemon.domain.chat import Thinking
from daemon.protocols.gemini.tables import NAME

__all__ = ["SKIPPED", "open_signature", "seal"]

PREFIX: Final = "thought:"
ENCODED_PREFIX: Final = "dGhvdWdodD"  # how its base64 begins, whatever follows
KINDS: Final = frozenset({"signature", "encrypted"})
# What Google's documentation gives for calls that no Gemini model made.
SKIPPED: Final = "skip_thought_signature_validator"


def seal(thought: Thinking) -> str | None:
    """What stands in thoughtSignature; None when nothing proves the thought. A signature goes before what hides it."""
    if thought.origin == NAME:
        return thought.signature
    if thought.signature:
        kind, value = "signature", thought.signature
    elif thought.encrypted:
        kind, value = "encrypted", thought.encrypted
    else:
        return None
    return base64.b64encode(f"{PREFIX}{thought.origin}:{kind}:{value}".encode("utf-8", "replace")).decode()


def open_signature(text: str, signature: str) -> Thinking:
    """The thought as it was before it was sealed; one of Gemini's own when it was not."""
    if signature.startswith(ENCODED_PREFIX):
        try:
            pieces = base64.b64decode(_padded(signature), altchars=b"-_" if _is_url_safe(signature) else None, validate=True)
            words = pieces.decode().split(":", 3)
        except (binascii.Error, ValueError):
            words = []
        if len(words) == 4 and words[2] in KINDS:
            _, origin, kind, value = words
            proof, hidden = (value, None) if kind == "signature" else (None, value)
            return Thinking(text, proof, hidden, origin=origin)
    return Thinking(text, signature, origin=NAME)


def _is_url_safe(text: str) -> bool:
    """Some SDKs write bytes back in the other alphabet, and without padding."""
    return "-" in text or "_" in text


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
