"""The ledger: entries that explain every balance, references that make retries harmless, and the check that finds drift."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from peewee import IntegrityError

from db import audit, clock, ledger, processes, users
from db.errors import Conflict, Invalid, NotFound, Refused
from db.models import Hold, Key, LedgerEntry, UsageRecord, User
from db.models import database as bound
from db.money import MAX_NANOS
from tests.support import hot_sql, records
from tests.support.contenders import contend
from tests.support.crash import COMMIT, Crash, crash_at, dump
from tests.support.ledger_text import play
from tests.support.threads import together

TABLES = {
    "a reference is booked once": """
        user alice                       -> ok
        user bob                         -> ok
        top-up alice 1000 ref=r1         -> ok
        top-up alice 1000 ref=r1         -> replayed
        top-up alice 999 ref=r1          -> conflict
        top-up alice 1000                -> ok
        top-up alice 1000                -> ok
        top-up bob 1000 ref=r1           -> ok
        show alice                       -> balance 3000 held 0
        show bob                         -> balance 1000 held 0
    """,
    "a reference belongs to one kind of entry": """
        user alice                       -> ok
        top-up alice 100 ref=r1          -> ok
        adjust alice 100 ref=r1          -> conflict
        adjust alice -30 ref=r2          -> ok
        adjust alice -30 ref=r2          -> replayed
        adjust alice -31 ref=r2          -> conflict
        top-up alice 30 ref=r2           -> conflict
        place q1 alice 50                -> placed
        settle q1 50                     -> charged 50 absorbed 0
        refund q1 10 ref=r1              -> conflict
        refund q1 10 ref=r3              -> ok
        top-up alice 10 ref=r3           -> conflict
        show alice                       -> balance 30 held 0
    """,
    "nothing but sums of money": """
        user alice                       -> ok
        top-up alice 0                   -> invalid
        top-up alice -5                  -> invalid
        adjust alice 0                   -> invalid
        top-up nobody 5                  -> notfound
        adjust nobody 5                  -> notfound
        refund q1 5 ref=r1               -> notfound
        refund q1 0 ref=r1               -> invalid
        show alice                       -> balance 0 held 0
    """,
    "an adjustment takes what is available and no more": """
        user alice credit=100            -> ok
        top-up alice 1000                -> ok
        place q1 alice 700               -> placed
        adjust alice -401                -> refused
        adjust alice -400                -> ok
        adjust alice -1                  -> refused
        settle q1 700                    -> charged 700 absorbed 0
        show alice                       -> balance -100 held 0
        adjust alice 150                 -> ok
        show alice                       -> balance 50 held 0
    """,
    "refunds never exceed the charge": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 500               -> placed
        refund q1 1 ref=r1               -> notfound
        settle q1 300                    -> charged 300 absorbed 0
        refund q1 100 ref=r1             -> ok
        refund q1 100 ref=r1             -> replayed
        refund q1 201 ref=r2             -> refused
        refund q1 200 ref=r2             -> ok
        refund q1 1 ref=r3               -> refused
        refund q1 200 ref=r2             -> replayed
        show alice                       -> balance 1000 held 0
    """,
    "a refund of one request is not one of another": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 100               -> placed
        place q2 alice 100               -> placed
        settle q1 100                    -> charged 100 absorbed 0
        settle q2 100                    -> charged 100 absorbed 0
        refund q1 50 ref=r1              -> ok
        refund q2 50 ref=r1              -> conflict
        refund q2 100 ref=r2             -> ok
    """,
    "what is not charged cannot be refunded": """
        user alice                       -> ok
        top-up alice 100                 -> ok
        place q1 alice 100               -> placed
        settle q1 5000                   -> charged 100 absorbed 4900
        refund q1 101 ref=r1             -> refused
        refund q1 100 ref=r1             -> ok
        place q2 alice 0                 -> placed
        settle q2 0                      -> charged 0 absorbed 0
        refund q2 1 ref=r2               -> refused
    """,
    "a credit limit covers what is owed and held": """
        user alice credit=500            -> ok
        place q1 alice 300               -> placed
        credit alice 299                 -> refused
        credit alice 300                 -> ok
        settle q1 200                    -> charged 200 absorbed 0
        credit alice 0                   -> refused
        credit alice 200                 -> ok
        top-up alice 200                 -> ok
        credit alice 0                   -> ok
    """,
    "pricing again brings a request to what is due, once": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 500               -> placed
        settle q1 500                    -> charged 500 absorbed 0
        rebill q1 500                    -> nothing
        rebill q1 400                    -> booked 100
        rebill q1 400                    -> nothing
        show alice                       -> balance 600 held 0
        rebill q1 450                    -> booked -50
        rebill q1 450                    -> nothing
        rebill q1 700                    -> booked -250
        rebill q1 0                      -> booked 700
        rebill q1 0                      -> nothing
        show alice                       -> balance 1000 held 0
        rebill q2 5                      -> notfound
        rebill q1 -1                     -> invalid
    """,
    "pricing again takes what is available and no more": """
        user alice credit=50             -> ok
        top-up alice 500                 -> ok
        place q1 alice 300               -> placed
        settle q1 300                    -> charged 300 absorbed 0
        place q2 alice 100               -> placed
        rebill q1 451                    -> refused
        rebill q1 450                    -> booked -150
        settle q2 100                    -> charged 100 absorbed 0
        show alice                       -> balance -50 held 0
    """,
    "pricing again and refunds never give back more than was paid": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 500               -> placed
        settle q1 500                    -> charged 500 absorbed 0
        refund q1 300 ref=r1             -> ok
        rebill q1 600                    -> booked -100
        rebill q1 400                    -> booked 200
        rebill q1 100                    -> booked 100
        rebill q1 100                    -> nothing
        rebill q1 0                      -> nothing
        refund q1 1 ref=r2               -> refused
        show alice                       -> balance 1000 held 0
    """,
    "a refund leaves what pricing again took back out": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 500               -> placed
        settle q1 500                    -> charged 500 absorbed 0
        rebill q1 200                    -> booked 300
        refund q1 201 ref=r1             -> refused
        refund q1 200 ref=r2             -> ok
        rebill q1 0                      -> nothing
        show alice                       -> balance 1000 held 0
    """,
}


@pytest.mark.parametrize("name", TABLES)
def test(name: str, database: str) -> None:
    play(TABLES[name])


def test_what_a_top_up_says_and_writes(database: str) -> None:
    records.user("alice")
    first = ledger.top_up("alice", 1_500_000_000, ref="r1", note="thanks")
    again = ledger.top_up("alice", 1_500_000_000, ref="r1", note="another note")
    assert (first.user, first.amount_nanos, first.balance_nanos, first.ref, first.replayed) == (
        "alice", 1_500_000_000, 1_500_000_000, "r1", False,
    )  # fmt: skip
    assert (again.entry_id, again.balance_nanos, again.replayed) == (first.entry_id, 1_500_000_000, True)
    [entry] = ledger.list_entries(user="alice")
    assert (entry.kind, entry.note, entry.ref, entry.balance_after_nanos) == ("topup", "thanks", "r1", 1_500_000_000)
    [logged] = audit.entries()
    assert (logged.action, logged.subject, logged.before) == ("ledger.topup", "alice", {"balance": "0"})
    assert logged.after == {"balance": "1.5", "amount": "1.5", "ref": "r1", "note": "thanks"}


def test_a_replay_names_the_balance_of_now(database: str) -> None:
    records.user("alice")
    ledger.top_up("alice", 100, ref="r1")
    ledger.top_up("alice", 5)
    assert ledger.top_up("alice", 100, ref="r1").balance_nanos == 105


@pytest.mark.parametrize(
    "book",
    [
        lambda: ledger.top_up("alice", 5, ref=""),
        lambda: ledger.adjust("alice", 5, reason="x", ref=""),
        lambda: ledger.top_up("alice", MAX_NANOS + 1),
        lambda: ledger.adjust("alice", -MAX_NANOS - 1, reason="x"),
        lambda: (ledger.top_up("alice", MAX_NANOS), ledger.top_up("alice", 1)),
    ],
)
def test_what_cannot_be_booked(database: str, book: Callable[[], object]) -> None:
    records.user("alice", credit_limit_nanos=MAX_NANOS - 1)
    with pytest.raises((Invalid, Refused)):
        book()
    assert ledger.verify().ok


def test_the_largest_balance_and_credit_limit_add_up(database: str) -> None:
    play(f"""
        user alice                          -> ok
        top-up alice {MAX_NANOS}            -> ok
        credit alice {MAX_NANOS}            -> invalid
        credit alice {MAX_NANOS - 1}        -> ok
        place q1 alice {MAX_NANOS}          -> placed
        place q2 alice {MAX_NANOS}          -> insufficient_balance
    """)


def test_a_deleted_user_is_found_no_more(database: str) -> None:
    records.user("alice")
    ledger.top_up("alice", 5, ref="r1")
    users.delete("alice")
    with pytest.raises(NotFound):
        ledger.top_up("alice", 5, ref="r1")


def test_fifty_threads_one_credit(database: str) -> None:
    """The same payment from fifty threads at once: the user's row is locked, so the second one sees the first's entry."""
    records.user("alice")
    posted = together([lambda: ledger.top_up("alice", 700, ref="r1")] * 50)
    assert sum(not one.replayed for one in posted) == 1
    assert len({one.entry_id for one in posted}) == 1
    assert User.get(User.name == "alice").balance_nanos == 700
    assert ledger.verify().ok


def test_processes_one_credit(database: str) -> None:
    records.user("alice")
    found = contend("top_up_same", database, processes=2, user="alice", amount=700, ref="r1", attempts=100)
    assert sorted(one["new"] for one in found) == [0, 1]
    assert User.get(User.name == "alice").balance_nanos == 700


def test_threads_with_other_amounts_for_one_reference_conflict(database: str) -> None:
    records.user("alice")

    def book(amount: int) -> str:
        try:
            return "replayed" if ledger.top_up("alice", amount, ref="r1").replayed else "ok"
        except Conflict:
            return "conflict"

    outcomes = together([lambda amount=amount: book(amount) for amount in (100, 200) * 10])
    assert (outcomes.count("ok"), outcomes.count("replayed"), outcomes.count("conflict")) == (1, 9, 10)
    assert User.get(User.name == "alice").balance_nanos in (100, 200)


def test_threads_never_refund_more_than_the_charge(database: str) -> None:
    play("user alice\ntop-up alice 1000\nplace q1 alice 500\nsettle q1 500")

    def refund(ref: str) -> bool:
        try:
            ledger.refund("q1", 150, ref=ref, reason="test")
        except Refused:
            return False
        return True

    done = together([lambda ref=f"r{number}": refund(ref) for number in range(12)])
    assert done.count(True) == 3
    assert User.get(User.name == "alice").balance_nanos == 950
    assert ledger.verify().ok


def test_threads_price_a_request_again_once(database: str) -> None:
    play("user alice\ntop-up alice 1000\nplace q1 alice 500\nsettle q1 500")
    done = together([lambda: ledger.rebill("q1", 200, reason="test") for _ in range(12)])
    assert [posted.amount_nanos for posted in done if posted is not None] == [300]
    assert User.get(User.name == "alice").balance_nanos == 800
    [entry] = [entry for entry in ledger.list_entries() if entry.kind == "adjustment"]
    assert (entry.request_id, entry.ref, entry.note) == ("q1", "recompute q1 1", "test")
    assert ledger.verify().ok


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("statement", [COMMIT, *range(1, 11)])
def test_a_kill_while_pricing_again_books_once(database: str, statement: int, after: bool) -> None:
    play("user alice\ntop-up alice 1000\nplace q1 alice 500\nsettle q1 500")
    with crash_at(statement, after=after), contextlib.suppress(Crash):
        ledger.rebill("q1", 200, reason="test")
    ledger.rebill("q1", 200, reason="test")
    assert User.get(User.name == "alice").balance_nanos == 800
    assert ledger.verify().ok


def test_threads_never_adjust_below_what_is_held(database: str) -> None:
    play("user alice\ntop-up alice 1000\nplace q1 alice 500")

    def take(_: int) -> bool:
        try:
            ledger.adjust("alice", -100, reason="test")
        except Refused:
            return False
        return True

    assert together([lambda number=number: take(number) for number in range(12)]).count(True) == 5
    assert User.get(User.name == "alice").balance_nanos == 500


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("statement", [COMMIT, 1, 2, 3, 4, 5])
def test_a_kill_at_any_statement_and_a_retry_book_once(database: str, statement: int, after: bool) -> None:
    records.user("alice")
    before = dump()
    with crash_at(statement, after=after) as seen, pytest.raises(Crash):
        ledger.top_up("alice", 700, ref="r1")
    assert (dump() == before) is not seen.committed
    assert ledger.top_up("alice", 700, ref="r1").replayed is seen.committed
    assert ledger.top_up("alice", 700, ref="r1").replayed
    assert User.get(User.name == "alice").balance_nanos == 700


def test_a_top_up_has_five_statements(database: str) -> None:
    """So the test above reaches every one of them."""
    records.user("alice")
    with crash_at(99, after=False) as seen:
        ledger.top_up("alice", 700, ref="r1")
    assert (seen.statements, seen.commits) == (5, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entries SET amount_nanos = 5",
        "UPDATE ledger_entries SET note = 'other'",
        "DELETE FROM ledger_entries",
    ],
)
def test_the_database_itself_refuses_to_change_an_entry(database: str, statement: str) -> None:
    records.user("alice")
    ledger.top_up("alice", 700)
    before = dump()
    with pytest.raises(Exception, match="append-only"):
        bound.execute_sql(statement)
    assert dump() == before


def test_the_database_itself_refuses_a_second_charge_or_reference(database: str) -> None:
    user = records.user("alice")
    entry = {"user": user, "amount_nanos": -1, "balance_after_nanos": 0, "at": 0}
    LedgerEntry.insert(kind="charge", request_id="q1", ref=None, **entry).execute()
    LedgerEntry.insert(kind="topup", request_id=None, ref="r1", **entry).execute()
    LedgerEntry.insert(kind="refund", request_id="q1", ref="r2", **entry).execute()
    LedgerEntry.insert(kind="topup", request_id=None, ref=None, **entry).execute()
    LedgerEntry.insert(kind="topup", request_id=None, ref=None, **entry).execute()
    for kind, request, ref in [("charge", "q1", None), ("adjustment", None, "r1"), ("bonus", None, None)]:
        with pytest.raises(IntegrityError):
            LedgerEntry.insert(kind=kind, request_id=request, ref=ref, **entry).execute()


def test_entries_are_listed_newest_first(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    records.user("alice")
    records.user("bob")
    for at, name in enumerate(("alice", "bob", "alice", "bob")):
        monkeypatch.setattr(clock, "now_ms", lambda at=at: at)
        ledger.top_up(name, at + 1)
    assert [entry.amount_nanos for entry in ledger.list_entries()] == [4, 3, 2, 1]
    assert [entry.amount_nanos for entry in ledger.list_entries(user="bob")] == [4, 2]
    assert [entry.amount_nanos for entry in ledger.list_entries(since=2)] == [4, 3]
    assert [entry.amount_nanos for entry in ledger.list_entries(user="bob", since=2, limit=1)] == [4]
    with pytest.raises(NotFound):
        ledger.list_entries(user="nobody")


def _full_book() -> None:
    play("""
        user alice credit=100
        top-up alice 1000
        place q1 alice 300
        place q2 alice 200
        settle q1 250
    """)


DRIFT = {
    "balance of alice": lambda: User.update(balance_nanos=User.balance_nanos + 1).execute(),
    "nano-USD held but its open holds": lambda: User.update(held_nanos=0).execute(),
    "is overdrawn": lambda: User.update(credit_limit_nanos=0, held_nanos=9999).execute(),
    "settled hold q2 has no charge": lambda: Hold.update(state="settled").where(Hold.request_id == "q2").execute(),
    "charge of q1 has no settled hold": lambda: Hold.update(state="released").where(Hold.request_id == "q1").execute(),
    "request q1 was charged 250": lambda: UsageRecord.update(charged_nanos=249).execute(),
}


@pytest.mark.parametrize("sentence", DRIFT)
def test_verify_finds_drift(database: str, sentence: str) -> None:
    _full_book()
    found = ledger.verify()
    assert (found.ok, found.users, found.entries) == (True, 1, 2)
    DRIFT[sentence]()
    assert any(sentence in drift for drift in ledger.verify().drift)
    assert not ledger.verify().ok


def test_verify_finds_holds_without_a_living_owner(database: str) -> None:
    _full_book()
    assert ledger.verify(live_processes=frozenset()).stale_holds == ("q2",)
    [process] = processes.running()
    processes.end(process.id)
    found = ledger.verify()
    assert (found.drift, found.stale_holds, found.ok) == ((), ("q2",), False)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_verify_takes_as_long_as_it_takes(database: str) -> None:
    _full_book()
    bound.execute_sql("SET statement_timeout = 50")
    execute = bound.obj.execute_sql

    def slow(text: str, values: object = None) -> object:
        if text.startswith("SELECT u.name"):
            execute("SELECT pg_sleep(0.1)")
        return execute(text, values)

    bound.obj.execute_sql = slow
    try:
        assert ledger.verify().ok
    finally:
        del bound.obj.execute_sql


def test_verify_is_one_look(database: str) -> None:
    """What is committed while it looks does not show up as drift."""
    _full_book()
    execute, done = bound.obj.execute_sql, []

    def busy(text: str, values: object = None) -> object:
        if text.startswith("SELECT u.name, u.held_nanos") and not done:
            done.append(True)
            together([lambda: (ledger.top_up("alice", 5), User.update(held_nanos=0).execute())])
        return execute(text, values)

    bound.obj.execute_sql = busy
    try:
        assert ledger.verify().ok
    finally:
        del bound.obj.execute_sql
    assert done
    assert not ledger.verify().ok


@pytest.mark.parametrize("name", hot_sql.statements(ledger))
def test_sql_fits_the_tables(name: str, database: str) -> None:
    hot_sql.check_columns(hot_sql.statements(ledger)[name])
    hot_sql.check_plan(hot_sql.statements(ledger)[name])


@pytest.mark.parametrize(
    ("index", "statement"),
    [
        ("ledger_one_charge_per_request", "SELECT id FROM ledger_entries WHERE request_id = ? AND kind = 'charge'"),
        ("ledger_refunds", "SELECT SUM(amount_nanos) FROM ledger_entries WHERE request_id = ? AND kind = 'refund'"),
        ("ledger_one_entry_per_ref", "SELECT id FROM ledger_entries WHERE user_id = 1 AND ref = ?"),
        ("ledger_entries_user_id_at", "SELECT id FROM ledger_entries WHERE user_id = 1 AND at >= ?"),
    ],
)
def test_entries_are_found_by_index(database: str, index: str, statement: str) -> None:
    assert index in hot_sql.plan(statement, ["1"])


def test_a_key_remembers_what_it_cost(database: str) -> None:
    _full_book()
    assert Key.get().spent_nanos == 250
