"""Read the usage and the text of a chat completion, whatever the host calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from daemon.domain.usage import InvalidUsage, Usage, checked_count
from daemon.protocols.hosted import hosted_calls_of, with_hosted
from daemon.protocols.tiers import reported_tier

__all__ = ["delta_texts", "reply_text", "reply_tool_calls", "usage_of"]

# Where hosts say how a prompt's tokens divide; prompt_tokens includes all of them. The largest wins: some hosts give
# the same number twice, under two names. None and absent mean 0, and 0 is a value.
#   (container or "", field)                            said by
CACHED: Final = (
    ("prompt_tokens_details", "cached_tokens"),  # OpenAI, Azure, xAI, Groq, OpenRouter, Gemini
    ("", "prompt_cache_hit_tokens"),  # DeepSeek
    ("", "cached_tokens"),  # Moonshot
    ("", "num_cached_tokens"),  # Mistral
)
CACHE_WRITE: Final = (
    ("prompt_tokens_details", "cache_write_tokens"),  # OpenAI, OpenRouter
    ("prompt_tokens_details", "cache_creation_input_tokens"),  # Qwen
)
AUDIO_IN: Final = (("prompt_tokens_details", "audio_tokens"),)
AUDIO_OUT: Final = (("completion_tokens_details", "audio_tokens"),)
REASONING: Final = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("", "reasoning_tokens"),  # Perplexity
)
CALL: Final = ".call."  # in the channel of a tool call
# To add a host: 1 its name for a count in these tables, 2 its place for the object in `raw_usage`, 3 a golden case.


def raw_usage(obj: dict[str, Any]) -> object:
    """The usage object of a reply or chunk, unchecked: at the top, in Groq's x_groq, or in a choice (Moonshot)."""
    if (usage := obj.get("usage")) is not None:
        return usage
    groq = obj.get("x_groq")
    if type(groq) is dict and (usage := groq.get("usage")) is not None:
        return usage
    choices = obj.get("choices")
    if type(choices) is list:
        for choice in choices:
            if type(choice) is dict and (usage := choice.get("usage")) is not None:
                return usage
    return None


def usage_of(obj: dict[str, Any]) -> Usage | None:
    """The usage of a reply or of one chunk, as disjoint meters; None when it has none (or null).

    `input` and `output` are always present, so that zeros are seen to be values. InvalidUsage when the numbers are not
    integers within bounds or contradict each other.

    xAI's chat and Gemini's OpenAI endpoint leave reasoning out of completion_tokens and count it in total_tokens only;
    so when the total is the larger, output is total - prompt.
    """
    usage = raw_usage(obj)
    if usage is None:
        return None
    if type(usage) is not dict:
        raise InvalidUsage("usage is not an object")
    prompt = checked_count(usage.get("prompt_tokens"), "prompt_tokens")
    total = usage.get("total_tokens")
    if total is not None:
        checked_count(total, "total_tokens")
    if "completion_tokens" in usage:
        completion = checked_count(usage["completion_tokens"], "completion_tokens")
    elif total is not None and total >= prompt:
        completion = total - prompt
    else:
        raise InvalidUsage("completion_tokens is missing")
    output = max(completion, total - prompt) if total is not None else completion

    cached = _count(usage, CACHED)
    written = _count(usage, CACHE_WRITE)
    audio_in = _count(usage, AUDIO_IN)
    audio_out = _count(usage, AUDIO_OUT)
    if cached + written > prompt or audio_in > prompt:
        raise InvalidUsage("more cached, written or audio tokens than prompt tokens")
    if audio_out > output:
        raise InvalidUsage("more audio tokens than completion tokens")
    # Audio can be cached too, and is then in both counts: the cached price is the one that applies to it.
    audio_in = min(audio_in, prompt - cached - written)

    meters = {"input": prompt - cached - written - audio_in, "output": output - audio_out}
    if cached:
        meters["cached_input"] = cached
    if written:
        meters["cache_write_5m"] = written
    if audio_in:
        meters["audio_input"] = audio_in
    if audio_out:
        meters["audio_output"] = audio_out
    return Usage(with_hosted(meters, hosted_calls_of(usage)), _count(usage, REASONING), tier=reported_tier(obj))


def _count(usage: dict[str, Any], places: tuple[tuple[str, str], ...]) -> int:
    most = 0
    for container, name in places:
        holder = usage.get(container) if container else usage
        if type(holder) is not dict:
            if holder is None:
                continue
            raise InvalidUsage(f"{container} is not an object")
        value = holder.get(name)
        if value is not None:
            most = max(most, checked_count(value, name))
    return most


def reply_text(obj: dict[str, Any]) -> str:
    """Everything that a non-streaming reply generated, for counting: content, reasoning, refusals, calls, all choices."""
    texts: dict[str, list[str]] = {}
    for channel, text in delta_texts(obj, "message"):
        texts.setdefault(channel, []).append(text)
    return "\n".join("".join(parts) for parts in texts.values())


def reply_tool_calls(obj: dict[str, Any]) -> int:
    """How many tool calls a non-streaming reply makes, over all choices."""
    return len({channel for channel, _ in delta_texts(obj, "message") if CALL in channel})


def delta_texts(obj: dict[str, Any], holder: str = "delta") -> Iterator[tuple[str, str]]:
    """(channel, text) for all that a chunk ("delta") or reply ("message") generated. Channels tell choices and calls apart."""
    choices = obj.get("choices")
    if type(choices) is not list:
        return
    for position, choice in enumerate(choices):
        if type(choice) is not dict:
            continue
        delta = choice.get(holder)
        if type(delta) is not dict:
            continue
        index = choice.get("index", position)
        for name in ("reasoning_content", "reasoning", "content", "refusal"):
            value = delta.get(name)
            if not value or (name == "reasoning" and delta.get("reasoning_content")):
                continue  # some hosts send the same reasoning under both names
            for text in [value] if type(value) is str else _nested(value):
                yield f"{index}.{name}", text
        yield from _calls(delta, index)
        audio = delta.get("audio")
        if type(audio) is dict and type(audio.get("transcript")) is str:
            yield f"{index}.audio", audio["transcript"]


def _calls(delta: dict[str, Any], index: object) -> Iterator[tuple[str, str]]:
    calls = delta.get("tool_calls")
    found = list(enumerate(calls)) if type(calls) is list else []
    if type(delta.get("function_call")) is dict:
        found.append((len(found), {"function": delta["function_call"]}))
    for position, call in found:
        if type(call) is not dict:
            continue
        function = call.get("function") or call.get("custom")
        if type(function) is dict:
            for name in ("name", "arguments", "input"):
                if type(text := function.get(name)) is str and text:
                    yield f"{index}{CALL}{call.get('index', position)}", text


def _nested(value: object) -> list[str]:
    """The texts in a content that is a list of parts, or parts of parts (Mistral's thinking)."""
    texts: list[str] = []
    todo = [value]
    while todo:
        node = todo.pop()
        if type(node) is list:
            todo.extend(reversed(node))
        elif type(node) is dict:
            todo.extend(node[name] for name in ("thinking", "text") if name in node)
        elif type(node) is str:
            texts.append(node)
    return texts
