"""The circuit breaker, to its corners, with a clock of our own."""

from __future__ import annotations

import pytest

from daemon.domain.breaker import ALONE_TRIP, LATENCY_KNOWN_S, PATIENCE_S, PAUSE_S, SILENCE_S, TRIP, WINDOW_S, Breaker, State


def fail(breaker: Breaker, now: float, *, unreachable: bool = False) -> bool:
    """One request that is answered by an error at once; whether it opened the breaker."""
    number = breaker.begin(now)
    breaker.answered(number, now)
    return breaker.failed(now, now, "http_500", unreachable=unreachable)


def serve(breaker: Breaker, now: float, took: float = 0.0) -> bool:
    number = breaker.begin(now)
    breaker.answered(number, now + took)
    return breaker.succeeded(now, now + took)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    assert [fail(breaker, at) for _ in range(TRIP)] == [False] * (TRIP - 1) + [True]
    return breaker


def test_it_opens_at_the_third_failure_in_a_row_and_a_success_begins_the_count_anew() -> None:
    breaker = Breaker()
    for round in range(2):
        assert not fail(breaker, round)
        assert not fail(breaker, round)
        assert breaker.state(round, alone=False) is not State.OPEN
        assert not serve(breaker, round)
    assert [fail(breaker, 3) for _ in range(TRIP)] == [False, False, True]
    assert breaker.state(3, alone=False) is State.OPEN
    assert breaker.reason == "http_500"


def test_it_opens_when_half_of_the_last_requests_failed_within_the_window() -> None:
    breaker = Breaker()
    outcomes = [fail(breaker, n) if n % 2 else serve(breaker, n) for n in range(9)]
    assert not any(outcomes)
    assert fail(breaker, 9)  # five of ten
    later = Breaker()
    for number in range(9):
        _ = fail(later, number) if number % 2 else serve(later, number)
    assert not fail(later, 9 + WINDOW_S)  # what is older than the window is forgotten


def test_while_open_one_request_in_a_pause_is_let_through() -> None:
    breaker = opened(0)
    assert breaker.state(PAUSE_S - 0.1, alone=False) is State.OPEN
    assert breaker.state(PAUSE_S, alone=False) is State.PROBE
    breaker.begin(PAUSE_S)
    assert breaker.state(PAUSE_S + 0.1, alone=False) is State.OPEN  # the probe is under way
    assert breaker.state(2 * PAUSE_S, alone=False) is State.PROBE  # and hangs: another one may try


def test_a_failed_probe_begins_a_pause_and_a_good_one_closes() -> None:
    breaker = opened(0)
    number = breaker.begin(PAUSE_S)
    assert not breaker.failed(PAUSE_S, PAUSE_S + 5, "timeout_first_byte")
    breaker.forget(number)
    assert breaker.state(2 * PAUSE_S + 4.9, alone=False) is State.OPEN
    assert breaker.state(2 * PAUSE_S + 5, alone=False) is State.PROBE
    assert serve(breaker, 2 * PAUSE_S + 5)
    assert breaker.state(2 * PAUSE_S + 5, alone=False) is State.READY
    assert not fail(breaker, 2 * PAUSE_S + 6)  # what was before it closed does not count any more


def test_what_was_sent_before_it_opened_neither_closes_it_nor_makes_the_pause_longer() -> None:
    breaker = opened(10)
    assert not breaker.succeeded(9, 20)
    assert breaker.opened_at == 10
    assert not breaker.failed(9, 25, "cut")
    assert breaker.probe_at == 10 + PAUSE_S


@pytest.mark.parametrize("seconds", [60, 90, 600])
def test_a_dead_deployment_costs_at_most_four_attempts_in_any_minute(seconds: int) -> None:
    breaker, at = Breaker(), []
    for tenth in range(seconds * 10):
        now = tenth / 10
        if breaker.state(now, alone=False) in (State.READY, State.HESITANT, State.PROBE):
            fail(breaker, now)
            at.append(now)
    assert max(sum(start <= one < start + 60 for one in at) for start in at) <= 4


# ------------------------------------------------------------------------------------------ alone


def test_one_that_nobody_stands_in_for_is_asked_longer() -> None:
    breaker = opened(0)
    assert breaker.state(0, alone=True) is not State.OPEN
    assert breaker.state(0, alone=False) is State.OPEN
    for _ in range(ALONE_TRIP - TRIP):
        fail(breaker, 1)
    assert breaker.state(1, alone=True) is State.OPEN
    assert breaker.state(1 + PAUSE_S, alone=True) is State.PROBE


def test_alone_and_now_and_then_working_it_is_never_closed_off() -> None:
    breaker = Breaker()
    serve(breaker, 0)
    for _ in range(20):
        fail(breaker, SILENCE_S - 0.1)
    assert breaker.state(SILENCE_S - 0.1, alone=True) is not State.OPEN
    assert breaker.state(SILENCE_S, alone=True) is State.OPEN  # nothing good for so long


def test_alone_and_without_a_connection_it_opens_at_once() -> None:
    breaker = Breaker()
    serve(breaker, 0)
    for number in range(ALONE_TRIP):
        assert breaker.state(0.1, alone=True) is not State.OPEN, number
        fail(breaker, 0.1, unreachable=True)
    assert breaker.state(0.1, alone=True) is State.OPEN


# ------------------------------------------------------------------------------------------ hesitation


def test_after_a_failure_what_is_under_way_counts() -> None:
    breaker = Breaker()
    fail(breaker, 0)
    assert breaker.state(0, alone=False) is State.READY
    first, second = breaker.begin(0), breaker.begin(0)
    assert breaker.state(0, alone=False) is State.HESITANT
    breaker.answered(first, 1)
    assert breaker.state(1, alone=False) is State.READY
    breaker.forget(second)
    assert breaker.state(1, alone=False) is State.READY


def test_requests_that_wait_unusually_long_make_it_hesitate() -> None:
    breaker = Breaker()
    for _ in range(TRIP):
        breaker.begin(0)
    assert breaker.state(PATIENCE_S - 0.1, alone=False) is State.READY
    assert breaker.state(PATIENCE_S, alone=False) is State.HESITANT
    for _ in range(TRIP + 1):
        breaker.begin(PATIENCE_S)
    assert breaker.state(PATIENCE_S, alone=False) is State.READY  # most of what waits is young


def test_how_long_is_unusual_is_learnt() -> None:
    slow = Breaker()
    serve(slow, 0, took=5)
    for _ in range(TRIP):
        slow.begin(10)
    assert slow.state(29, alone=False) is State.READY
    assert slow.state(30, alone=False) is State.HESITANT  # four times the usual


def test_the_latency_is_a_running_mean_and_is_forgotten() -> None:
    breaker = Breaker()
    assert breaker.latency_s(0) is None
    serve(breaker, 0, took=1)
    assert breaker.latency_s(1) == 1
    serve(breaker, 1, took=2)
    assert breaker.latency_s(3) == pytest.approx(1.2)
    assert breaker.latency_s(3 + LATENCY_KNOWN_S + 1) is None
