"""What bounds the cost of a JSON body whose dialect is not read field by field: media parts, and work that nothing bounds."""

from __future__ import annotations

from typing import Any, Final

from daemon.protocols import openai_chat
from daemon.protocols.tiers import asked_tier

__all__ = ["hosted_tools", "media_parts", "unbounded"]

MEDIA_TYPES: Final = frozenset(
    ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url", "video")
)
# Fields that make the host do work whose cost the body does not bound.
UNBOUNDED: Final = (
    *openai_chat.UNBOUNDED_FIELDS, "previous_response_id", "conversation", "background", "mcp_servers", "container",
    "prompt_cache_retention", "assistant_id", "thread_id", "agent_id",
)  # fmt: skip
# Tools that the client runs though the provider wrote them: of one date (bash_20250124) or of none.
RUN_BY_CLIENT: Final = (
    "bash_", "text_editor_", "computer_", "memory_", "str_replace_", "tool_search_tool", "namespace", "local_shell",
    "apply_patch", "computer_use_preview",
)  # fmt: skip
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
    """The fields, and tools by type, whose cost the body does not bound."""
    found = [name for name in UNBOUNDED if body.get(name) not in (None, False, [], {})]
    if isinstance(body.get("prompt"), dict):  # a stored one, of any length and with tools of its own
        found.append("prompt")
    items = body.get("input")
    if isinstance(items, list) and any(isinstance(item, dict) and item.get("type") == "item_reference" for item in items):
        found.append("input")
    if (unpriced := asked_tier(body)[1]) is not None:
        found.append(unpriced)
    return found + hosted_tools(body.get("tools"))


def hosted_tools(tools: object) -> list[str]:
    """`tools[i]:type` for each tool that the host would run; a shape that cannot be judged counts as one."""
    if tools is None:
        return []
    if not isinstance(tools, list):
        return ["tools"]
    return [f"tools[{index}]:{_kind(tool)[:40]}" for index, tool in enumerate(tools) if not _is_client_tool(tool)]


def _kind(tool: object) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else None
    return kind if isinstance(kind, str) else "unknown"


def _is_client_tool(tool: object) -> bool:
    """Run by the client: it says so, or (Anthropic's way) has a name and a schema and no type."""
    if not isinstance(tool, dict):
        return False
    kind = tool.get("type")
    if kind is None:
        return "function" in tool or ("name" in tool and ("input_schema" in tool or "parameters" in tool))
    if kind == "shell":
        return isinstance(tool.get("environment"), dict) and tool["environment"].get("type") == "local"
    return isinstance(kind, str) and (kind in openai_chat.CLIENT_TOOLS or kind.startswith(RUN_BY_CLIENT))
