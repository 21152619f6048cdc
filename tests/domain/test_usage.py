"""Counts are believed only when they can be true."""

from __future__ import annotations

import pytest

from daemon.domain.usage import (
    INPUT_METERS,
    MAX_COUNT,
    METERS,
    OUTPUT_METERS,
    InvalidUsage,
    Usage,
    check_within,
    checked_count,
    combine,
    meter_of,
    with_counted,
)


def test_every_meter_is_on_one_side_or_counted() -> None:
    assert list(METERS) == [meter.name for meter in METERS.values()]
    assert not INPUT_METERS & OUTPUT_METERS
    assert {m.name for m in METERS.values() if m.side == "counted"} == set(METERS) - INPUT_METERS - OUTPUT_METERS


def test_totals_leave_out_what_is_not_a_token() -> None:
    usage = Usage({"input": 1, "cached_input": 2, "audio_input": 4, "output": 8, "audio_output": 16, "image": 9})
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (7, 24, 31)


@pytest.mark.parametrize("bad", [-1, 1.0, True, False, None, "1", [], MAX_COUNT + 1, 10**18, 2**63])
def test_an_unbelievable_count_is_invalid(bad: object) -> None:
    with pytest.raises(InvalidUsage):
        checked_count(bad, "prompt_tokens")


@pytest.mark.parametrize("good", [0, 1, MAX_COUNT])
def test_a_count_within_the_cap_is_taken(good: int) -> None:
    assert checked_count(good, "prompt_tokens") == good


def test_rounds_of_a_tool_loop_add_up() -> None:
    total = combine([Usage({"input": 10, "output": 5}, 2), Usage({"input": 30, "output": 20}, 0, estimated=True)])
    assert total == Usage({"input": 40, "output": 25}, 2, estimated=True)


@pytest.mark.parametrize(
    ("reported", "counted", "meters"),
    [
        ({}, {"character": 5}, {"character": 5}),
        ({"request": 2}, {"request": 1}, {"request": 2}),
        ({"second": 0}, {"second": 90}, {"second": 0}),
        ({"input": 3}, {"image": 4}, {"input": 3, "image": 4}),
        ({"image": 2}, {"image/s/hd": 4}, {"image/s/hd": 2}),
        ({"image/s/low": 2}, {"image/s/hd": 4}, {"image/s/hd": 2}),
        ({"image/s/low": 2, "image/t": 1}, {"image/s/hd": 4}, {"image/s/hd": 3}),
        ({"image/s/low": 2}, {"image/s": 4}, {"image/s/low": 2}),
        ({"image/sx/low": 2}, {"image/s": 4}, {"image/s": 2}),
        ({"image/s/low": 2}, {"image": 4}, {"image/s/low": 2}),
    ],
)
def test_a_reported_count_wins_and_the_kind_that_was_asked_for(
    reported: dict[str, int], counted: dict[str, int], meters: dict[str, int]
) -> None:
    usage = Usage(reported, 7, estimated=True)
    assert with_counted(usage, counted) == Usage(meters, 7, estimated=True)
    assert usage.meters is reported


@pytest.mark.parametrize(
    ("meters", "invalid"),
    [
        ({"input": 4 * 100 + 10_000, "output": 4 * 7 + 10_000}, ""),
        ({"input": 4 * 100 + 10_001}, "10401 input tokens are far beyond the 100"),
        ({"cached_input": 10_000, "audio_input": 401}, "input"),
        ({"output": 4 * 7 + 10_001}, "10029 output tokens are far beyond the 7"),
        ({"output": 10_000, "audio_output": 29}, "output"),
        ({"image": 10**9, "hosted_call/web_search": 10**9, "second": 10**9}, ""),
        ({}, ""),
    ],
)
def test_a_usage_far_beyond_what_the_request_was_held_for_is_invalid(meters: dict[str, int], invalid: str) -> None:
    if not invalid:
        return check_within(Usage(meters), 100, 7)
    with pytest.raises(InvalidUsage, match=invalid):
        check_within(Usage(meters), 100, 7)
    return None


@pytest.mark.parametrize(("tokens", "believed"), [(10_000, True), (10_001, False)])
def test_nothing_held_is_a_bound_too(tokens: int, believed: bool) -> None:
    for meters in ({"input": tokens}, {"output": tokens}):
        if believed:
            check_within(Usage(meters), 0, 0)
        else:
            with pytest.raises(InvalidUsage):
                check_within(Usage(meters), 0, 0)


def test_the_meter_of_a_variant() -> None:
    assert [meter_of(key) for key in ("image", "image/1024x1024", "image/1024x1024/high")] == ["image"] * 3
    assert Usage({"image/1024x1024/high": 3, "image_output": 2}).output_tokens == 2
