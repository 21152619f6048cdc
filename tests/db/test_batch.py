"""A batch: one transaction for many jobs, one failure for one job, and an exact outcome for each whatever breaks."""

from __future__ import annotations

import sqlite3
import threading
import time
from functools import partial
from typing import Any

import psycopg
import pytest

from db import batch, counters, engine, holds, ledger
from db.batch import Job
from db.errors import Conflict
from db.holds import Placed, Settled
from db.models import Counter, Hold, UsageRecord
from db.models import database as bound
from db.money import MAX_NANOS
from tests.support.contenders import contend
from tests.support.crash import Crash, crash_at, dump
from tests.support.ledger_text import PROVIDER, Book, play

only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def _book(*names: str, balance: int = 1000) -> Book:
    return play("\n".join(f"user {name}\ntop-up {name} {balance}" for name in names))


def _place(book: Book, request: str, name: str, amount: int) -> Job:
    """As the daemon asks for a hold."""
    ask = book.ask(request, name, str(amount))
    return Job(partial(holds.place, ask), book.id_of(name), partial(holds.place, ask, again=True))


def _settle(book: Book, request: str, name: str, cost: int) -> Job:
    return Job(partial(holds.settle, book.row(request, str(cost))), book.id_of(name))


def _outcome(job: Job) -> str:
    if job.error is not None:
        return type(job.error).__name__
    if isinstance(job.result, Placed):
        return job.result.outcome.value
    if isinstance(job.result, Settled):
        return f"charged {job.result.charged_nanos}" if job.result.closed else "closed before"
    return str(job.result)


def _outcomes(jobs: list[Job]) -> list[str]:
    batch.run(jobs)
    return [_outcome(job) for job in jobs]


def test_one_transaction_for_all_in_the_order_of_users(database: str) -> None:
    ran: list[str] = []
    jobs = [Job(partial(ran.append, name), order) for name, order in [("c", 3), ("a", 1), ("b", 2), ("a again", 1)]]
    with crash_at(99, after=False) as seen:
        batch.run(jobs)
    assert ran == ["a", "a again", "b", "c"]
    assert seen.commits == 1


def test_one_failing_job_harms_nobody(database: str) -> None:
    book = _book("alice", "bob")
    book.run("place q0 alice 100")
    too_much = Job(partial(holds.settle, book.row("q0", str(MAX_NANOS + 1))), book.id_of("alice"))
    jobs = [
        _place(book, "q1", "bob", 400),
        too_much,
        _place(book, "q2", "alice", 400),
        Job(partial(ledger.top_up, "nobody", 5), 0),
        _settle(book, "q0", "alice", 30),
    ]
    assert _outcomes(jobs) == ["placed", "ValueError", "placed", "NotFound", "charged 30"]
    assert book.run("show alice") == "balance 970 held 400"
    assert book.run("show bob") == "balance 1000 held 400"
    assert book.run("verify") == "ok"
    assert counters.of_day("user", book.id_of("alice"), book.row("q0").at).requests == 1


def test_a_failing_job_alone_is_run_once(database: str) -> None:
    ran: list[int] = []

    def fail() -> None:
        ran.append(1)
        raise Conflict("no")

    assert _outcomes([Job(fail)]) == ["Conflict"]
    assert ran == [1]


def test_a_job_that_failed_does_not_count_as_repeated(database: str) -> None:
    """`repeat` would take another request's hold of the same name for its own; only a lost commit asks for it."""
    book = _book("alice")
    jobs = [_place(book, "q1", "alice", 100), Job(partial(ledger.top_up, "nobody", 5)), _place(book, "q1", "alice", 100)]
    assert _outcomes(jobs) == ["placed", "NotFound", "duplicate"]
    assert book.run("show alice") == "balance 1000 held 100"


def test_counters_of_a_batch_are_summed(database: str) -> None:
    book = _book("alice")
    for number in range(5):
        book.run(f"place q{number} alice 10")
    assert _outcomes([_settle(book, f"q{number}", "alice", number) for number in range(5)]) == [
        f"charged {number}" for number in range(5)
    ]
    at = book.row("q0").at
    for scope, subject, cost in [
        ("user", book.id_of("alice"), 10),
        ("key", book.key_of("alice"), 10),
        ("provider", PROVIDER, 0 + 0 + 1 + 1 + 2),
    ]:
        assert counters.of_day(scope, subject, at) == counters.Count(5, 60, cost), scope
    assert Counter.select().count() == 3


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("statement", range(12))
def test_a_kill_inside_a_batch_leaves_all_or_nothing(database: str, statement: int, after: bool) -> None:
    book = _book("alice", "bob")
    book.run("place q0 alice 100")
    jobs = [_settle(book, "q0", "alice", 150), _place(book, "q1", "bob", 400)]
    before = dump()
    with crash_at(statement, after=after) as seen, pytest.raises(Crash):
        batch.run(jobs)
    assert (dump() == before) is not seen.committed
    assert book.run("verify") == "ok"
    batch.run(jobs)
    assert book.run("show alice") == "balance 850 held 0"
    assert book.run("show bob") == "balance 1000 held 400"


def _terminate_own_connection() -> None:
    [pid] = bound.execute_sql("SELECT pg_backend_pid()").fetchone()
    info = bound.connection().info
    with psycopg.connect(host=info.host, port=info.port, user=info.user, dbname=info.dbname, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))


@only_postgresql
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_terminated_connection_costs_nothing(database: str, place: int) -> None:
    """In the middle of a batch: every job is run again with a new connection, and each once."""
    book = _book("alice", "bob")
    book.run("place q0 alice 100")
    done: list[bool] = []

    def terminate() -> None:
        if not done:
            done.append(True)
            _terminate_own_connection()

    jobs = [
        _settle(book, "q0", "alice", 150),
        _place(book, "q1", "alice", 850),
        _place(book, "q2", "bob", 1001),
    ]
    jobs.insert(place, Job(terminate, jobs[min(place, 2)].order))
    outcomes = _outcomes(jobs)
    outcomes.pop(place)
    assert outcomes == ["charged 150", "placed", "insufficient_balance"]
    assert book.run("show alice") == "balance 850 held 850"
    assert book.run("verify") == "ok"
    assert UsageRecord.select().count() == 1


@only_postgresql
@pytest.mark.parametrize("committed", [False, True])
def test_a_connection_lost_at_the_commit(database: str, committed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the commit got through or not, each job's outcome is what one execution gives: also when the hold that
    was placed leaves too little for a second one, and when another request has the same id."""
    book = _book("alice")
    book.run("place q0 alice 100")
    commit, lost = bound.obj.commit, []

    def broken() -> None:
        if lost:
            commit()
            return
        lost.append(True)
        if committed:
            commit()
        _terminate_own_connection()
        if not committed:
            commit()  # fails: the server is gone
        bound.execute_sql("SELECT 1")

    monkeypatch.setattr(bound.obj, "commit", broken)
    settle = _settle(book, "q0", "alice", 40)
    jobs = [settle, _place(book, "q1", "alice", 900), _place(book, "q1", "alice", 50)]
    outcomes = _outcomes(jobs)
    assert outcomes == ["closed before" if committed else "charged 40", "placed", "duplicate"]
    assert book.run("show alice") == "balance 960 held 900"
    assert book.run("verify") == "ok"


@only_postgresql
def test_another_request_of_the_same_id_is_not_taken_for_a_repeated_one(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    book = _book("alice")
    commit, lost = bound.obj.commit, []

    def broken() -> None:
        commit()
        if not lost:
            lost.append(True)
            _terminate_own_connection()
            bound.execute_sql("SELECT 1")

    monkeypatch.setattr(bound.obj, "commit", broken)
    assert _outcomes([_place(book, "q1", "alice", 100), _place(book, "q1", "alice", 100)]) == ["placed", "duplicate"]
    assert book.run("show alice") == "balance 1000 held 100"


@only_postgresql
def test_a_server_that_is_away_is_waited_for_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    book = _book("alice")
    jobs = [_place(book, f"q{number}", "alice", 1) for number in range(100)]
    engine.close_connection()
    tries: list[int] = []

    def refuse() -> Any:
        tries.append(1)
        raise psycopg.OperationalError("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(bound.obj, "_connect", refuse)
        assert set(_outcomes(jobs)) == {"DatabaseUnavailable"}
    assert len(tries) == 1
    assert _outcomes([_place(book, "q1", "alice", 1)]) == ["placed"]


@only_postgresql
def test_a_locked_user_delays_a_batch_once(database: str, postgres: Any) -> None:
    """Somebody holds alice's row: her jobs fail after one time-out between them, bob's are done."""
    book = _book("alice", "bob")
    jobs = [_place(book, f"a{number}", "alice", 1) for number in range(5)]
    jobs += [_place(book, f"b{number}", "bob", 1) for number in range(5)]
    bound.execute_sql("SET lock_timeout = 300")
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM users WHERE name = 'alice' FOR UPDATE")
        began = time.monotonic()
        outcomes = _outcomes(jobs)
        took = time.monotonic() - began
    assert outcomes == ["DatabaseUnavailable"] * 5 + ["placed"] * 5
    assert took < 1
    assert book.run("show alice") == "balance 1000 held 0"
    assert book.run("show bob") == "balance 1000 held 5"


@only_sqlite
def test_a_locked_file_is_waited_for_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each of the hundred jobs that wait."""
    book = _book("alice")
    jobs = [_place(book, f"q{number}", "alice", 1) for number in range(100)]
    monkeypatch.setattr(bound.obj, "lock_wait_s", 0.1)
    bound.execute_sql("PRAGMA busy_timeout = 0")
    with sqlite3.connect(database.removeprefix("sqlite:///"), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert set(_outcomes(jobs)) == {"DatabaseUnavailable"}
        assert time.monotonic() - began < 1
        other.execute("ROLLBACK")
    assert _outcomes([_place(book, "q1", "alice", 1)]) == ["placed"]


@only_postgresql
def test_a_deadlock_with_another_program_costs_nobody_its_job(database: str) -> None:
    """Who locks rows in another order than ours makes a victim of us; the jobs are run again."""
    book = _book("alice", "bob")
    bound.execute_sql("SET deadlock_timeout = 50")
    first, second = threading.Event(), threading.Event()

    def stranger(number: int) -> None:
        with psycopg.connect(database) as other:
            other.execute("SET deadlock_timeout = '10s'")
            other.execute("SELECT 1 FROM users WHERE name = 'bob' FOR UPDATE")
            first.set()
            second.wait(10)
            other.execute("SELECT 1 FROM users WHERE name = 'alice' FOR UPDATE")

    def meet() -> None:
        second.set()
        time.sleep(0.1)

    jobs = [
        _place(book, "q1", "alice", 10),
        Job(meet, book.id_of("alice")),
        _place(book, "q2", "bob", 10),
    ]
    thread = threading.Thread(target=stranger, args=(0,))
    thread.start()
    assert first.wait(10)
    outcomes = _outcomes(jobs)
    thread.join(10)
    assert outcomes == ["placed", "None", "placed"]
    assert book.run("verify") == "ok"


@only_postgresql
def test_two_processes_with_shared_providers_never_deadlock(database: str) -> None:
    """Group commits over the same users and provider counters, single jobs and admin changes, all at once."""
    names = [f"user-{number}" for number in range(6)]
    book = _book(*names, balance=1_000_000)
    [before] = bound.execute_sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    done = contend("settle_in_batches", database, processes=2, keys=[book.key_of(name) for name in names], rounds=40)
    assert all(result["errors"] == [] for result in done), done
    settled = sum(result["settled"] for result in done)
    assert settled == UsageRecord.select().count() == Hold.select().where(Hold.state == "settled").count()
    assert book.run("verify") == "ok"
    at = book.row("none").at
    total = sum(counters.of_day("provider", provider, at - day).requests for provider in (1, 2) for day in (0, 86_400_000))
    assert total == settled
    bound.execute_sql("SELECT pg_stat_clear_snapshot()")
    [after] = bound.execute_sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert after == before


def test_recovery_beside_busy_processes_closes_each_hold_once(database: str) -> None:
    """It locks users in an order of its own inside a batch: whoever is the victim of a deadlock is run again."""
    names = [f"user-{number}" for number in range(5)]
    book = _book(*names, balance=1_000_000)
    for number in range(60):
        book.run(f"place lost-{number} {names[number % 5]} 100")
        if number % 2:
            book.run(f"deliver lost-{number} 3")
    keys = [book.key_of(name) for name in names]
    rounds = 9  # of seven holds each: enough even when both processes see the same seven every time
    found = contend("recover_beside", database, processes=2, dead=book.owners[0], keys=keys, rounds=rounds)
    assert [error for one in found for error in one["errors"]] == []
    assert sorted(request for one in found for request in one["closed"]) == sorted(f"lost-{number}" for number in range(60))
    assert book.run("verify") == "ok"
    spent = 2 * rounds * 6 * 10 + 30 * 30
    balances = [int(book.run(f"show {name}").split()[1]) for name in names]
    assert sum(balances) == 5 * 1_000_000 - spent
