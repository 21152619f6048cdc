"""What passes through: allow-lists for headers both ways, clean queries, safe URLs, masked secrets.

Everything not listed here stays behind: a customer's key, cookies and address never reach a provider, a provider's
account, limits and infrastructure never reach a customer.

To add a provider that authenticates differently: give it an `auth_header` and `auth_prefix`, no code. To add a
protocol: one line in AUTH, one in REQUEST_BY_PROTOCOL if it has headers of its own.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote, unquote_plus, unquote_to_bytes, urlsplit

Header = tuple[bytes, bytes]
Text = TypeVar("Text", str, bytes)

# protocol: (header, prefix)
AUTH: dict[str, tuple[str, str]] = {
    "openai": ("Authorization", "Bearer"),
    "anthropic": ("x-api-key", ""),
    "gemini": ("x-goog-api-key", ""),
}
ANTHROPIC_VERSION = b"2023-06-01"

REQUEST_HEADERS = frozenset((b"content-type", b"accept", b"user-agent", b"idempotency-key", b"traceparent", b"tracestate"))
REQUEST_BY_PROTOCOL: dict[str, frozenset[bytes]] = {
    "openai": frozenset((b"openai-beta",)),
    "anthropic": frozenset((b"anthropic-version", b"anthropic-beta")),
}
# Stays behind: Google's servers answer in bytes of another kind to those who accept them.
NOT_BY_PROTOCOL: dict[str, frozenset[bytes]] = {"gemini": frozenset((b"accept",))}
# May stand more than once; of all others the first one goes.
LISTS = frozenset((b"accept", b"openai-beta", b"anthropic-beta", b"tracestate"))

# Header of the reply: its name towards the customer.
REPLY_HEADERS: dict[bytes, bytes] = {
    b"content-type": b"content-type",
    b"content-language": b"content-language",
    b"content-disposition": b"content-disposition",
    b"openai-processing-ms": b"openai-processing-ms",
    b"openai-version": b"openai-version",
    b"x-request-id": b"x-upstream-request-id",  # OpenAI
    b"request-id": b"x-upstream-request-id",  # Anthropic
}

SECRET_PARAMETERS = frozenset(("key", "api_key", "api-key", "apikey", "access_token"))
# Parameters of any request to Google's servers (also behind a "$") that say how its reply is written, and what is left out.
REPLY_PARAMETERS = frozenset(("alt", "callback", "fields"))

MASK = "[redacted]"
HOST_MASK = "[upstream]"
SHORTEST_SECRET = 4
# Shapes of well-known keys, also the half-masked ones that providers quote (sk-abc****xyz).
KEY_SHAPES = (
    r"(?<![A-Za-z0-9])(?:sk|rk|pk|gsk|xai|pplx|csk|nvapi|hf|r8|tgp|fw|key)[-_][A-Za-z0-9_*.-]{8,}",
    r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_*-]{10,}",
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{12,}",
    r"(?<![A-Za-z0-9])ya29\.[A-Za-z0-9_.-]{10,}",
    # Begins only where a run of its characters begins: from every "eyJ" inside a run the search would start again.
    r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    r"(?i:(?<=bearer )[A-Za-z0-9._~+/=*-]{8,})",
)
_SHAPES = re.compile("|".join(KEY_SHAPES))

_VISIBLE = re.compile(r"[!-~]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VERSION = re.compile(r"v\d+[a-z0-9]*")


def credential_header(protocol: str, secret: str, auth_header: str | None = None, auth_prefix: str | None = None) -> Header:
    """The header that carries our credential. None for the protocol's own; a prefix of "" sends the bare secret.

    With a header of its own and no prefix: `Bearer` for Authorization, else the bare secret.
    """
    name, prefix = AUTH.get(protocol, AUTH["openai"])
    if auth_header:
        name, prefix = auth_header, "Bearer" if auth_header.lower() == "authorization" else ""
    if auth_prefix is not None:
        prefix = auth_prefix.strip()
    return name.encode("ascii"), (f"{prefix} {secret}" if prefix else secret).encode("utf-8")


def request_headers(
    client: Iterable[Header],
    protocol: str,
    credential: Header | None,
    *,
    secrets: Sequence[bytes] = (),
    user: int | None = None,
    content_type: bytes | None = None,
) -> list[Header]:
    """What goes to the provider of what the customer sent, and our credential.

    `secrets` are the customer's own (the key as presented): a header that holds one stays behind whatever its name. With a
    `user`, an idempotency key is made theirs: customers share an account, and the same key would bring one the reply of
    another. `content_type` replaces what the customer said: a body must not be read as something else than was priced.
    """
    allowed = (REQUEST_HEADERS | REQUEST_BY_PROTOCOL.get(protocol, frozenset())) - NOT_BY_PROTOCOL.get(protocol, frozenset())
    kept: list[Header] = []
    seen: set[bytes] = set()
    for name, value in client:
        lowered = name.lower()
        if lowered not in allowed or (lowered in seen and lowered not in LISTS):
            continue
        if any(secret in value for secret in secrets):
            continue
        seen.add(lowered)
        if lowered == b"idempotency-key" and user is not None:
            value = hashlib.sha256(b"%d:" % user + value).hexdigest().encode()
        if lowered != b"content-type" or content_type is None:
            kept.append((lowered, value))
    if content_type is not None:
        kept.insert(0, (b"content-type", content_type))
    if protocol == "anthropic" and b"anthropic-version" not in seen:
        kept.append((b"anthropic-version", ANTHROPIC_VERSION))
    if credential is not None:
        own = credential[0].lower()
        kept = [header for header in kept if header[0] != own]
        kept.append(credential)
    return kept


def reply_headers(upstream: Iterable[Header], *, secrets: Sequence[bytes] = (), retry_after: bool = False) -> list[Header]:
    """What goes to the customer of what the provider sent; `secrets` are ours (credential, host)."""
    kept: list[Header] = []
    seen: set[bytes] = set()
    hidden = [secret.lower() for secret in secrets if secret]
    for name, value in upstream:
        lowered = name.lower()
        shown = b"retry-after" if retry_after and lowered == b"retry-after" else REPLY_HEADERS.get(lowered)
        if shown is None or shown in seen or not value.isascii():
            continue
        if any(secret in value.lower() for secret in hidden):
            continue
        seen.add(shown)
        kept.append((shown, value))
    return kept


def clean_query(query: str, *, secrets: Sequence[str] = ()) -> str:
    """The query without parameters that carry keys, by name or because they hold one of `secrets`; the rest is
    untouched. ValueError when it holds what no query may hold."""
    if not _VISIBLE.fullmatch(query) or "#" in query:
        raise ValueError("the query holds characters that must be percent-encoded")
    kept = []
    for parameter in query.split("&"):
        name, _, value = parameter.partition("=")
        text = unquote_plus(value)
        if unquote_plus(name).strip().lower() in SECRET_PARAMETERS or any(secret in text for secret in secrets):
            continue
        kept.append(parameter)
    return "&".join(kept).strip("&")


def without_reply_parameters(query: str) -> str:
    """The query without what could hide a reply's usage from the gateway; the rest is untouched."""
    if not query:
        return ""
    parameters = query.split("&")
    return "&".join(p for p in parameters if unquote_plus(p.partition("=")[0]).lower().lstrip("$") not in REPLY_PARAMETERS)


def join_url(base_url: str, path: str, query: str = "") -> str:
    """The provider's URL for a path, both percent-encoded; a base that names a version is used with that one.

    `https://h/v1` + `/v1/models`, `https://h/v1/` + `models` and `https://h` + `/v1/models` are the same, and
    `https://h/v1beta/openai` + `/v1/models` is `https://h/v1beta/openai/models`. A query of the base (`?api-version=…`)
    comes first. ValueError (not quoting the URL) for a base that is not plain http(s) or holds
    user information, and for a path that another server could read differently.
    """
    if not _VISIBLE.fullmatch(base_url + query) or "#" in query:
        raise ValueError("the URL holds characters that must be percent-encoded")
    base = urlsplit(base_url)
    if base.scheme not in ("http", "https") or not base.hostname:
        raise ValueError("the base URL must start with http:// or https://")
    if "@" in base.netloc:
        raise ValueError("the base URL must not hold a user name or password")
    if base.fragment or "#" in base_url:
        raise ValueError("the base URL must not hold a fragment")
    check_path(base.path)
    check_path(path)
    if "?" in path or "#" in path:
        raise ValueError("the path must not hold a query or fragment")
    root = base.path.rstrip("/")
    first, _, rest = path.lstrip("/").partition("/")
    versioned = _VERSION.fullmatch(first) and any(map(_VERSION.fullmatch, root.split("/")))
    tail = rest if versioned else path.lstrip("/")
    joined = f"{base.scheme}://{base.netloc}{root}" + (f"/{tail}" if tail or not root else "")
    full_query = "&".join(part for part in (base.query, query) if part)
    return f"{joined}?{full_query}" if full_query else joined


def check_path(path: str) -> None:
    """ValueError unless every server reads this path alike: no dot segments (nor `..;x`, which some cut to one), empty
    segments, backslashes or control characters, plain or encoded, even twice."""
    if not _VISIBLE.fullmatch(path):
        raise ValueError("the path holds characters that must be percent-encoded")
    if _BAD_ESCAPE.search(path):
        raise ValueError("the path holds a broken percent escape")
    seen = path
    for _ in range(3):
        if "\\" in seen or any(ord(character) < 0x20 or ord(character) == 0x7F for character in seen):
            raise ValueError("the path holds a backslash or control character")
        if "//" in seen or any(segment.partition(";")[0] in (".", "..") for segment in seen.split("/")):
            raise ValueError("the path holds an empty or dot segment")
        decoded = unquote_to_bytes(seen).decode("latin-1")
        if decoded == seen:
            return
        seen = decoded
    raise ValueError("the path is percent-encoded more than twice")


def redact(text: Text, secrets: Iterable[str] = (), hosts: Iterable[str] = ()) -> Text:
    """The text with every secret, everything of the shape of a key, and the provider's hosts masked."""
    if isinstance(text, bytes):
        return redact(text.decode("utf-8", "surrogateescape"), secrets, hosts).encode("utf-8", "surrogateescape")
    spellings = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _spellings(secret)}
    masked: str = text
    for secret in sorted(spellings, key=len, reverse=True):
        masked = masked.replace(secret, MASK)
    masked = _SHAPES.sub(MASK, masked)
    for host in hosts:
        if host:
            masked = re.sub(re.escape(host), HOST_MASK, masked, flags=re.IGNORECASE)
    return masked


@lru_cache(1024)
def _spellings(secret: str) -> tuple[str, ...]:
    """A secret as it may stand in a text: plain, in other letters, percent-encoded, hexadecimal, and within base64."""
    raw = secret.encode()
    forms = {secret, secret.upper(), secret.lower(), quote(secret, safe=""), raw.hex(), raw.hex().upper()}
    for before in range(3):  # whatever stands before it ("user:") decides which bits share a letter
        middle = b64encode(bytes(before) + raw)[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6].decode()
        if len(middle) >= 2 * SHORTEST_SECRET:
            forms |= {middle, middle.replace("+", "-").replace("/", "_")}
    return tuple(forms)
