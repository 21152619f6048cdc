"""What of a prompt has to be counted, whatever its dialect: its words, and how many pieces cost a fixed number of tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Countable"]


@dataclass(slots=True)
class Countable:
    """`texts` to count the tokens of; messages (the system prompt is one), tools and media cost a fixed number each."""

    texts: list[str] = field(default_factory=list)
    messages: int = 0
    tools: int = 0
    media: int = 0
