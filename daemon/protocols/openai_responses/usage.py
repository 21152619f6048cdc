"""Usage of a response, as disjoint meters and back.

Which field is which meter: tables.USAGE. A host that leaves reasoning out of output_tokens counts it in total_tokens: it is
added when that makes the sum right. Hosts that report as chat completions do (Azure, of models of others) are read under those
names. null and absent mean 0 in the details; the prompt's tokens must be there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from daemon.domain.usage import InvalidUsage, Usage, checked_count
from daemon.protocols.hosted import hosted_calls_of, with_hosted
from daemon.protocols.tiers import reported_tier

NAMES_OF_CHAT: Final = {
    "input_tokens": "prompt_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens": "completion_tokens",
    "output_tokens_details": "completion_tokens_details",
    "total_tokens": "total_tokens",
}


def usage_of(body: dict[str, Any]) -> Usage | None:
    """Of a whole reply, or of an event that holds one in `response`; None when it has none, InvalidUsage when untrue."""
    usage = body.get("usage")
    if usage is None and type(response := body.get("response")) is dict:
        body, usage = response, response.get("usage")
    if usage is None:
        return None
    found = read_usage(usage)
    calls = hosted_calls_of(usage, body.get("output"))
    return replace(found, meters=with_hosted(found.meters, calls), tier=reported_tier(body))


def read_usage(usage: object) -> Usage:
    """A usage object; InvalidUsage when it cannot be true."""
    if type(usage) is not dict:
        raise InvalidUsage("usage is not an object")
    if "input_tokens" not in usage and "prompt_tokens" in usage:
        usage = {ours: usage[theirs] for ours, theirs in NAMES_OF_CHAT.items() if theirs in usage}
    prompt = checked_count(usage.get("input_tokens"), "input_tokens")
    total = usage.get("total_tokens")
    if total is not None:
        checked_count(total, "total_tokens")
    if usage.get("output_tokens") is not None:
        output = checked_count(usage["output_tokens"], "output_tokens")
    elif total is not None and total >= prompt:
        output = total - prompt
    else:
        raise InvalidUsage("output_tokens is missing")
    details, out_details = _details(usage, "input_tokens_details"), _details(usage, "output_tokens_details")
    reasoning = _count(out_details, "reasoning_tokens")
    if total is not None and reasoning and total == prompt + output + reasoning:
        output += reasoning

    cached, written = _count(details, "cached_tokens"), _count(details, "cache_write_tokens")
    long = _count(_details(details, "cache_write_tokens_details"), "ttl_12h_tokens")
    audio_in, audio_out = _count(details, "audio_tokens"), _count(out_details, "audio_tokens")
    if cached + written > prompt or long > written or audio_in > prompt or audio_out > output:
        raise InvalidUsage("a part is larger than the tokens it is part of")
    # Audio can be cached too, and is then in both counts: the cached price is the one that applies to it.
    audio_in = min(audio_in, prompt - cached - written)
    meters = {"input": prompt - cached - written - audio_in, "output": output - audio_out}
    for meter, count in (
        ("cached_input", cached),
        ("cache_write_5m", written - long),
        ("cache_write_1h", long),
        ("audio_input", audio_in),
        ("audio_output", audio_out),
    ):
        if count:
            meters[meter] = count
    return Usage(meters, reasoning)


def usage_object(usage: Usage) -> dict[str, Any]:
    """As this API writes it."""
    meters = usage.meters
    short, long = meters.get("cache_write_5m", 0), meters.get("cache_write_1h", 0)
    details: dict[str, Any] = {"cached_tokens": meters.get("cached_input", 0), "cache_write_tokens": short + long}
    if long:
        details["cache_write_tokens_details"] = {"ttl_30m_tokens": short, "ttl_12h_tokens": long}
    if audio := meters.get("audio_input"):
        details["audio_tokens"] = audio
    out_details = {"reasoning_tokens": usage.reasoning}
    if audio := meters.get("audio_output"):
        out_details["audio_tokens"] = audio
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": out_details,
        "total_tokens": usage.total_tokens,
    }


def _details(holder: dict[str, Any], name: str) -> dict[str, Any]:
    value = holder.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise InvalidUsage(f"{name} is not an object")
    return value


def _count(holder: dict[str, Any], name: str) -> int:
    value = holder.get(name)
    return 0 if value is None else checked_count(value, name)
