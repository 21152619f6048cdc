"""What Gemini's model generations accept, as far as their names tell it.

| since | thinking | |
|---|---|---|
| 3 | a level, never off; a signature on calls; JSON beside tools; media in results; pays by search | Pro has no minimal |
| 2.5 | a budget: 0 is off, -1 adaptive | Pro cannot be switched off: 128 at least |
| before, and Gemma, embeddings | none | |

Names without a version (gemini-flash-latest, an operator's own) are of the newest. To add a generation: a row in GENERATIONS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["BUDGETS", "Generation", "generation_of"]

_VERSION: Final = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_THOUGHTLESS: Final = re.compile(r"gemma|learnlm|aqa")
NEWEST: Final = (99, 0)


@dataclass(frozen=True, slots=True)
class Generation:
    """`thinks`: at all. `levels`: effort -> thinkingLevel; empty where a budget says it. `least_budget`: what stands for off.

    `signed_calls`: the first call of each turn needs a signature. `json_beside_tools`: a schema and functions at once.
    `media_in_results`: functionResponse may have parts. `pays_by_query`: each web search costs, not all of a reply together.
    """

    thinks: bool
    levels: dict[str, str]
    least_budget: int
    signed_calls: bool
    json_beside_tools: bool
    media_in_results: bool
    pays_by_query: bool


LEVELS: Final = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high", "xhigh": "high"}
GENERATIONS: Final[tuple[tuple[tuple[int, int], Generation], ...]] = (
    ((3, 0), Generation(True, LEVELS, 0, True, True, True, True)),
    ((2, 5), Generation(True, {}, 0, False, False, False, False)),
    ((0, 0), Generation(False, {}, 0, False, False, False, False)),
)
PRO: Final = {
    (3, 0): Generation(True, LEVELS | {"minimal": "low"}, 0, True, True, True, True),
    (2, 5): Generation(True, {}, 128, False, False, False, False),
}

# effort -> tokens, for models that know budgets only; each within the limits of every one of them
BUDGETS: Final = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}


def generation_of(model: str) -> Generation:
    """By the version in the name."""
    name = model.lower()
    if _THOUGHTLESS.search(name):
        return GENERATIONS[-1][1]
    found = _VERSION.search(name)
    version = (int(found[1]), int(found[2] or 0)) if found else NEWEST
    since, generation = next(row for row in GENERATIONS if version >= row[0])
    return PRO.get(since, generation) if "-pro" in name else generation
