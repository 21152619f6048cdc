"""Tools that Google runs: which of a request's tools they are, and their calls as a reply shows them.

| name | tools of requests | calls, of all candidates and chunks together |
|---|---|---|
| web_search | googleSearch, googleSearchRetrieval, enterpriseWebSearch | webSearchQueries; before Gemini 3 one for all |
| web_fetch | urlContext | urlContextMetadata.urlMetadata |
| file_search | fileSearch | retrievalQueries |
| code_interpreter | codeExecution | executableCode |
| google_maps | googleMaps | one when a grounding chunk is of maps |

Every other tool stands for itself (computerUse: the client runs it, but Google adds to the prompt). The same call is told again
in later chunks, so calls are told apart by what they asked for.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.admission import ANY_NUMBER
from daemon.protocols.gemini.models import generation_of
from daemon.protocols.gemini.values import objects_of, snake, string_of
from daemon.protocols.hosted import hosted_tools, name_of

__all__ = ["FUNCTIONS", "add_runs", "counted", "hosted_of"]

Raw = dict[str, Any]
Runs = dict[str, set[str]]
FUNCTIONS: Final = "functionDeclarations"
QUERIES: Final = (("web_search", "webSearchQueries"), ("file_search", "retrievalQueries"))


def hosted_of(tools: list[Raw]) -> dict[str, int]:
    """For Ask.hosted. A request cannot limit them."""
    kinds = [
        snake(name) for tool in tools for name, value in tool.items() if value is not None and snake(name) != snake(FUNCTIONS)
    ]
    own = {kind: ANY_NUMBER for kind in kinds if name_of(kind) is None}
    return hosted_tools((kind, None) for kind in kinds) | own


def add_runs(runs: Runs, body: Raw) -> bool:
    """Add the calls that a reply or chunk shows; whether any is new."""
    before = sum(map(len, runs.values()))
    for candidate in objects_of(body, "candidates"):
        if type(grounding := candidate.get("groundingMetadata")) is dict:
            for name, field in QUERIES:
                queries = grounding.get(field)
                _add(runs, name, queries if type(queries) is list else [])
            if any("maps" in chunk for chunk in objects_of(grounding, "groundingChunks")):
                _add(runs, "google_maps", ["maps"])
        if type(context := candidate.get("urlContextMetadata")) is dict:
            _add(runs, "web_fetch", [string_of(page, "retrievedUrl") for page in objects_of(context, "urlMetadata")])
        content = candidate.get("content")
        for part in objects_of(content, "parts") if type(content) is dict else ():
            if type(code := part.get("executableCode")) is dict:
                _add(runs, "code_interpreter", [string_of(code, "code")])
    return sum(map(len, runs.values())) > before


def _add(runs: Runs, name: str, asked: list[Any]) -> None:
    for what in asked:
        if type(what) is str:
            runs.setdefault(name, set()).add(what)


def counted(runs: Runs, model: str) -> dict[str, int]:
    """Calls by name. `model`: as the reply names it."""
    found = {name: len(asked) for name, asked in runs.items()}
    if "web_search" in found and not generation_of(model).pays_by_query:
        found["web_search"] = 1
    return found
