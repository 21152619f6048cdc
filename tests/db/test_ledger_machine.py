"""Thousands of random sequences of everything that moves money, with a crash between any two statements, against a model.

GATEWAYCTL_TEST_SEQUENCES sets the number of sequences per database (default 120). A failure prints the lines that led to
it, in the notation of tests/support/ledger_text.py, and Hypothesis' blob that repeats it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from db import batch, engine, holds, ledger
from db.batch import Job
from db.models import TABLES
from db.models import database as bound
from tests.support.crash import COMMIT, Crash, crash_at, dump
from tests.support.ledger_model import Model, Request
from tests.support.ledger_text import Book
from tests.support.postgres import EMPTY

SEQUENCES = int(os.environ.get("GATEWAYCTL_TEST_SEQUENCES", "120"))
STEPS = 20
NAMES = ("alice", "bob")
REQUESTS = tuple(f"q{number}" for number in range(10))
MONEY = ("users", "keys", "holds", "ledger_entries", "usage_records", "counters", "audit_log", "processes")

OUTCOMES = {
    "ok", "replayed", "conflict", "refused", "notfound", "placed", "duplicate", "insufficient_balance",
    "key_budget_exceeded", "stale", "closed before", "released", "charged N absorbed N", "charged N absorbed 0",
    "charged … expired -", "charged - expired …", "charged - expired -",
}  # fmt: skip

amounts = st.integers(1, 1000)
names = st.sampled_from(NAMES)
requests = st.sampled_from(REQUESTS)
refs = st.none() | st.sampled_from(["r1", "r2"])
# The statement at which the process dies or its connection breaks, and whether that statement is still carried out.
deaths = st.none() | st.tuples(st.just(COMMIT) | st.integers(1, 11), st.booleans(), st.sampled_from(["cut", "kill"]))
Death = tuple[int, bool, str] | None


class LedgerMachine(RuleBasedStateMachine):
    """Does everything twice: in the database and in the model."""

    reset: Callable[[], None]
    sequences = 0
    crashes = 0
    lines = 0
    outcomes: Counter[str]

    @initialize(credit=st.sampled_from([0, 0, 300]), budget=st.sampled_from(["", " budget=0", " budget=700"]))
    def begin(self, credit: int, budget: str) -> None:
        type(self).sequences += 1
        type(self).reset()
        self.book, self.model = Book(), Model()
        self.do("user alice budget=900")
        self.do(f"user bob credit={credit}{budget}")
        self.do("top-up alice 1000")

    def do(self, line: str, death: Death = None) -> None:
        """One line, in both. A death leaves all of it or no trace; who lost only the connection tries once more."""
        type(self).lines += 1
        note(line if death is None else f"{line}    # dies at {death}")
        if death is None:
            outcome = self.book.run(line)
            type(self).outcomes[re.sub(r"\bq\d+(,q\d+)*", "…", re.sub(r"\b[1-9]\d*", "N", outcome))] += 1
            assert outcome == self.model.run(line)
            return
        number, after, kind = death
        before = dump(MONEY)
        try:
            with crash_at(number, after=after) as seen:
                outcome = self.book.run(line)
        except Crash:
            type(self).crashes += 1
        else:
            assert outcome == self.model.run(line)
            return
        places = line.startswith("place")
        if seen.committed:
            self.model.run(line)
        else:
            assert dump(MONEY) == before
            if places:
                self.model.ask(line.split()[1])
        self.do("die" if kind == "kill" else f"{line} again=1" if places else line)

    @rule(name=names, amount=amounts, ref=refs, death=deaths)
    def top_up(self, name: str, amount: int, ref: str | None, death: Death) -> None:
        # Few amounts for a reference, so that it is often the same payment.
        self.do(f"top-up {name} {amount}" if ref is None else f"top-up {name} {amount // 500 + 1} ref={ref}", death)

    @rule(name=names, amount=st.integers(-800, -1) | st.integers(1, 800), about=st.booleans(), ref=refs, death=deaths)
    def adjust(self, name: str, amount: int, about: bool, ref: str | None, death: Death) -> None:
        """Any amount, one about what is available, or one of a few for a reference."""
        if ref is not None:
            self.do(f"adjust {name} {amount // 500 or 1} ref={ref}", death)
        else:
            self.do(f"adjust {name} {(amount % 3 - 1 - self.model.available(name) or 1) if about else amount}", death)

    @rule(data=st.data(), ref=st.sampled_from(["r1", "r2", "r3"]), over=st.sampled_from([-5, 0, 1, 300]), death=deaths)
    def refund(self, data: st.DataObject, ref: str, over: int, death: Death) -> None:
        """About what is left of a charge."""
        request = self.one_of(data, lambda hold: hold.charged > 0)
        hold = self.model.requests.get(request)
        left = hold.charged - hold.refunded if hold else 0
        self.do(f"refund {request} {max(1, left + over)} ref={ref}", death)

    @rule(name=names, amount=st.integers(0, 500), about=st.booleans(), death=deaths)
    def credit(self, name: str, amount: int, about: bool, death: Death) -> None:
        """Any limit, or one about what is owed and held."""
        owed = self.model.open(name) - self.model.accounts[name].balance
        self.do(f"credit {name} {max(0, owed + amount % 3 - 1) if about else amount}", death)

    @rule(name=names, amount=st.none() | st.integers(0, 1500), death=deaths)
    def budget(self, name: str, amount: int | None, death: Death) -> None:
        self.do(f"budget {name} {'none' if amount is None else amount}", death)

    @rule(request=requests, name=names, amount=st.integers(0, 600), death=deaths)
    def place(self, request: str, name: str, amount: int, death: Death) -> None:
        self.do(f"place {request} {name} {amount}", death)

    @rule(data=st.data(), name=names, death=deaths)
    def place_twice(self, data: st.DataObject, name: str, death: Death) -> None:
        self.do(f"place {self.one_of(data, lambda hold: True)} {name} 1", death)

    @rule(request=requests, name=names, amount=amounts)
    def place_by_old_knowledge(self, request: str, name: str, amount: int) -> None:
        self.do(f"place {request} {name} {amount} stale=1")

    @rule()
    def next_window(self) -> None:
        self.do("next-window")

    @rule(data=st.data(), tokens=st.integers(1, 60), death=deaths)
    def deliver(self, data: st.DataObject, tokens: int, death: Death) -> None:
        self.do(f"deliver {self.one_of(data, _is_open)} {tokens}", death)

    @rule(request=requests, cost=st.integers(0, 1200), death=deaths)
    def settle_any(self, request: str, cost: int, death: Death) -> None:
        self.do(f"settle {request} {cost}", death)

    @rule(data=st.data(), share=st.sampled_from([0, 50, 99, 100, 101, 200, 1000, 9000]), death=deaths)
    def settle(self, data: st.DataObject, share: int, death: Death) -> None:
        """Below, at and above what was held."""
        request = self.one_of(data, _is_open)
        hold = self.model.requests.get(request)
        self.do(f"settle {request} {(hold.amount if hold else 100) * share // 100}", death)

    @precondition(lambda self: len(self.model.requests) < len(REQUESTS))
    @rule(name=names, amount=st.integers(100, 400), share=st.sampled_from([50, 100, 150]), death=deaths)
    def whole_request(self, name: str, amount: int, share: int, death: Death) -> None:
        request = next(request for request in REQUESTS if request not in self.model.requests)
        self.do(f"place {request} {name} {amount}")
        self.do(f"settle {request} {amount * share // 100}", death)

    @rule(data=st.data(), death=deaths)
    def release(self, data: st.DataObject, death: Death) -> None:
        self.do(f"release {self.one_of(data, _is_open)}", death)

    @rule(name=names, amount=st.integers(1, 200), tokens=st.integers(0, 30))
    def die(self, name: str, amount: int, tokens: int) -> None:
        """With a hold, of which something was delivered or nothing."""
        for request in [request for request in REQUESTS if request not in self.model.requests][:1]:
            self.do(f"place {request} {name} {amount}")
            if tokens > 10:
                self.do(f"deliver {request} {tokens}")
        self.do("die")

    @precondition(lambda self: self.model.owner > 0)
    @rule(data=st.data(), limit=st.sampled_from([1, 2, 500]), death=deaths)
    def recover(self, data: st.DataObject, limit: int, death: Death) -> None:
        owners = {hold.owner for hold in self.model.requests.values() if _is_open(hold)} - {self.model.owner}
        self.do(f"recover {data.draw(st.sampled_from(sorted(owners) or [0]))} limit={limit}", death)

    @rule(
        work=st.lists(
            st.tuples(st.sampled_from(["place", "place", "settle", "release", "deliver"]), requests, amounts),
            min_size=2,
            max_size=6,
        ),
        failing=st.booleans(),
        death=deaths,
    )
    def group_commit(self, work: list[tuple[str, str, int]], failing: bool, death: Death) -> None:
        """What the daemon's writer thread does: many jobs in one transaction. One that fails makes them single ones."""
        lines = [(self.owner_of(request, amount), _line(action, request, self.owner_of(request, amount), amount))
                 for action, request, amount in work]  # fmt: skip
        jobs = [Job(partial(self.book.run, line), self.book.id_of(name)) for name, line in lines]
        if failing:
            jobs.append(Job(partial(holds.settle, self.book.row("q0", "-1"))))
            death = None
        note(f"all at once: {lines}{' and one that fails' * failing}    # dies at {death}")
        before = dump(MONEY) if death else {}
        number, after, _ = death or (99, False, "")
        try:
            with crash_at(number, after=after) as seen:
                batch.run(jobs)
        except Crash:
            type(self).crashes += 1
            if not seen.committed:
                assert dump(MONEY) == before
        expected = []
        if seen.committed or not seen.crashed:
            expected = [self.model.run(line) for name, line in sorted(lines, key=lambda pair: self.book.id_of(pair[0]))]
        if seen.crashed:
            self.do("die")
        else:
            outcomes = [job.result for job in sorted(jobs[: len(lines)], key=lambda job: job.order)]
            assert outcomes == expected

    def one_of(self, data: st.DataObject, wanted: Callable[[Request], bool]) -> str:
        """A request that is so, or else any."""
        return data.draw(st.sampled_from([name for name, hold in self.model.requests.items() if wanted(hold)] or REQUESTS))

    def owner_of(self, request: str, amount: int) -> str:
        hold = self.model.requests.get(request)
        return hold.user if hold else NAMES[amount % 2]

    @invariant()
    def agrees(self) -> None:
        """Balance = Σ entries, held = Σ open holds, nobody below the limit, one charge for every settled hold …"""
        if not hasattr(self, "model"):
            return
        assert ledger.verify().drift == ()
        accounts = bound.execute_sql(
            "SELECT u.name, u.balance_nanos, u.held_nanos, k.spent_nanos, k.budget_spent_nanos, k.budget_held_nanos "
            "FROM users u JOIN keys k ON k.user_id = u.id ORDER BY u.id"
        ).fetchall()
        assert accounts == [
            (name, account.balance, self.model.open(name), account.spent, account.spent_in_window,
             self.model.open(name, budgeted=True))
            for name, account in self.model.accounts.items()
        ]  # fmt: skip
        assert all(self.model.available(name) >= 0 for name in NAMES)
        # One charge and one usage record for every hold that was settled, a usage record for every other closed one.
        found = bound.execute_sql(
            "SELECT h.request_id, h.state, h.amount_nanos, h.delivered, e.amount_nanos, r.charged_nanos FROM holds h "
            "LEFT JOIN ledger_entries e ON e.request_id = h.request_id AND e.kind = 'charge' "
            "LEFT JOIN usage_records r ON r.request_id = h.request_id ORDER BY h.request_id"
        ).fetchall()
        assert found == [
            (name, hold.state, hold.amount, hold.delivered, -hold.charged if hold.state == "settled" else None,
             None if hold.state == "open" else hold.charged)
            for name, hold in sorted(self.model.requests.items())
        ]  # fmt: skip


def _is_open(hold: Request) -> bool:
    return hold.state == "open"


def _line(action: str, request: str, name: str, amount: int) -> str:
    words = {"place": f"{request} {name} {amount}", "release": request}
    return f"{action} {words.get(action, f'{request} {amount}')}"


def _sqlite(template: Path, directory: Path) -> Callable[[], None]:
    path = directory / "gateway.db"

    def reset() -> None:
        engine.close_connection()
        for file in directory.glob("gateway.db*"):
            file.unlink()
        shutil.copyfile(template, path)

    reset()
    engine.open_database(f"sqlite:///{path}")
    return reset


def _postgresql(url: str) -> Callable[[], None]:
    engine.open_database(url)
    count = 0

    def reset() -> None:
        nonlocal count
        count += 1
        if count % 15 == 0:  # dead rows would slow every look
            bound.execute_sql(f"TRUNCATE {', '.join(table._meta.table_name for table in TABLES)}")
        bound.execute_sql(EMPTY)

    return reset


@pytest.fixture(params=["sqlite", "postgresql"])
def reset(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    """An open database, and what empties it. SQLite lies in memory (the setting of `synchronous` is the usual one)."""
    if request.param == "sqlite":
        memory = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
            yield _sqlite(request.getfixturevalue("_sqlite_template"), Path(directory))
            engine.close_connection()
        return
    server = request.getfixturevalue("postgres")
    url = server.lend(request.getfixturevalue("_postgres_template"))
    yield _postgresql(url)
    engine.close_connection()
    server.take_back(url)


def test_the_ledger_does_what_the_model_does(reset: Callable[[], None], request: pytest.FixtureRequest) -> None:
    machine = type("Machine", (LedgerMachine,), {"reset": staticmethod(reset), "outcomes": Counter()})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    if SEQUENCES >= 1000:
        assert set(machine.outcomes) >= OUTCOMES, "something was out of reach"
    print(f"{machine.sequences} sequences, {machine.lines} lines, {machine.crashes} crashes", end=" ")
