"""Tools that the provider runs: which of a request's tools they are, and how often a reply says that they ran.

A model's entry names each of them once (`--hosted-tool web_search=5`), whatever the dialects call it: WORDS. Any other type
stands for itself, without its date (web_search_20250305) and its provider (openrouter:web_search). Items of a reply have the
name before `_call`, counts in a usage object before `_requests` or `_calls`. To add a provider's word: a row in WORDS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from daemon.domain.admission import ANY_NUMBER
from daemon.domain.usage import checked_count

__all__ = ["hosted_calls_of", "hosted_tools", "kinds_of", "name_of", "with_hosted"]

METER: Final = "hosted_call"
CLIENT_TOOLS: Final = frozenset({"function", "custom", "namespace"})
# Tools that the client runs though the provider wrote them: of one date (bash_20250124) or of none. And the search among the
# request's own tools, whoever runs it: nothing is sold, and what it finds stands in the request.
RUN_BY_CLIENT: Final = (
    "bash_", "text_editor_", "computer_", "memory_", "str_replace_", "tool_search", "local_shell", "apply_patch",
    "computer_use_preview",
)  # fmt: skip
# Name of a tool -> what else it is called.
WORDS: Final[dict[str, tuple[str, ...]]] = {
    "web_search": ("web_search_preview", "browser_search", "google_search", "google_search_retrieval", "enterprise_web_search"),
    "web_fetch": ("url_context", "visit_website"),
    "file_search": ("collections_search", "document_search"),
    "code_interpreter": ("code_execution",),
    "image_generation": (),
    "mcp": ("mcp_toolset", "mcp_servers"),
}
NAMES: Final = {word: name for name, words in WORDS.items() for word in words}
_DATE: Final = re.compile(r"_20\d\d_?\d\d_?\d\d$")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
NAME: Final = re.compile(r"[a-z0-9_]{1,28}")  # such as may stand in a price
# Items of a reply that are no calls of hosted tools.
OTHER_ITEMS: Final = frozenset(
    (
        "function_call",
        "custom_tool_call",
        "computer_call",
        "local_shell_call",
        "shell_call",
        "apply_patch_call",
        "tool_search_call",
    )
)
# Where usage counts calls -> what stands behind the name there.
COUNTED: Final = (("server_tool_use", "_requests"), ("server_side_tool_usage_details", "_calls"))


def name_of(kind: str) -> str | None:
    """The name of a hosted tool by its type in a request; None when the client runs it."""
    if kind in CLIENT_TOOLS or kind.startswith(RUN_BY_CLIENT):
        return None
    plain = _DATE.sub("", _CAMEL.sub("_", kind).lower().rpartition(":")[2])
    return NAMES.get(plain, plain) if NAME.fullmatch(plain) else "unknown"


def kinds_of(tools: object) -> tuple[list[tuple[str, object]], list[str]]:
    """((type, own limit of calls) of each tool that has a type; `tools[i]` for each that cannot be judged).

    A tool without a type is the client's when it is a function, or (Anthropic's way) has a name and a schema.
    """
    if tools is None:
        return [], []
    if type(tools) is not list:
        return [], ["tools"]
    kinds: list[tuple[str, object]] = []
    unjudged: list[str] = []
    for index, tool in enumerate(tools):
        kind = tool.get("type") if type(tool) is dict else None
        if type(kind) is str:
            if kind != "shell" or not _is_local(tool):
                kinds.append((kind, tool.get("max_uses")))
        elif type(tool) is not dict or kind is not None or not _is_function(tool):
            unjudged.append(f"tools[{index}]:unknown")
    return kinds, unjudged


def _is_local(tool: dict[str, Any]) -> bool:
    return type(where := tool.get("environment")) is dict and where.get("type") == "local"


def _is_function(tool: dict[str, Any]) -> bool:
    return "function" in tool or ("name" in tool and ("input_schema" in tool or "parameters" in tool))


def hosted_tools(kinds: Iterable[tuple[str, object]], most: object = None) -> dict[str, int]:
    """Name → the most calls that the request itself allows, ANY_NUMBER where it says nothing: for Ask.hosted.

    `kinds`: the types of the tools in a body, each with its own limit (Anthropic's max_uses) or None. `most`: the limit of
    the whole request (max_tool_calls). A limit that is no whole number above 0 limits nothing.
    """
    found: dict[str, int] = {}
    for kind, limit in kinds:
        name = name_of(kind)
        if name is not None:
            # Two tools of one name: what both may do.
            found[name] = min(ANY_NUMBER, found.get(name, 0) + _limit(limit))
    return {name: min(calls, _limit(most)) for name, calls in found.items()}


def _limit(value: object) -> int:
    return value if type(value) is int and 0 < value < ANY_NUMBER else ANY_NUMBER


def hosted_calls_of(usage: dict[str, Any], items: object = None) -> dict[str, int]:
    """Calls of hosted tools by name, as a usage object counts them or the output items of a reply show; the larger counts.

    InvalidUsage when a count is none.
    """
    found: dict[str, int] = {}
    for item in items if type(items) is list else ():
        name = _item(item)
        if name is not None:
            found[name] = found.get(name, 0) + 1
    for holder, end in COUNTED:
        counts = usage.get(holder)
        for field, count in counts.items() if type(counts) is dict else ():
            name = name_of(field.removesuffix(end)) if field.endswith(end) else None
            if name is not None and count is not None:
                found[name] = max(found.get(name, 0), checked_count(count, field))
    return {name: count for name, count in found.items() if count}


def _item(item: object) -> str | None:
    kind = item.get("type") if type(item) is dict else None
    if type(kind) is not str or not kind.endswith("_call") or kind in OTHER_ITEMS:
        return None
    assert type(item) is dict
    action = item.get("action")
    if item.get("status") == "failed" or (type(action) is dict and action.get("type") not in (None, "search")):
        return None  # pages that a web search opens are no searches
    return name_of(kind.removesuffix("_call"))


def with_hosted(meters: dict[str, int], calls: dict[str, int]) -> dict[str, int]:
    """The meters of a usage and of the calls that it reports."""
    return {**meters, **{f"{METER}/{name}": count for name, count in calls.items()}} if calls else meters
