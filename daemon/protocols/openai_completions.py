"""OpenAI completions (POST /v1/completions), the older form without messages: what bounds its cost, its usage, its stream.

Bytes pass through; errors are in OpenAI's envelope. Each prompt has n answers, best_of are paid for. `echo` repeats the
prompt without billing it again, `suffix` is prompt, `logprobs` cost nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from daemon.domain.admission import Ask
from daemon.domain.usage import MAX_COUNT, Usage
from daemon.protocols.asks import (
    MARKS,
    N_MAX,
    NO_AUDIO,
    Prompts,
    about_tokens,
    ask_prompts,
    count_of,
    invalid,
    model_of,
    read_tokens,
)
from daemon.protocols.event_reader import EventReader
from daemon.protocols.tiers import reported_tier

__all__ = ["DEFAULT_MAX_TOKENS", "estimate", "read", "reply_text", "stream_reader", "usage_of"]

DEFAULT_MAX_TOKENS = 16  # OpenAI's, when the body names none; other hosts have their own, so it is not relied on
NO_PROMPT = Prompts(1, MARKS, 1)  # no prompt at all: the model begins a document


def read(body: dict[str, Any], size: int) -> Ask:
    """What bounds the cost. `n` of the result counts the answers to all prompts. ApiError 400 with `param`."""
    model = model_of(body)
    prompts = NO_PROMPT if body.get("prompt") in (None, "") else ask_prompts(body["prompt"], "prompt")
    suffix = body.get("suffix")
    if suffix is not None and type(suffix) is not str:
        raise invalid("suffix", "it must be a string")
    more = len(suffix.encode("utf-8", "replace")) if suffix else 0
    options = body.get("stream_options")
    include = options.get("include_usage") if type(options) is dict else None
    answers = max(count_of(body, "n", N_MAX) or 1, count_of(body, "best_of", N_MAX) or 1)
    return Ask(
        model=model,
        stream=body.get("stream") is True,
        body_bytes=prompts.window_bytes + more,
        input_bound=prompts.tokens + more * prompts.count,
        output_limit=count_of(body, "max_tokens", MAX_COUNT, 0),
        output_extra=0,
        n=answers * prompts.count,
        media_parts=0,
        features=frozenset(),
        unbounded=(),
        not_used=NO_AUDIO,
        include_usage=include if type(include) is bool else None,
        inputs=prompts.count,
        prompt_field="prompt",
    )


def estimate(body: dict[str, Any], text: str, files: int) -> Usage:
    """The prompt tokens of a request whose host reports none; the text is counted elsewhere."""
    return Usage({"input": max(1, about_tokens(body.get("prompt")) + about_tokens(body.get("suffix")))}, estimated=True)


def usage_of(body: dict[str, Any]) -> Usage | None:
    """The usage of a reply or of one chunk; None when it has none, InvalidUsage when it cannot be true."""
    found = read_tokens(body.get("usage"))
    return found and replace(found, tier=reported_tier(body))


def reply_text(body: dict[str, Any]) -> str:
    """The generated text of a reply or of one chunk, all answers."""
    choices = body.get("choices")
    texts = [choice.get("text") for choice in choices if type(choice) is dict] if type(choices) is list else []
    return "".join(text for text in texts if type(text) is str)


def stream_reader() -> EventReader:
    """Watches a stream of chunks; it ends with [DONE]."""
    return EventReader(usage_of, reply_text)
