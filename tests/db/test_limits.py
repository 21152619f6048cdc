"""Windows of keys and users: what counts, what is refused, what comes back, and what a clock that jumps does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from db import clock, fair_use, holds, keys, limit_report, limits, users
from db.errors import Invalid
from db.fair_use import FairUse
from db.holds import HoldRequest, Placed, Placement
from db.limits import Limit, Limits, Window, current
from db.models import CatalogState, User
from tests.support import hot_sql
from tests.support.ledger_text import Book, play
from tests.support.threads import together

T = 1_800_000_000_000


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock: `now[0]` milliseconds."""
    moment = [T]
    monkeypatch.setattr(clock, "now_ms", lambda: moment[0])
    return moment


class Desk:
    """Places holds of one user with these limits."""

    def __init__(self, balance: int = 10**9, **given: int | None) -> None:
        self.book: Book = play("user alice -> ok")
        if balance:
            self.book.top_up("alice", str(balance))
        self.user_id, self.key_id = self.book.id_of("alice"), self.book.key_of("alice")
        fields: dict[str, int | None] = {"rpm": None, "tpm": None, "max_parallel": None, "user_rpm": None}
        self.limits = Limits(self.key_id, self.user_id, **(fields | given), parallel=1)  # type: ignore[arg-type]
        self.rule: FairUse | None = None

    def ask(self, request: str, amount: int = 10, tokens: int = 0, **more: object) -> HoldRequest:
        asked = self.book.ask(request, "alice", str(amount))
        return replace(asked, limits=replace(self.limits, tokens=tokens), fair_use=self.rule, **more)

    def place(self, request: str, amount: int = 10, tokens: int = 0, **more: object) -> Placed:
        return holds.place(self.ask(request, amount, tokens, **more))

    def used(self) -> Window:
        return limits.look(self.limits).key

    def allowance(self) -> tuple[int, int]:
        row = User.get_by_id(self.user_id)
        return row.fair_use_used, row.fair_use_last_at


def outcomes(*placed: Placed) -> list[str]:
    return [one.outcome.value if one.standing is None else str(one.standing.refused or "placed") for one in placed]


def test_the_hot_statements_fit_the_tables(database: str) -> None:
    for module in (limits, fair_use):
        for text in hot_sql.statements(module).values():
            hot_sql.check_columns(text)
            if not text.startswith("INSERT"):
                hot_sql.check_plan(text)


def test_requests_are_counted_up_to_the_limit_and_begin_anew(database: str, now: list[int]) -> None:
    desk = Desk(rpm=2)
    assert outcomes(*(desk.place(f"q{n}") for n in range(3))) == ["placed", "placed", "requests"]
    now[0] = T + 59_999
    assert outcomes(desk.place("q3")) == ["requests"]
    now[0] = T + 60_000
    assert outcomes(desk.place("q4")) == ["placed"]
    assert desk.used() == Window(T + 60_000, 1, 0)


def test_a_refusal_takes_no_money(database: str) -> None:
    desk = Desk(rpm=1)
    desk.place("q1", 300)
    assert desk.place("q2", 300).outcome is Placement.RATE_LIMITED
    assert desk.book.show("alice") == "balance 1000000000 held 300"


def test_what_is_not_placed_is_not_counted_by_the_hold(database: str) -> None:
    desk = Desk(balance=100, rpm=9, tpm=1000, max_parallel=9)
    assert desk.place("q1", 101).outcome is Placement.INSUFFICIENT_BALANCE
    assert desk.place("q2", 10, 50).outcome is Placement.PLACED
    assert desk.place("q2", 10, 50).outcome is Placement.DUPLICATE
    assert holds.place(replace(desk.ask("q3"), user_version=0)).outcome is Placement.STALE
    keys.update(str(desk.key_id), budget_nanos=5)
    over = replace(desk.ask("q4", 10, 50), budget_window_at=0)
    assert holds.place(over).outcome is Placement.KEY_BUDGET_EXCEEDED
    assert desk.used() == Window(T, 1, 50, 1)
    assert desk.book.verify() == "ok"


def test_a_refusal_for_another_reason_counts_with_its_record(database: str) -> None:
    desk = Desk(rpm=1)
    row = replace(
        desk.book.row("none"), request_id="r1", user_id=desk.user_id, key_id=desk.key_id, status="refused", http_status=404
    )
    asked = replace(desk.limits, parallel=0)
    first = holds.refuse(row, asked)
    second = holds.refuse(replace(row, request_id="r2"), asked)
    assert first is not None
    assert second is not None
    assert (first.refused, second.refused) == (None, Limit.REQUESTS)
    assert holds.refuse(replace(row, request_id="r3"), None) is None
    assert limits.count(asked).refused is Limit.REQUESTS


def test_tokens_are_reserved_corrected_and_given_back(database: str, now: list[int]) -> None:
    desk = Desk(tpm=100)
    assert outcomes(desk.place("q1", tokens=60), desk.place("q2", tokens=60)) == ["placed", "tokens"]
    desk.book.settle("q1", "5")  # 7 + 5 tokens
    assert desk.used().tokens == 12
    assert outcomes(desk.place("q3", tokens=88)) == ["placed"]
    desk.book.release("q3")
    assert desk.used().tokens == 12
    desk.place("q4", tokens=50)
    now[0] = T + 60_000
    desk.place("q5", tokens=40)
    desk.book.settle("q4", "5")  # its window is over
    assert desk.used().tokens == 40


def test_more_than_the_whole_limit_takes_the_whole_window(database: str) -> None:
    desk = Desk(tpm=100)
    assert outcomes(desk.place("q1", tokens=5000), desk.place("q2", tokens=1)) == ["placed", "tokens"]
    assert desk.used().tokens == 100


def test_parallel_requests_end_with_their_holds(database: str, now: list[int]) -> None:
    desk = Desk(max_parallel=2)
    assert outcomes(*(desk.place(f"q{n}") for n in range(3))) == ["placed", "placed", "parallel"]
    desk.book.settle("q0", "1")
    desk.book.settle("q0", "1")  # closed before: counts once
    assert outcomes(desk.place("q3"), desk.place("q4")) == ["placed", "parallel"]
    now[0] = T + 120_000
    assert outcomes(desk.place("q5")) == ["parallel"]
    desk.book.die()
    desk.book.recover("0")
    assert desk.used().parallel == 0


def test_a_users_limit_counts_all_keys(database: str) -> None:
    desk = Desk(user_rpm=2)
    other = replace(desk.limits, key_id=desk.key_id + 1)
    assert outcomes(desk.place("q1")) == ["placed"]
    assert limits.count(other).refused is None
    assert outcomes(desk.place("q2")) == ["user_requests"]


def test_a_clock_that_goes_back_a_little_opens_no_window_and_far_does(database: str) -> None:
    window = Window(T, 5, 6, 7)
    assert current(window, T - 60_000) == window
    assert current(window, T + 59_999) == window
    assert current(window, T - 60_001) == Window(T - 61_000, 0, 0, 7)
    assert current(window, T + 60_999) == Window(T + 60_000, 0, 0, 7)


def test_of_many_at_once_as_many_pass_as_the_limit_says(database: str) -> None:
    desk = Desk(rpm=5)
    asked = [desk.ask(f"q{n}") for n in range(20)]
    placed = together([lambda request=request: holds.place(request) for request in asked])
    assert sorted(one.outcome.value for one in placed) == ["placed"] * 5 + ["rate_limited"] * 15


def test_an_attempt_whose_outcome_was_lost_is_not_counted_twice(database: str) -> None:
    desk = Desk(rpm=5)
    desk.rule = FairUse(1, 600)
    asked = desk.ask("q1")
    holds.place(asked)
    again = holds.place(asked, again=True)
    assert (again.outcome, again.standing and again.standing.key.requests) == (Placement.PLACED, 1)
    assert desk.allowance()[0] == 1


# ------------------------------------------------------------------------------------------- fair use


def test_the_allowance_is_free_and_then_the_balance_pays(database: str, now: list[int]) -> None:
    desk = Desk(balance=100)
    desk.rule = FairUse(2, 600)
    for request in ("q1", "q2"):
        assert desk.place(request, 10**12).outcome is Placement.PLACED
        assert desk.book.settle(request, "70") == "charged 0 absorbed 0"
    assert desk.place("q3", 60).outcome is Placement.PLACED
    assert desk.book.settle("q3", "60") == "charged 60 absorbed 0"
    assert desk.place("q4", 60).outcome is Placement.INSUFFICIENT_BALANCE  # a closer bound may do
    assert desk.place("q4", 60, last_resort=True).outcome is Placement.THROTTLED
    now[0] = T + 600_000
    assert desk.place("q5", 60, last_resort=True).outcome is Placement.PLACED
    assert desk.book.settle("q5", "60") == "charged 0 absorbed 0"
    assert desk.book.verify() == "ok"
    assert desk.book.show("alice") == "balance 40 held 0"


def test_what_came_to_nothing_comes_back(database: str, now: list[int]) -> None:
    desk = Desk(balance=0)
    desk.rule = FairUse(1, 600)
    desk.place("q1")
    desk.book.release("q1")
    assert desk.allowance() == (0, 0)
    desk.place("q2")
    now[0] = T + 600_000
    assert desk.place("q3").outcome is Placement.PLACED
    desk.book.release("q3")
    assert desk.allowance() == (1, T)
    assert desk.place("q4").outcome is Placement.PLACED
    desk.book.die()
    desk.book.recover("0")
    assert desk.allowance() == (0, T)  # q2, of today, expired as well


def test_a_new_day_begins_and_a_clock_that_goes_back_gives_nothing(database: str, now: list[int]) -> None:
    desk = Desk(balance=0)
    desk.rule = FairUse(1, 600)
    desk.place("q1")
    for moment, outcome in (
        (T - 3_600_000, Placement.THROTTLED),
        (T - 20 * 3_600_000, Placement.THROTTLED),
        (T + clock.DAY_MS, Placement.PLACED),
    ):
        now[0] = moment
        assert desk.place(f"q{moment}").outcome is outcome, moment - T


def test_a_users_own_allowance_goes_before_the_largest_of_groups() -> None:
    assert fair_use.fair_use_of((5, None), [(9, 60)]) == FairUse(5, 600)
    assert fair_use.fair_use_of((None, None), [(9, 60), (None, None), (12, None)]) == FairUse(12, 600)
    assert fair_use.fair_use_of((None, 60), [(None, 60)]) is None


# --------------------------------------------------------------------------------------------- report


def test_reset_begins_anew_and_keeps_what_runs(database: str) -> None:
    desk = Desk(balance=0, rpm=1, max_parallel=5, user_rpm=1)
    desk.rule = FairUse(1, 600)
    desk.place("q1")
    users.update("alice", rpm=1, fair_use_limit=1)
    keys.update(str(desk.key_id), rpm=1, max_parallel=5)
    person, key = limit_report.show()
    assert (person.window.requests, person.fair_use and person.fair_use.used_today) == (1, 1)
    assert (key.window.requests, key.window.parallel) == (1, 1)
    [key] = limit_report.reset(key=str(desk.key_id))
    assert (key.window.requests, key.window.parallel) == (0, 1)
    person, key = limit_report.reset(user="alice")
    assert (person.window.requests, person.fair_use and person.fair_use.used_today) == (0, 0)
    with pytest.raises(Invalid):
        limit_report.reset()
    assert CatalogState.select().count() == 1
