"""Many spellings of a URL become one, before routing and without a redirect (which would drop a POST's body).

`//` and a trailing slash collapse; a leading `/api` or `/ai` goes when an inference or listing path follows; `/v1/v1/` is
`/v1/`; `/v1` is put before a bare `/chat/…`. `/api/status`, `/health`, `/docs` and `/metrics` stay, and so does `/models` when
a browser asks for a page.
"""

from __future__ import annotations

import re
from functools import lru_cache

INFERENCE = frozenset(
    ("chat", "completions", "responses", "messages", "embeddings", "images", "audio", "moderations", "rerank",
     "models", "provider")
)  # fmt: skip
SELF_SERVICE = frozenset(("key", "credits", "usage"))
RESERVED = INFERENCE | SELF_SERVICE | frozenset(
    ("v1", "v1beta", "api", "ai", "docs", "health", "status", "keys", "portal", "metrics")
)  # fmt: skip
PREFIXES = ("api", "ai")
PAGES = frozenset(("models",))
_SLASHES = re.compile("/{2,}")


@lru_cache(4096)
def normalise(raw_path: str, wants_html: bool) -> str:
    """The one spelling of a percent-encoded path."""
    segments = [segment for segment in _SLASHES.sub("/", raw_path).split("/") if segment]
    if segments and segments[0] in PREFIXES and _follows(segments[1:]):
        segments = segments[1:]
    while segments[:2] == ["v1", "v1"]:
        segments = segments[1:]
    if segments and segments[0] in INFERENCE and not (wants_html and segments[0] in PAGES):
        segments.insert(0, "v1")
    return "/" + "/".join(segments)


def _follows(rest: list[str]) -> bool:
    return bool(rest) and (rest[0] == "v1" or rest[0] in INFERENCE)


def provider_endpoint(path: str) -> tuple[str, str] | None:
    """('openai', 'audio/speech') of '/v1/openai/audio/speech' (also of '/v1/openai/v1/audio/speech'), else None."""
    if not path.startswith("/v1/"):
        return None
    slug, separator, endpoint = path[4:].partition("/")
    if not separator or slug in RESERVED:
        return None
    while endpoint.startswith("v1/"):
        endpoint = endpoint[3:]
    return (slug, endpoint) if endpoint else None
