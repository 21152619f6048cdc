"""Provider-prefixed requests (/v1/<provider>/<endpoint>): what may go through, and how it is billed.

A POST whose JSON body names a priced model is billed like any other, whatever the endpoint. What the admin allow-listed goes
through unbilled. Everything else is 403: the provider's account is shared.
"""

from __future__ import annotations

from typing import Any

from daemon.api.billable import Endpoint, read_chat_loosely
from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.protocols import dialects

CHAT = frozenset({"chat"})
ANY = frozenset({"chat", "embedding", "image", "audio", "rerank", "moderation"})
OUTPUT_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample")
MEDIA_TYPES = frozenset(
    ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url", "video")
)
# Fields that make the host do work whose cost the body does not bound.
UNBOUNDED = (
    "previous_response_id", "conversation", "background", "mcp_servers", "container", "web_search_options",
    "search_parameters", "plugins", "models", "fallbacks", "preset", "prompt_cache_retention",
)  # fmt: skip
CLIENT_TOOLS = frozenset({"function", "custom"})
MOST = 1_000_000_000


def endpoint_of(path: str) -> Endpoint:
    """How a provider's own endpoint is read."""
    if path == "chat/completions":
        return Endpoint(dialects.OPENAI_CHAT, CHAT, "/v1/chat/completions", read_chat_loosely)
    return Endpoint(dialects.RAW, ANY, f"/v1/{path}", lambda body, size: read_any(body, size, path))


def allowed(rules: tuple[str, ...], method: str, path: str) -> bool:
    """Whether an admin's rule ('GET files', 'GET /v1/files/*') names this endpoint."""
    for rule in rules:
        rule_method, _, rule_path = rule.strip().partition(" ")
        rule_path = rule_path.strip().strip("/").removeprefix("v1/")
        if rule_method.upper() not in (method, "*"):
            continue
        if rule_path == path or (rule_path.endswith("/*") and path.startswith(rule_path[:-1])):
            return True
    return False


def read_any(body: dict[str, Any], size: int, path: str) -> Ask:
    """What bounds the cost of a body of unknown dialect."""
    model = body.get("model")
    if not isinstance(model, str) or not model or len(model) > 512:
        raise ApiError.of("missing_required_parameter", param="model")
    limits = [_count(body, name) for name in OUTPUT_LIMITS]
    given = [limit for limit in limits if limit is not None]
    n = _count(body, "n")
    extra: dict[str, int] = {}
    if path == "audio/speech":
        extra["character"] = len(body["input"]) if isinstance(body.get("input"), str) else size
    if path.startswith("images/"):
        extra["image"] = 1 if n is None else n
    return Ask(
        model=model,
        stream=body.get("stream") is True,
        body_bytes=size,
        input_bound=size + 512,
        output_limit=max(given) if given else None,
        output_extra=0,
        n=1 if n is None else n,
        media_parts=0 if path.startswith("images/") else _media_parts(body, 0),
        features=frozenset(),
        unbounded=tuple(_unbounded(body)),
        extra=extra,
    )


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MOST:
        raise ApiError.of("invalid_value", param=name, reason="it must be an integer of at least 1")
    return value


def _media_parts(value: object, depth: int) -> int:
    if depth > 8:
        return 0
    if isinstance(value, dict):
        own = 1 if value.get("type") in MEDIA_TYPES or "inlineData" in value or "fileData" in value else 0
        return own + sum(_media_parts(inner, depth + 1) for inner in value.values() if isinstance(inner, dict | list))
    if isinstance(value, list):
        return sum(_media_parts(inner, depth + 1) for inner in value)
    return 0


def _unbounded(body: dict[str, Any]) -> list[str]:
    found = [name for name in UNBOUNDED if body.get(name) not in (None, False, [], {})]
    tools = body.get("tools")
    if isinstance(tools, list):
        found += [
            "tools"
            for tool in tools
            if isinstance(tool, dict) and "type" in tool and tool["type"] not in CLIENT_TOOLS and "input_schema" not in tool
        ]
    return found
