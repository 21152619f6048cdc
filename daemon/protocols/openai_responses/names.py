"""What must survive a trip through another protocol, and its client: namespaces inside names, proofs inside encrypted_content.

A tool of a namespace is called `<namespace>_-_<tool>` where a protocol knows no namespaces; the first `_-_` divides. A plain
name that contains `_-_` is written with a further one in front, so every name comes back as it was. Letters, digits, `_` and
`-` only: all providers accept them. Providers limit names to 64 or 128 characters, and say so themselves.

Clients of this API hand back reasoning items unread. So what proves a thought to another provider travels as
`thought:<origin>:<kind>:<value>` in encrypted_content; kind is signature, encrypted, or call (a signature of the next tool
call). OpenAI's own values are base64 and have no colon.
"""

from __future__ import annotations

from typing import Final

SEPARATOR: Final = "_-_"
SEALED: Final = "thought:"
KINDS: Final = frozenset({"signature", "encrypted", "call"})


def flatten(namespace: object, name: str) -> str:
    """One name for a tool and its namespace (anything but a non-empty string is none)."""
    if type(namespace) is str and namespace:
        return namespace + SEPARATOR + name
    return SEPARATOR + name if SEPARATOR in name else name


def divide(name: str) -> tuple[str | None, str]:
    """The inverse: (namespace or None, name)."""
    head, found, rest = name.partition(SEPARATOR)
    return (head or None, rest) if found else (None, name)


def seal(origin: str, kind: str, value: str) -> str:
    """A proof of `origin` as encrypted_content."""
    return f"{SEALED}{origin}:{kind}:{value}"


def unseal(content: str) -> tuple[str, str, str] | None:
    """(origin, kind, value), or None when the provider itself made the content."""
    if not content.startswith(SEALED):
        return None
    pieces = content.split(":", 3)
    return (pieces[1], pieces[2], pieces[3]) if len(pieces) == 4 and pieces[2] in KINDS else None
