"""Daily counters: per UTC day, summed in a batch, never lost between threads."""

from __future__ import annotations

import pytest

from db import counters
from db.counters import Count
from db.models import Counter
from db.models import database as bound
from tests.support import hot_sql
from tests.support.records import DAY, NOON
from tests.support.threads import together

STATEMENTS = hot_sql.statements(counters)


def _add(cost: int = 10, *, at: int = NOON, subject: int = 1) -> None:
    counters.add("provider", subject, at, requests=1, tokens=5, cost_nanos=cost)


def test_additions_of_a_day_add_up(database: str) -> None:
    for at in (NOON, NOON - NOON % DAY, NOON - NOON % DAY + DAY - 1):
        _add(at=at)
    _add(at=NOON - NOON % DAY - 1)
    _add(at=NOON - NOON % DAY + DAY)
    _add(subject=2)
    assert counters.of_day("provider", 1, NOON) == Count(3, 15, 30)
    assert counters.of_day("provider", 1, NOON - DAY) == counters.of_day("provider", 1, NOON + DAY) == Count(1, 5, 10)
    assert counters.of_day("user", 1, NOON) == counters.of_day("provider", 3, NOON) == Count(0, 0, 0)


def test_a_batch_writes_once_per_subject_and_sorted(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counters.collect()
    for subject in (9, 3, 9, 3, 9):
        _add(subject=subject)
    counters.add("key", 5, NOON, requests=1, tokens=0, cost_nanos=1)
    assert Counter.select().count() == 0
    written: list[tuple[object, ...]] = []
    execute = bound.obj.execute_sql
    with monkeypatch.context() as patched:
        patched.setattr(bound.obj, "execute_sql", lambda text, values=None: written.append(values) or execute(text, values))
        counters.flush()
    assert [values[:2] for values in written] == [("key", 5), ("provider", 3), ("provider", 9)]
    assert counters.of_day("provider", 9, NOON) == Count(3, 15, 30)
    counters.flush()  # nothing is left
    assert counters.of_day("provider", 9, NOON) == Count(3, 15, 30)


def test_a_batch_that_is_rolled_back_leaves_nothing_behind(database: str) -> None:
    counters.collect()
    _add()
    counters.discard()
    counters.flush()
    assert Counter.select().count() == 0
    _add()  # and outside a batch an addition is written at once
    assert counters.of_day("provider", 1, NOON) == Count(1, 5, 10)


def test_a_batch_belongs_to_its_thread(database: str) -> None:
    counters.collect()
    try:
        together([_add])
        assert counters.of_day("provider", 1, NOON) == Count(1, 5, 10)
    finally:
        counters.discard()


def test_no_addition_is_lost_between_threads(database: str) -> None:
    together([lambda: [_add() for _ in range(20)] for _ in range(8)])
    assert counters.of_day("provider", 1, NOON) == Count(160, 800, 1600)


@pytest.mark.parametrize("name", STATEMENTS)
def test_hot_sql_fits_the_tables(name: str, database: str) -> None:
    hot_sql.check_columns(STATEMENTS[name])
    hot_sql.check_plan(STATEMENTS[name])
