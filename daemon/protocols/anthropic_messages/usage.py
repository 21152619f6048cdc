"""Usage of a message, as disjoint meters and back.

Which field is which meter: tables.USAGE. With `iterations` (compaction, fallback, advisor) the counts at the top are those of
the answer alone, and what was used is the sum over all iterations. In a stream the fields of message_delta replace those of
message_start: they are cumulative. null and absent mean 0, but for input_tokens and output_tokens, which must be there.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.usage import MAX_COUNT, InvalidUsage, Usage, checked_count, combine
from daemon.protocols.hosted import hosted_calls_of, with_hosted
from daemon.protocols.tiers import reported_tier

__all__ = ["overlaid", "read_usage", "usage_object", "usage_of"]

Raw = dict[str, Any]
ITERATIONS_MAX: Final = 10_000


def usage_of(body: Raw) -> Usage | None:
    """Of a whole reply; None when it has none, InvalidUsage when it cannot be true."""
    usage = body.get("usage")
    return None if usage is None else read_usage(usage)


def read_usage(usage: object) -> Usage:
    """A usage object; InvalidUsage when it cannot be true."""
    if type(usage) is not dict:
        raise InvalidUsage("usage is not an object")
    top = _counts(usage)
    details = usage.get("output_tokens_details")
    reasoning = _optional(details, "thinking_tokens") if type(details) is dict else 0
    iterations = usage.get("iterations")
    found = top
    if type(iterations) is list and iterations:
        if len(iterations) > ITERATIONS_MAX:
            raise InvalidUsage(f"more than {ITERATIONS_MAX} iterations")
        total = combine(_counts(iteration) for iteration in iterations)
        # A sum below the counts at the top is not one over everything that was used.
        found = total if total.total_tokens >= top.total_tokens else top
    if max(found.input_tokens, found.output_tokens) > MAX_COUNT:
        raise InvalidUsage(f"the tokens are more than {MAX_COUNT}")
    meters = with_hosted(found.meters, hosted_calls_of(usage))
    return Usage(meters, min(reasoning, found.output_tokens), tier=reported_tier(usage))


def _counts(usage: object) -> Usage:
    if type(usage) is not dict:
        raise InvalidUsage("an iteration is not an object")
    meters = {
        "input": checked_count(usage.get("input_tokens"), "input_tokens"),
        "output": checked_count(usage.get("output_tokens"), "output_tokens"),
    }
    if cached := _optional(usage, "cache_read_input_tokens"):
        meters["cached_input"] = cached
    written = _optional(usage, "cache_creation_input_tokens")
    times = usage.get("cache_creation")
    if type(times) is dict:
        short, long = _optional(times, "ephemeral_5m_input_tokens"), _optional(times, "ephemeral_1h_input_tokens")
        # A later event repeats the sum only; the division is then that of the first.
        written = written if usage.get("cache_creation_input_tokens") is not None else short + long
        long = min(long, written)
    else:
        long = 0
    if written - long:
        meters["cache_write_5m"] = written - long
    if long:
        meters["cache_write_1h"] = long
    return Usage(meters)


def _optional(holder: Raw, name: str) -> int:
    value = holder.get(name)
    return 0 if value is None else checked_count(value, name)


def overlaid(base: Raw, later: object) -> Raw:
    """The fields of `later` that have a value over those of `base`."""
    if type(later) is not dict:
        return base
    return {**base, **{name: value for name, value in later.items() if value is not None}}


def usage_object(usage: Usage | None) -> Raw:
    """As this API writes it; zeros when nothing is known. Tokens of images and audio are among the others."""
    meters = usage.meters if usage is not None else {}
    short, long = meters.get("cache_write_5m", 0), meters.get("cache_write_1h", 0)
    cached = meters.get("cached_input", 0)
    return {
        "input_tokens": usage.input_tokens - cached - short - long if usage is not None else 0,
        "cache_creation_input_tokens": short + long,
        "cache_read_input_tokens": cached,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
        "output_tokens": usage.output_tokens if usage is not None else 0,
        "output_tokens_details": {"thinking_tokens": usage.reasoning if usage is not None else 0},
    }
