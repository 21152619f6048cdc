"""Usage: what each count becomes, and what is not believed."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.openai_responses import OpenAIResponses

API = OpenAIResponses()


@pytest.mark.parametrize(
    ("given", "meters", "reasoning"),
    [
        ({"input_tokens": 5, "output_tokens": 0}, {"input": 5, "output": 0}, 0),
        ({"input_tokens": 5, "total_tokens": 8}, {"input": 5, "output": 3}, 0),
        ({"input_tokens": 5, "output_tokens": 3, "input_tokens_details": None}, {"input": 5, "output": 3}, 0),
        ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}},
         {"input": 3, "output": 3, "cached_input": 4, "cache_write_5m": 2}, 0),
        ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cache_write_tokens": 5, "cache_write_tokens_details":
            {"ttl_30m_tokens": 2, "ttl_12h_tokens": 3}}},
         {"input": 4, "output": 3, "cache_write_5m": 2, "cache_write_1h": 3}, 0),
        ({"input_tokens": 9, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12},
         {"input": 9, "output": 3}, 2),
        # reasoning beside the output, seen in the total
        ({"input_tokens": 9, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 20}, "total_tokens": 32},
         {"input": 9, "output": 23}, 20),
        ({"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"audio_tokens": 8, "cached_tokens": 4},
          "output_tokens_details": {"audio_tokens": 1}},
         {"input": 0, "output": 2, "cached_input": 4, "audio_input": 5, "audio_output": 1}, 0),
    ],
)  # fmt: skip
def test_counts_are_disjoint(given: dict[str, Any], meters: dict[str, int], reasoning: int) -> None:
    assert API.usage_of({"usage": given}) == Usage(meters, reasoning)
    assert API.usage_of({"type": "response.completed", "response": {"usage": given}}) == Usage(meters, reasoning)


def test_no_usage_is_none() -> None:
    assert API.usage_of({}) is API.usage_of({"usage": None}) is API.usage_of({"response": {"usage": None}}) is None


@pytest.mark.parametrize(
    "given",
    [
        [], {}, {"input_tokens": -1, "output_tokens": 1}, {"input_tokens": 1.5, "output_tokens": 1}, {"input_tokens": 1},
        {"input_tokens": 1, "output_tokens": 10**12}, {"input_tokens": 1, "output_tokens": 1, "total_tokens": "2"},
        {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 2}},
        {"input_tokens": 1, "output_tokens": 1, "input_tokens_details": []},
        {"input_tokens": 1, "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": True}},
        {"prompt_tokens": 1},
    ],
)  # fmt: skip
def test_what_cannot_be_true_is_not_believed(given: Any) -> None:
    with pytest.raises(InvalidUsage):
        API.usage_of({"usage": given})
