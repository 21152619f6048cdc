"""How hosts of chat completions differ in what they accept: what encode_request must know of them.

To add a host: a row in HABITS, under the slug of its preset. Who has none gets DEFAULT, which every host accepts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT", "HABITS", "Habits", "habits_of"]

# OpenAI's reasoning models refuse max_tokens and know developers; older hosts know neither the other field nor the role.
OPENAI_REASONING: Final = re.compile(r"(?:^|/)(?:o[1-9]|gpt-(?:[5-9]|[1-9][0-9]))")
GOOGLE: Final = re.compile(r"(?:^|/)gemini")


@dataclass(frozen=True, slots=True)
class Habits:
    """What one host accepts. `limit_field` and `developer`: None decides by the model's name.

    `thinking`: how an assistant's earlier thoughts are sent back: "" not at all, "reasoning_content" as text, or
    "reasoning_details". `accepts`: of ACCEPTS. `stream_usage`: whether it knows stream_options.
    """

    limit_field: str | None = None
    developer: bool | None = None
    thinking: str = ""
    accepts: frozenset[str] = frozenset()
    stream_usage: bool = True

    def limit_of(self, model: str) -> str:
        """The field of the output limit."""
        if self.limit_field is not None:
            return self.limit_field
        return "max_completion_tokens" if OPENAI_REASONING.search(model) else "max_tokens"

    def has_developer(self, model: str) -> bool:
        """Whether the role developer is known."""
        return bool(OPENAI_REASONING.search(model)) if self.developer is None else self.developer

    def takes(self, what: str, model: str) -> bool:
        """Whether the host accepts one of ACCEPTS."""
        return what in self.accepts or (what == "extra_content" and GOOGLE.search(model) is not None)


# What only some hosts accept.
ACCEPTS: Final = frozenset({"cache_control", "extra_content", "file_url", "metadata", "top_k", "video_url"})
DEFAULT: Final = Habits()
OPENAI: Final = Habits("max_completion_tokens", True)
REASONING_TEXT: Final = Habits(thinking="reasoning_content")
LOCAL: Final = Habits(accepts=frozenset({"top_k", "video_url"}))
HABITS: Final[dict[str, Habits]] = {
    "openai": OPENAI,
    "azure": OPENAI,
    "openrouter": Habits(
        developer=True, thinking="reasoning_details", accepts=frozenset({"cache_control", "file_url", "top_k", "video_url"})
    ),
    "gemini-openai": Habits(accepts=frozenset({"extra_content"})),
    "groq": Habits("max_completion_tokens"),
    "deepseek": REASONING_TEXT,  # refuses a tool loop without the thoughts of its calls
    "moonshot": REASONING_TEXT,
    "zai": REASONING_TEXT,
    "fireworks": Habits(accepts=frozenset({"top_k"})),
    "together": Habits(accepts=frozenset({"top_k"})),
    "vllm": LOCAL,
    "llamacpp": Habits(accepts=frozenset({"top_k"})),
}


def habits_of(slug: str) -> Habits:
    """The habits of a provider, by the slug of its preset."""
    return HABITS.get(slug, DEFAULT)
