"""Rerank (POST /v1/rerank; Cohere, Jina, Voyage and who imitates them): what bounds its cost, its usage, its errors.

| host | counts | where |
|---|---|---|
| Cohere | search units (one query with up to 100 documents, long ones in pieces) | meta.billed_units.search_units |
| Jina | tokens | usage.total_tokens |
| Voyage | tokens: the query's for every document, and the documents' | usage.total_tokens |
| OpenRouter | both | usage.search_units, usage.total_tokens |

A search unit is the meter `request`; which of the meters costs anything, the model's prices say.
"""

from __future__ import annotations

import json
from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.domain.usage import InvalidUsage, Usage, checked_count
from daemon.protocols.asks import MARKS, NO_OUTPUT, about_tokens, invalid, missing, model_of, read_tokens

__all__ = ["error_body", "estimate", "read", "usage_of"]

DOCUMENTS_MAX: Final = 10_000
# Cohere cuts a document so that query and piece have at most so many tokens; each piece counts as a document.
UNIT_DOCUMENTS: Final = 100
PIECE_TOKENS: Final = 512
QUERY_MOST: Final = 256  # tokens of a piece that a query takes at most


def read(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost: tokens as Voyage counts them, search units as Cohere does. ApiError 400 with `param`."""
    model = model_of(body)
    query = _size(body.get("query"), "query")
    documents = body.get("documents")
    if documents is None or documents == []:
        raise missing("documents")
    if type(documents) is not list or len(documents) > DOCUMENTS_MAX:
        raise invalid("documents", f"it must be an array of at most {DOCUMENTS_MAX} strings or objects")
    sizes = [_size(document, f"documents[{index}]") for index, document in enumerate(documents)]
    pieces = sum(1 + length // (PIECE_TOKENS - min(query, QUERY_MOST)) for length in sizes)
    return Ask(
        model=model,
        stream=False,
        body_bytes=query,  # hosts cut documents to their window
        input_bound=sum(sizes) + (query + MARKS) * pieces,
        output_limit=0,
        output_extra=0,
        n=1,
        media_parts=sum(1 for part in (body["query"], *documents) if type(part) is dict and "image" in part),
        features=frozenset(),
        unbounded=(),
        not_used=NO_OUTPUT,
        inputs=sum(sizes),  # hosts also cut documents into pieces that fit their window, of any size
        extra_bound={"request": -(-pieces // UNIT_DOCUMENTS)},
        prompt_field="query",
    )


def estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """The tokens of a request whose host reports none, as Voyage counts them."""
    documents = body.get("documents")
    many = len(documents) if type(documents) is list else 1
    return Usage({"input": max(1, about_tokens(body.get("query")) * many + about_tokens(documents))}, estimated=True)


def _size(value: object, param: str) -> int:
    """Bytes of a text or of an object's JSON."""
    if value is None or value == "":
        raise missing(param)
    if type(value) is dict:
        return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    if type(value) is not str:
        raise invalid(param, "it must be a string or an object")
    return len(value.encode("utf-8", "replace"))


def usage_of(body: dict[str, Any]) -> Usage | None:
    """Tokens as `input`, search units as `request`; None when the reply tells neither. InvalidUsage when not believable."""
    meta, usage = body.get("meta"), body.get("usage")
    billed = meta.get("billed_units") if type(meta) is dict else None
    tokens = meta.get("tokens") if type(meta) is dict else None
    meters: dict[str, int] = {}
    for holder in (usage, billed, tokens):
        if type(holder) is not dict:
            continue
        if "input" not in meters and any(holder.get(name) is not None for name in TOKENS):
            found = read_tokens({name: _whole(holder[name], name) for name in TOKENS if holder.get(name) is not None})
            meters["input"] = found.input_tokens if found is not None else 0
        if "request" not in meters and holder.get("search_units") is not None:
            meters["request"] = _whole(holder["search_units"], "search_units")
    if not meters and usage is not None:
        raise InvalidUsage("usage of an unknown shape")
    return Usage(meters) if meters else None


# Field of the reply -> (meter, what it includes). docs/usage.md is made from it.
USAGE: Final = {
    "usage.total_tokens": ("input", "or prompt_tokens, input_tokens; also in meta.tokens and meta.billed_units"),
    "meta.billed_units.search_units": ("request", "or usage.search_units"),
}
TOKENS: Final = ("total_tokens", "input_tokens", "prompt_tokens")


def _whole(value: object, name: str) -> int:
    """Cohere writes counts as 1.0."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return checked_count(value, name)


def error_body(error: ApiError) -> bytes:
    """OpenAI's envelope, and `message` beside it, where Cohere's and Jina's clients look."""
    fields = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return json.dumps({"message": error.message, "error": fields}, separators=(",", ":")).encode()
