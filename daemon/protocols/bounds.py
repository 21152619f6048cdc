"""What bounds the cost of a JSON body whose dialect is not read field by field: media parts, and work that nothing bounds."""

from __future__ import annotations

from typing import Any, Final

from daemon.protocols import openai_chat
from daemon.protocols.hosted import hosted_tools, kinds_of
from daemon.protocols.tiers import asked_tier

__all__ = ["hosted", "media_parts", "stored", "unbounded"]

MEDIA_TYPES: Final = frozenset(
    ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url", "video",
     "computer_screenshot", "document_url", "image_file", "input_video", "container_upload")
)  # fmt: skip
# Fields that make the host do work whose cost the body does not bound.
UNBOUNDED: Final = (
    *openai_chat.UNBOUNDED_FIELDS, "background", "container", "prompt_cache_retention", "assistant_id", "thread_id", "agent_id",
)  # fmt: skip
# Fields by which the provider puts what it has stored before the prompt.
STORED: Final = ("previous_response_id", "conversation", "previous_interaction_id")
DEEPEST: Final = 8


def media_parts(value: object, depth: int = 0) -> int:
    """Parts whose tokens the length of the body does not bound, wherever they stand."""
    if depth > DEEPEST:
        return 0
    if isinstance(value, dict):
        own = 1 if value.get("type") in MEDIA_TYPES or "inlineData" in value or "fileData" in value else 0
        return own + sum(media_parts(inner, depth + 1) for inner in value.values() if isinstance(inner, dict | list))
    if isinstance(value, list):
        return sum(media_parts(inner, depth + 1) for inner in value if isinstance(inner, dict | list))
    return 0


def unbounded(body: dict[str, Any]) -> list[str]:
    """The fields, and tools that cannot be judged, whose cost the body does not bound."""
    found = [name for name in UNBOUNDED if body.get(name) not in (None, False, [], {})]
    if isinstance(body.get("prompt"), dict):  # a stored one, of any length and with tools of its own
        found.append("prompt")
    if (unpriced := asked_tier(body)[1]) is not None:
        found.append(unpriced)
    return found + kinds_of(body.get("tools"))[1]


def stored(body: dict[str, Any]) -> bool:
    """Whether the prompt has parts that the provider stored: an earlier response, a conversation, an item by its id."""
    items = body.get("input")
    if isinstance(items, list) and any(isinstance(item, dict) and _is_reference(item) for item in items):
        return True
    return any(body.get(name) not in (None, False, "", {}) for name in STORED)


def _is_reference(item: dict[str, Any]) -> bool:
    """Whether an item of the Responses API's input stands for one that the provider stored; its type may be left out."""
    kind = item.get("type")
    if kind == "image_generation_call":
        return not item.get("result")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def hosted(body: dict[str, Any]) -> dict[str, int]:
    """The tools that the provider would run, and how often the request lets it: for Ask.hosted."""
    kinds, _ = kinds_of(body.get("tools"))
    if body.get("mcp_servers"):
        kinds.append(("mcp", None))
    return hosted_tools(kinds, body.get("max_tool_calls")) if kinds else {}
