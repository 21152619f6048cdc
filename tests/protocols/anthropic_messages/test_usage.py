"""Usage as a client of the Messages API reads it."""

from __future__ import annotations

from daemon.domain.usage import METERS, Usage
from daemon.protocols.anthropic_messages.usage import read_usage, usage_object


def test_every_token_is_in_one_of_the_counts() -> None:
    tokens = [meter.name for meter in METERS.values() if meter.unit == "token"]
    usage = Usage({name: 10**place for place, name in enumerate(tokens)}, reasoning=7)
    written = usage_object(usage)
    read = read_usage(written)
    assert (read.input_tokens, read.output_tokens, read.reasoning) == (usage.input_tokens, usage.output_tokens, 7)
    for name in ("cached_input", "cache_write_5m", "cache_write_1h"):
        assert read.meters[name] == usage.meters[name]


def test_nothing_known_is_zeros() -> None:
    assert read_usage(usage_object(None)).total_tokens == 0
