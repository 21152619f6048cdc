"""Moderations (POST /v1/moderations): what bounds their cost, and their usage where a host reports one.

Bytes pass through; errors are in OpenAI's envelope. OpenAI's own are free and report no usage; Mistral's count tokens.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.usage import Usage
from daemon.protocols.asks import MARKS, NO_OUTPUT, about_tokens, ask_prompts, missing, model_of, read_tokens

__all__ = ["DEFAULT_MODEL", "estimate", "read", "usage_of"]

DEFAULT_MODEL: Final = "omni-moderation-latest"  # OpenAI's, when the body names none


def read(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost: a string, strings, or parts of which images count as media. ApiError 400 with `param`."""
    model = model_of(body, DEFAULT_MODEL)
    value = body.get("input")
    media, inputs = 0, 1
    if type(value) is list and value and type(value[0]) is dict:
        media = sum(1 for part in value if type(part) is dict and part.get("type") != "text")
        tokens, longest = size + MARKS, size
    elif value is None:
        raise missing("input")
    else:
        prompts = ask_prompts(value, "input")
        tokens, longest, inputs = prompts.tokens, prompts.window_bytes, prompts.count
    return Ask(
        model=model,
        stream=False,
        body_bytes=longest,
        input_bound=tokens,
        output_limit=0,
        output_extra=0,
        n=1,
        media_parts=media,
        features=frozenset(),
        unbounded=(),
        not_used=NO_OUTPUT,
        inputs=inputs,
        prompt_field="input",
    )


def estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """The prompt tokens of a request whose host reports none."""
    return Usage({"input": max(1, about_tokens(body.get("input")))}, estimated=True)


def usage_of(body: dict[str, Any]) -> Usage | None:
    """The usage of a reply; None when it has none, InvalidUsage when it cannot be true."""
    return read_tokens(body.get("usage"))
