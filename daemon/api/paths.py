"""Many spellings of a URL become one, before routing and without a redirect (which would drop a POST's body).

`//` and a trailing slash collapse. A leading `/api` or `/ai` goes when an inference or listing path follows. Of versions in a
row (`/v1/v1/`, `/v1/v1beta/`) the last one stays; `v1` behind a provider (`/v1/anthropic/v1/messages`) goes. `/v1` is put
before a bare `/chat/…`. `/v1beta/openai/…`, Google's address for OpenAI's clients, is `/v1/…`. `/api/status`, `/health`,
`/docs` and `/metrics` stay, and so does `/models` when a browser asks for a page.
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
VERSIONS = frozenset(("v1", "v1beta"))
PAGES = frozenset(("models",))
_SLASHES = re.compile("/{2,}")
_METHOD = re.compile(r"%3[Aa](?=[A-Za-z]+$)")  # what stands before the method of a Gemini model


@lru_cache(4096)
def normalise(raw_path: str, wants_html: bool) -> str:
    """The one spelling of a percent-encoded path."""
    segments = [segment for segment in _SLASHES.sub("/", raw_path).split("/") if segment]
    if segments and segments[0] in PREFIXES and _follows(segments[1:]):
        segments = segments[1:]
    segments = _one_version(segments)
    if segments[:2] == ["v1beta", "openai"]:
        segments = _one_version(["v1", *segments[2:]])
    if segments[:1] == ["v1"] and len(segments) > 2 and segments[1] not in RESERVED:
        while segments[2:3] == ["v1"]:
            del segments[2]
    if "models" in segments[:-1]:
        segments[-1] = _METHOD.sub(":", segments[-1])
    if segments and segments[0] in INFERENCE and not (wants_html and segments[0] in PAGES):
        segments.insert(0, "v1")
    return "/" + "/".join(segments)


def _follows(rest: list[str]) -> bool:
    return bool(rest) and (rest[0] in VERSIONS or rest[0] in INFERENCE)


def _one_version(segments: list[str]) -> list[str]:
    while len(segments) > 1 and segments[0] in VERSIONS and segments[1] in VERSIONS:
        segments = segments[1:]
    return segments


def provider_endpoint(path: str) -> tuple[str, str] | None:
    """('openai', 'audio/speech') of the normalised path '/v1/openai/audio/speech', else None."""
    if not path.startswith("/v1/"):
        return None
    slug, separator, endpoint = path[4:].partition("/")
    if not separator or slug in RESERVED:
        return None
    return (slug, endpoint) if endpoint else None


def is_model_list(endpoint: str) -> bool:
    """Whether a provider's own endpoint is its list of models or one of them, which the gateway answers itself."""
    endpoint = endpoint.removeprefix("v1beta/")
    return endpoint == "models" or endpoint.startswith("models/")
