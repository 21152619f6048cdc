"""What the one-shot endpoints share: checked fields, the size of prompts, and token usage as hosts report it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from daemon.domain.errors import ApiError
from daemon.domain.usage import MAX_COUNT, OUTPUT_METERS, InvalidUsage, Usage, checked_count

__all__ = [
    *(
        "FIELDS",
        "NO_AUDIO",
        "NO_OUTPUT",
        "Prompts",
        "about_tokens",
        "ask_prompts",
        "count_of",
        "invalid",
        "missing",
        "model_of",
    ),
    "read_tokens",
]

MODEL_LENGTH: Final = 512
N_MAX: Final = 128
CLEARLY_BYTES: Final = 16  # domain.admission takes so many bytes for at least one token when it looks at the window
TOKEN_LIST_MAX: Final = 1_000_000
MARKS: Final = 16  # tokens that hosts put around each prompt: its begin and end, a short instruction
CHARS_PER_TOKEN: Final = 4
PER_MEDIA: Final = 765
# Names that decide the price of a one-shot request, beside those of chat completions.
FIELDS: Final = frozenset(
    ("suffix", "image", "images", "size", "quality", "partial_images", "instructions", "stream_format", "response_format",
     "query", "documents", "inputs")
)  # fmt: skip
NO_AUDIO: Final = frozenset({"audio_input", "audio_output"})
NO_OUTPUT: Final = OUTPUT_METERS | {"audio_input"}


def invalid(param: str, reason: str) -> ApiError:
    return ApiError.of("invalid_value", param=param, reason=reason)


def missing(param: str) -> ApiError:
    return ApiError.of("missing_required_parameter", param=param)


def model_of(body: dict[str, Any], default: str | None = None) -> str:
    """The model; ApiError 400 when there is none and no default."""
    value = body.get("model")
    if value is None or value == "":
        if default is None:
            raise missing("model")
        return default
    if type(value) is not str or len(value) > MODEL_LENGTH or not value.isprintable() or value.isspace():
        raise invalid("model", f"it must be at most {MODEL_LENGTH} printable characters")
    return value


def count_of(body: dict[str, Any], name: str, most: int = MAX_COUNT, least: int = 1) -> int | None:
    """A count that the cost depends on; None when it is not given. ApiError 400 when it is none."""
    value = body.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise invalid(name, f"it must be an integer from {least} to {most}")
    return value


# Usage of the endpoints that have but tokens: field -> (meter, what it includes). docs/usage.md is made from it.
USAGE: Final = {
    "prompt_tokens or input_tokens": ("input", "without the cached tokens, which it includes"),
    "completion_tokens or output_tokens": ("output", ""),
    "total_tokens": ("input", "where it stands alone (Voyage)"),
    "prompt_tokens_details.cached_tokens": ("cached_input", ""),
    "completion_tokens_details.reasoning_tokens": ("reasoning", "part of output, reported beside it"),
}


@dataclass(frozen=True, slots=True)
class Prompts:
    """How much text a request holds: `count` separate prompts of `tokens` in all at most; the longest is `window_bytes`.

    A byte-level tokeniser makes at most one token of a byte, and a host puts MARKS around each; of tokens that are given
    their number is known, and `window_bytes` is such that admission's look at the window finds exactly that number.
    """

    count: int
    tokens: int
    window_bytes: int


def ask_prompts(value: object, param: str) -> Prompts:
    """A string, a list of tokens, or a list of either. ApiError 400 when it is something else or empty."""
    if value is None or value == "" or value == []:
        raise missing(param)
    items = value if type(value) is list else [value]
    if type(value) is list and type(value[0]) is int:
        items = [value]
    found = [_size(item, param) for item in items]
    return Prompts(len(found), sum(tokens + MARKS for tokens, _ in found), max(window for _, window in found))


def _size(item: object, param: str) -> tuple[int, int]:
    if type(item) is str:
        size = len(item.encode("utf-8", "replace"))
        return size, size
    if type(item) is list and all(type(token) is int for token in item) and len(item) <= TOKEN_LIST_MAX:
        return len(item), len(item) * CLEARLY_BYTES
    raise invalid(param, "it must be a string, an array of strings, an array of tokens or an array of such arrays")


def about_tokens(value: object) -> int:
    """About how many tokens prompts have, for usage that no host reported: four characters each, given tokens exactly."""
    if type(value) is str:
        return -(-len(value) // CHARS_PER_TOKEN)
    if type(value) is list:
        return len(value) if value and type(value[0]) is int else sum(about_tokens(item) for item in value)
    if type(value) is dict:
        text = value.get("text")
        return about_tokens(text) if type(text) is str else PER_MEDIA
    return 0


# Each count under the names that hosts have for it; the first that is given counts.
INPUT: Final = ("prompt_tokens", "input_tokens")
OUTPUT: Final = ("completion_tokens", "output_tokens")
DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")


def read_tokens(usage: object) -> Usage | None:
    """A usage object as meters: input (cached apart) and output; total_tokens alone is input. None without one.

    InvalidUsage when the counts cannot be true. `output` is present only when the host says something of it.
    """
    if usage is None:
        return None
    if type(usage) is not dict:
        raise InvalidUsage("usage is not an object")
    prompt, output, total = _first(usage, INPUT), _first(usage, OUTPUT), _first(usage, ("total_tokens",))
    if prompt is None:
        if total is None:
            raise InvalidUsage("usage without tokens")
        prompt = total - (output or 0)
    cached = _cached(usage)
    if prompt < 0 or cached > prompt:
        raise InvalidUsage("more cached or generated tokens than there are in all")
    meters = {"input": prompt - cached}
    if cached:
        meters["cached_input"] = cached
    if output is not None:
        meters["output"] = output
    reasoning = usage.get("completion_tokens_details")
    thought = reasoning.get("reasoning_tokens") if type(reasoning) is dict else None
    return Usage(meters, 0 if thought is None else checked_count(thought, "reasoning_tokens"))


def _first(usage: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if usage.get(name) is not None:
            return checked_count(usage[name], name)
    return None


def _cached(usage: dict[str, Any]) -> int:
    for name in DETAILS:
        details = usage.get(name)
        if type(details) is dict and details.get("cached_tokens") is not None:
            return checked_count(details["cached_tokens"], "cached_tokens")
    return 0
