"""Usage is split into disjoint meters, and believed only when it can be true."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.usage import InvalidUsage, Usage
from daemon.protocols.openai_chat import reply_text, reply_tool_calls, usage_of

PLAIN = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}


def details(**counts: Any) -> dict[str, Any]:
    return {**PLAIN, "prompt_tokens_details": counts}


def made(**counts: Any) -> dict[str, Any]:
    return {**PLAIN, "completion_tokens_details": counts}


@pytest.mark.parametrize(
    ("usage", "meters", "reasoning"),
    [
        (PLAIN, {"input": 100, "output": 20}, 0),
        ({"prompt_tokens": 100, "completion_tokens": 20}, {"input": 100, "output": 20}, 0),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {"input": 0, "output": 0}, 0),
        ({"prompt_tokens": 100, "total_tokens": 120}, {"input": 100, "output": 20}, 0),
        ({**PLAIN, "cost": 99.5, "is_byok": False, "x": "y"}, {"input": 100, "output": 20}, 0),
        # cached and written tokens are part of the prompt
        (details(cached_tokens=40), {"input": 60, "output": 20, "cached_input": 40}, 0),
        (details(cached_tokens=100), {"input": 0, "output": 20, "cached_input": 100}, 0),
        (details(cache_write_tokens=30), {"input": 70, "output": 20, "cache_write_5m": 30}, 0),
        (
            details(cached_tokens=40, cache_write_tokens=60),
            {"input": 0, "output": 20, "cached_input": 40, "cache_write_5m": 60},
            0,
        ),
        (
            {**PLAIN, "prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60},
            {"input": 60, "output": 20, "cached_input": 40},
            0,
        ),
        ({**details(cached_tokens=40), "prompt_cache_hit_tokens": 40}, {"input": 60, "output": 20, "cached_input": 40}, 0),
        ({**PLAIN, "cached_tokens": 40}, {"input": 60, "output": 20, "cached_input": 40}, 0),
        ({**PLAIN, "num_cached_tokens": 40}, {"input": 60, "output": 20, "cached_input": 40}, 0),
        # null details are absent details
        (details(cached_tokens=None, audio_tokens=None), {"input": 100, "output": 20}, 0),
        ({**PLAIN, "prompt_tokens_details": None, "completion_tokens_details": None}, {"input": 100, "output": 20}, 0),
        # audio
        (details(audio_tokens=30), {"input": 70, "output": 20, "audio_input": 30}, 0),
        (details(audio_tokens=100, cached_tokens=10), {"input": 0, "output": 20, "cached_input": 10, "audio_input": 90}, 0),
        (made(audio_tokens=15), {"input": 100, "output": 5, "audio_output": 15}, 0),
        # reasoning inside, and outside
        (made(reasoning_tokens=15), {"input": 100, "output": 20}, 15),
        ({**made(reasoning_tokens=50), "total_tokens": 170}, {"input": 100, "output": 70}, 50),
        ({"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}, {"input": 35, "output": 74}, 0),
        ({**PLAIN, "reasoning_tokens": 7}, {"input": 100, "output": 20}, 7),
        ({**PLAIN, "total_tokens": 3}, {"input": 100, "output": 20}, 0),
    ],
)
def test_each_way_of_reporting_is_read(usage: dict[str, Any], meters: dict[str, int], reasoning: int) -> None:
    assert usage_of({"usage": usage}) == Usage(meters, reasoning)
    assert usage_of({"choices": [], "usage": None, "x_groq": {"id": "1", "usage": usage}}) == Usage(meters, reasoning)
    assert usage_of({"choices": [{"index": 0, "delta": {}, "usage": usage}]}) == Usage(meters, reasoning)


@pytest.mark.parametrize(
    "obj",
    [{}, {"usage": None}, {"usage": None, "x_groq": {"id": "1"}}, {"x_groq": None}, {"choices": [None, 1, {"usage": None}]}],
)
def test_no_usage_is_not_invalid_usage(obj: dict[str, Any]) -> None:
    assert usage_of(obj) is None


BAD = [-1, 1.0, 0.5, True, False, "10", [], {}, 10**18, 2**63, float("inf"), float("nan")]


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens", "total_tokens"])
@pytest.mark.parametrize("bad", BAD)
def test_a_count_that_is_not_a_count_is_invalid(field: str, bad: object) -> None:
    with pytest.raises(InvalidUsage):
        usage_of({"usage": {**PLAIN, field: bad}})


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("holder", "field"),
    [
        ("prompt_tokens_details", "cached_tokens"),
        ("prompt_tokens_details", "cache_write_tokens"),
        ("prompt_tokens_details", "audio_tokens"),
        ("completion_tokens_details", "audio_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
    ],
)
def test_a_detail_that_is_not_a_count_is_invalid(holder: str, field: str, bad: object) -> None:
    with pytest.raises(InvalidUsage):
        usage_of({"usage": {**PLAIN, holder: {field: bad}}})


@pytest.mark.parametrize(
    "usage",
    [
        {},
        [],
        "many",
        7,
        True,
        {"prompt_tokens": None, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": None},
        {"prompt_tokens": 1},
        {"prompt_tokens": 5, "total_tokens": 3},
        {"input_tokens": 5, "output_tokens": 3},
        {**PLAIN, "prompt_tokens_details": []},
        {**PLAIN, "completion_tokens_details": "x"},
        details(cached_tokens=101),
        details(cached_tokens=60, cache_write_tokens=60),
        details(audio_tokens=101),
        made(audio_tokens=21),
        {**PLAIN, "prompt_cache_hit_tokens": 101},
        {**PLAIN, "cached_tokens": -1},
    ],
)
def test_usage_that_contradicts_itself_is_invalid(usage: Any) -> None:
    with pytest.raises(InvalidUsage):
        usage_of({"usage": usage})


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details",
         "cached_tokens", "audio_tokens", "cache_write_tokens", "reasoning_tokens", "usage", "x_groq", "choices"]), inner),
)  # fmt: skip
counts = st.none() | st.integers(0, 200)


@given(st.dictionaries(st.sampled_from(["usage", "x_groq", "choices"]), junk))
def test_any_junk_is_usage_none_or_invalid(obj: dict[str, Any]) -> None:
    try:
        usage = usage_of(obj)
    except InvalidUsage:
        return
    assert usage is None or all(type(count) is int and count >= 0 for count in usage.meters.values())


@given(st.integers(0, 200), st.integers(0, 200), counts, counts, counts, counts, counts)
def test_the_meters_add_up_to_what_was_reported(
    prompt: int,
    completion: int,
    total: int | None,
    cached: int | None,
    written: int | None,
    audio: int | None,
    made: int | None,
) -> None:
    raw = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio},
        "completion_tokens_details": {"audio_tokens": made},
    }
    try:
        usage = usage_of({"usage": raw})
    except InvalidUsage:
        assert (cached or 0) + (written or 0) > prompt or (audio or 0) > prompt or (made or 0) > completion
        return
    assert usage is not None
    assert usage.input_tokens == prompt
    assert usage.output_tokens == max(completion, (total or 0) - prompt)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ([{"message": {"content": "a"}}, {"message": {"content": "b"}, "index": 1}], "a\nb"),
        ([{"message": {"content": "a", "reasoning_content": "r", "reasoning": "r"}}], "r\na"),
        ([{"message": {"content": None, "refusal": "no"}}], "no"),
        ([{"message": {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}], "f{}"),
        ([{"message": {"content": None, "tool_calls": [{"custom": {"name": "f", "input": "x"}}]}}], "fx"),
        ([{"message": {"function_call": {"name": "f", "arguments": "{}"}}}], "f{}"),
        ([{"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"text": "u"}]}}], "tu"),
        ([{"message": {"audio": {"transcript": "spoken"}}}], "spoken"),
        ([None, {}, {"message": None}, {"message": {"content": 7, "tool_calls": [None, {"function": 1}]}}], ""),
        (None, ""),
        ("x", ""),
    ],
)
def test_all_that_was_generated_is_text(choices: Any, text: str) -> None:
    assert reply_text({"choices": choices}) == text


def test_tool_calls_of_all_choices_are_counted() -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    choices = [{"message": {"content": "x", "tool_calls": [call, call]}}, {"index": 1, "message": {"tool_calls": [call]}}]
    assert reply_tool_calls({"choices": choices}) == 3
    assert reply_tool_calls({"choices": [{"message": {"content": "x"}}]}) == 0
