"""Embeddings (POST /v1/embeddings; OpenAI, Mistral, Voyage, Jina): what bounds their cost, and their usage.

Bytes pass through, `encoding_format` and `dimensions` with them; errors are in OpenAI's envelope. Nothing is generated, so
only input is paid for. Voyage reports total_tokens alone.
"""

from __future__ import annotations

from typing import Any

from daemon.domain.admission import Ask
from daemon.domain.usage import Usage
from daemon.protocols.asks import MARKS, NO_OUTPUT, Prompts, about_tokens, ask_prompts, model_of, read_tokens

__all__ = ["estimate", "read", "usage_of"]


def read(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost: the texts together; the window holds each of them alone. ApiError 400 with `param`."""
    model = model_of(body)
    media, prompts = _inputs(body, size)
    return Ask(
        model=model,
        stream=False,
        body_bytes=prompts.window_bytes,
        input_bound=prompts.tokens,
        output_limit=0,
        output_extra=0,
        n=1,
        media_parts=media,
        features=frozenset(),
        unbounded=(),
        not_used=NO_OUTPUT,
        inputs=prompts.count,
        prompt_field="input",
    )


def _inputs(body: dict[str, Any], size: int) -> tuple[int, Prompts]:
    """(inputs that are not text, the texts). Jina and Voyage take objects: {"text"} or {"image"}."""
    value = body.get("input", body.get("inputs"))
    if type(value) is not list or not any(type(item) is dict for item in value):
        return 0, ask_prompts(value, "input")
    media = sum(1 for item in value if type(item) is dict and type(item.get("text")) is not str)
    return media, Prompts(len(value), size + MARKS * len(value), size // len(value))


def estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """The prompt tokens of a request whose host reports none."""
    return Usage({"input": max(1, about_tokens(body.get("input", body.get("inputs"))))}, estimated=True)


def usage_of(body: dict[str, Any]) -> Usage | None:
    """The usage of a reply; None when it has none, InvalidUsage when it cannot be true."""
    found = read_tokens(body.get("usage"))
    if found is None or found.meters.get("output"):
        return found
    return Usage({name: count for name, count in found.meters.items() if name != "output"})
