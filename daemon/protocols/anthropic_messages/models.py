"""What Anthropic's model generations accept, as far as their names tell it.

| since | thinking | sampling |
|---|---|---|
| other names | a budget, or disabled | temperature and top_p |
| 4.1 | the same | temperature or top_p, not both |
| 4.6 | adaptive, with an effort up to max; disabled | the same |
| 4.7 | adaptive, with an effort up to xhigh, max; off when not asked for | none |

Hosts that imitate the API know budgets. To add a generation: a row in GENERATIONS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["BUDGETS", "Generation", "effort_of_budget", "generation_of"]

# claude-opus-4-7, claude-3-7-sonnet-20250219, claude-4.7-opus, claude-opus-4-20250514 (4.0), claude-fable-5
_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")


@dataclass(frozen=True, slots=True)
class Generation:
    """`samplers`: how many of temperature and top_p (0: not top_k either). `efforts`: canonical effort -> the API's."""

    adaptive: bool
    can_disable: bool
    samplers: int
    efforts: dict[str, str]


LOWER: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high"}
GENERATIONS: Final[tuple[tuple[tuple[int, int], Generation], ...]] = (
    ((4, 7), Generation(True, False, 0, LOWER | {"xhigh": "xhigh"})),
    ((4, 6), Generation(True, True, 1, LOWER | {"xhigh": "max"})),
    ((4, 1), Generation(False, True, 1, {})),
    ((0, 0), Generation(False, True, 2, {})),
)

# effort -> tokens, for models that know budgets only
BUDGETS: Final = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 32_768}
# (a budget below this, effort), for models that know efforts only
_EFFORT_OF_BUDGET: Final = ((4096, "low"), (16_384, "medium"))


def generation_of(model: str) -> Generation:
    """By the version in the name; a name without one is of the oldest."""
    found = _VERSION.search(model.lower())
    version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    return next(generation for since, generation in GENERATIONS if version >= since)


def effort_of_budget(tokens: int) -> str:
    return next((effort for below, effort in _EFFORT_OF_BUDGET if tokens < below), "high")
