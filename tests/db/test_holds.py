"""Holds: what places them, what they cost when they end, and that nobody overspends whoever hurries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from peewee import IntegrityError

from db import groups, holds, keys, ledger, users
from db.holds import HoldState, Placement
from db.models import CatalogModel, Hold, Key, Provider, UsageRecord
from db.money import MAX_NANOS
from tests.support import hot_sql, records
from tests.support.contenders import contend
from tests.support.ledger_text import estimate, play
from tests.support.threads import together

TABLES = {
    "a hold is set aside and its rest comes back": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 600               -> placed
        show alice                       -> balance 1000 held 600
        place q2 alice 401               -> insufficient_balance
        place q2 alice 400               -> placed
        settle q1 250                    -> charged 250 absorbed 0
        show alice                       -> balance 750 held 400
        release q2                       -> released
        show alice                       -> balance 750 held 0
    """,
    "another model stands in: the hold is raised or lowered, or stays as it is": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 600               -> placed
        change q1 alice 900              -> placed
        show alice                       -> balance 1000 held 900
        change q1 alice 900              -> placed
        change q1 alice 1001             -> insufficient_balance available 1000
        change q1 alice 100 stale=1      -> stale
        show alice                       -> balance 1000 held 900
        change q1 alice 200              -> placed
        place q2 alice 700               -> placed
        change q1 alice 400              -> insufficient_balance available 300
        settle q1 150                    -> charged 150 absorbed 0
        change q1 alice 100              -> stale
        show alice                       -> balance 850 held 700
        release q2                       -> released
        show alice                       -> balance 850 held 0
    """,
    "another model stands in within the key's budget": """
        user alice budget=300            -> ok
        top-up alice 1000                -> ok
        place q1 alice 100               -> placed
        change q1 alice 301              -> key_budget_exceeded left 300
        show alice                       -> balance 1000 held 100
        change q1 alice 300              -> placed
        key alice                        -> spent 0 budget 0+300/300
        change q1 alice 50               -> placed
        key alice                        -> spent 0 budget 0+50/300
        settle q1 20                     -> charged 20 absorbed 0
        key alice                        -> spent 20 budget 20+0/300
    """,
    "closing twice changes nothing": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 600               -> placed
        settle q1 600                    -> charged 600 absorbed 0
        settle q1 600                    -> closed before
        release q1                       -> closed before
        deliver q1 5                     -> closed before
        settle never-placed 5            -> closed before
        place q1 alice 100               -> duplicate
        show alice                       -> balance 400 held 0
    """,
    "more than the hold is charged from what is left, and no further": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 100               -> placed
        place q2 alice 700               -> placed
        settle q1 350                    -> charged 300 absorbed 50
        show alice                       -> balance 700 held 700
        settle q2 5000                   -> charged 700 absorbed 4300
        show alice                       -> balance 0 held 0
    """,
    "the credit limit is spent like money, and the balance goes to minus the limit": """
        user alice credit=500            -> ok
        place q1 alice 501               -> insufficient_balance
        place q1 alice 500               -> placed
        settle q1 900                    -> charged 500 absorbed 400
        show alice                       -> balance -500 held 0
        place q2 alice 1                 -> insufficient_balance
        place q3 alice 0                 -> placed
        settle q3 1                      -> charged 0 absorbed 1
    """,
    "a free request needs no money": """
        user alice                       -> ok
        place q1 alice 0                 -> placed
        settle q1 0                      -> charged 0 absorbed 0
    """,
    "a key's budget stops the key, not the user": """
        user alice budget=300            -> ok
        top-up alice 1000                -> ok
        place q1 alice 200               -> placed
        place q2 alice 101               -> key_budget_exceeded
        show alice                       -> balance 1000 held 200
        place q2 alice 100               -> placed
        settle q1 50                     -> charged 50 absorbed 0
        key alice                        -> spent 50 budget 50+100/300
        release q2                       -> released
        place q3 alice 250               -> placed
        place q4 alice 1                 -> key_budget_exceeded
        next-window                      -> ok
        place q4 alice 51                -> key_budget_exceeded
        place q4 alice 50                -> placed
        key alice                        -> spent 50 budget 0+300/300
        place q4 alice 1                 -> key_budget_exceeded
        budget alice none                -> ok
        place q4 alice 1                 -> duplicate
        place q5 alice 1                 -> placed
    """,
    "a duplicate gives back everything": """
        user alice budget=500            -> ok
        top-up alice 1000                -> ok
        place q1 alice 100               -> placed
        place q1 alice 100               -> duplicate
        show alice                       -> balance 1000 held 100
        key alice                        -> spent 0 budget 0+100/500
    """,
    "who asks by old knowledge is told so": """
        user alice                       -> ok
        top-up alice 1000                -> ok
        place q1 alice 100 stale=1       -> stale
        show alice                       -> balance 1000 held 0
    """,
    "an attempt whose outcome was lost is not made twice": """
        user alice budget=700            -> ok
        top-up alice 1000                -> ok
        place q1 alice 600               -> placed
        place q1 alice 600 again=1       -> placed
        show alice                       -> balance 1000 held 600
        key alice                        -> spent 0 budget 0+600/700
        settle q1 10                     -> charged 10 absorbed 0
        place q1 alice 600 again=1       -> duplicate
    """,
    "a dead process's requests are charged by what was delivered, at most what was held": """
        user alice                       -> ok
        user bob                         -> ok
        top-up alice 1000                -> ok
        top-up bob 1000                  -> ok
        place q1 alice 500               -> placed
        place q2 bob 500                 -> placed
        place q3 alice 100               -> placed
        deliver q1 3                     -> ok
        deliver q1 7                     -> ok
        deliver q3 90                    -> ok
        die                              -> ok
        place q4 bob 5                   -> placed
        recover 0 limit=1                -> charged q1 expired -
        recover 0                        -> charged q3 expired q2
        recover 0                        -> charged - expired -
        show alice                       -> balance 830 held 0
        show bob                         -> balance 1000 held 5
        settle q1 1                      -> closed before
    """,
    "holds are recovered in the order of users, as everybody locks them": """
        user alice                       -> ok
        user bob                         -> ok
        top-up alice 1000                -> ok
        top-up bob 1000                  -> ok
        place q1 bob 5                   -> placed
        place q9 alice 5                 -> placed
        place q8 alice 5                 -> placed
        die                              -> ok
        recover 0 limit=1                -> charged - expired q8
        recover 0 limit=1                -> charged - expired q9
        recover 0 limit=1                -> charged - expired q1
    """,
}


@pytest.mark.parametrize("name", TABLES)
def test(name: str, database: str) -> None:
    play(TABLES[name])


def test_figures_that_a_refusal_names(database: str) -> None:
    book = play("""
        user alice credit=50 budget=300
        top-up alice 200
        place q1 alice 100
    """)
    short = holds.place(book.ask("q2", "alice", "151"))
    assert (short.outcome, short.balance_nanos, short.held_nanos, short.available_nanos) == (
        Placement.INSUFFICIENT_BALANCE, 200, 100, 150,
    )  # fmt: skip
    book.run("top-up alice 1000")
    over = holds.place(book.ask("q2", "alice", "201"))
    assert (over.outcome, over.budget_nanos, over.budget_left_nanos, over.budget_held_nanos) == (
        Placement.KEY_BUDGET_EXCEEDED, 300, 200, 100,
    )  # fmt: skip


def test_every_change_of_an_admin_makes_an_earlier_look_stale(database: str) -> None:
    book = play("user alice\ntop-up alice 1000")
    for change in (
        lambda: users.update("alice", rpm=5),
        lambda: keys.update(str(book.key_of("alice")), rpm=5),
        lambda: keys.set_status(str(book.key_of("alice")), "disabled"),
        lambda: users.set_status("alice", "suspended"),
        lambda: groups.create("new"),
    ):
        ask = book.ask("q1", "alice", "1")
        change()
        assert holds.place(ask).outcome is Placement.STALE
    assert holds.place(book.ask("q1", "alice", "1")).outcome is Placement.STALE, "suspended"
    assert holds.place(replace(book.ask("q1", "alice", "1"), user_id=999)).outcome is Placement.STALE


def test_a_budget_that_was_removed_meanwhile_is_stale(database: str) -> None:
    """The budget goes between the look and the hold, without a new version: no hold against a budget that is not there."""
    book = play("user alice budget=100\ntop-up alice 1000")
    ask = book.ask("q1", "alice", "50")
    Key.update(budget_nanos=None).execute()
    assert holds.place(ask).outcome is Placement.STALE
    assert book.run("show alice") == "balance 1000 held 0"


@pytest.mark.parametrize("amount", [-1, MAX_NANOS + 1])
def test_amounts_out_of_range_never_reach_the_database(database: str, amount: int) -> None:
    book = play("user alice\ntop-up alice 1000\nplace q0 alice 10")
    with pytest.raises(ValueError, match="out of range"):
        holds.place(book.ask("q1", "alice", str(amount)))
    with pytest.raises(ValueError, match="out of range"):
        holds.settle(book.row("q0", str(amount)))
    assert book.run("show alice") == "balance 1000 held 10"


def test_the_largest_amounts_add_up(database: str) -> None:
    play(f"""
        user alice                          -> ok
        top-up alice {MAX_NANOS}            -> ok
        top-up alice 1                      -> invalid
        place q1 alice {MAX_NANOS}          -> placed
        place q2 alice 1                    -> insufficient_balance
        settle q1 {MAX_NANOS}               -> charged {MAX_NANOS} absorbed 0
        show alice                          -> balance 0 held 0
    """)


def test_what_a_settlement_writes(database: str) -> None:
    book = play("user alice budget=900\ntop-up alice 1000\nplace q1 alice 500\ndeliver q1 4")
    row = replace(book.row("q1", "120"), served_model="demo-2", latency_ms=40, ttft_ms=10, attempts="[1]", usage='{"input":7}')
    settled = holds.settle(row)
    assert (settled.closed, settled.charged_nanos, settled.absorbed_nanos, settled.balance_nanos) == (True, 120, 0, 880)
    hold = Hold.get_by_id("q1")
    assert (hold.state, hold.delivered) == (HoldState.SETTLED, 4)
    assert hold.closed_at >= hold.placed_at
    [charge] = [entry for entry in ledger.list_entries() if entry.kind == "charge"]
    assert (charge.amount_nanos, charge.balance_after_nanos, charge.request_id) == (-120, 880, "q1")
    found = UsageRecord.get(UsageRecord.request_id == "q1")
    assert (found.cost_nanos, found.charged_nanos, found.absorbed_nanos, found.upstream_cost_nanos) == (120, 120, 0, 60)
    assert (found.served_model, found.latency_ms, found.ttft_ms, found.attempts, found.usage) == (
        "demo-2", 40, 10, "[1]", '{"input":7}',
    )  # fmt: skip
    assert Key.get_by_id(book.key_of("alice")).last_used_at == row.at


def test_what_a_release_writes(database: str) -> None:
    """Nothing is charged, whatever the record that comes with it says."""
    book = play("user alice budget=900\ntop-up alice 1000\nplace q1 alice 500")
    assert holds.release(replace(book.row("q1", "120"), status="error", http_status=502))
    found = UsageRecord.get(UsageRecord.request_id == "q1")
    assert (found.status, found.http_status, found.cost_nanos, found.charged_nanos) == ("error", 502, 0, 0)
    assert Hold.get_by_id("q1").state == HoldState.RELEASED
    assert book.run("key alice") == "spent 0 budget 0+0/900"
    assert [entry.kind for entry in ledger.list_entries()] == ["topup"]


def test_what_recovery_writes(database: str) -> None:
    book = play("user alice\ntop-up alice 1000\nplace q1 alice 500\nplace q2 alice 100\ndeliver q1 4\ndie")
    seen: list[tuple[str, int, int]] = []

    def spying(terms: str, input_tokens: int, output_tokens: int) -> holds.Estimate:
        seen.append((terms, input_tokens, output_tokens))
        return estimate(terms, input_tokens, output_tokens)

    holds.recover(book.owners[0], spying)
    assert seen == [("{}", 7, 4)]
    lost = {row.request_id: row for row in UsageRecord.select()}
    shape = {
        name: (row.status, row.http_status, row.estimated, row.charged_nanos, row.error_code, row.model_id, row.stream)
        for name, row in lost.items()
    }
    assert shape == {
        "q1": ("error", 200, 1, 40, "gateway_restarted", 1, 1),
        "q2": ("error", 500, 0, 0, "gateway_restarted", 1, 1),
    }
    assert lost["q1"].at == Hold.get_by_id("q1").placed_at
    assert [Hold.get_by_id(name).state for name in ("q1", "q2")] == [HoldState.SETTLED, HoldState.EXPIRED]


def test_open_holds_by_process(database: str) -> None:
    book = play("user alice\ntop-up alice 9\nplace q1 alice 1\nplace q2 alice 1\ndie\nplace q3 alice 1\nrelease q2")
    assert sorted(holds.open_holds()) == [("q1", book.owners[0]), ("q3", book.owners[1])]
    assert holds.open_holds([book.owners[1]]) == [("q3", book.owners[1])]
    assert holds.open_holds([]) == []


def test_a_deleted_model_and_provider_leave_their_holds_alone(database: str) -> None:
    """What a request is charged and recorded as does not depend on what became of its model meanwhile."""
    book = play("user alice\ntop-up alice 1000")
    model, provider = records.model("short-lived"), records.provider("gone")
    ask = replace(book.ask("q1", "alice", "10"), model_id=model, provider_id=provider)
    assert holds.place(ask).outcome is Placement.PLACED
    CatalogModel.delete().execute()
    Provider.delete().execute()
    book.run("deliver q1 1")
    holds.recover(book.owners[0], estimate)
    found = UsageRecord.get(UsageRecord.request_id == "q1")
    assert (found.model_id, found.provider_id, found.charged_nanos) == (model, provider, 10)


def test_threads_that_hurry_never_overspend(database: str) -> None:
    """Forty threads, money for three: three holds, and the refusals name what is left."""
    book = play("user alice\ntop-up alice 350")
    asks = [book.ask(f"q{number}", "alice", "100") for number in range(40)]
    outcomes = together([lambda ask=ask: holds.place(ask) for ask in asks])
    placed = [outcome for outcome in outcomes if outcome.outcome is Placement.PLACED]
    refused = [outcome for outcome in outcomes if outcome.outcome is Placement.INSUFFICIENT_BALANCE]
    assert (len(placed), len(refused)) == (3, 37)
    assert {outcome.available_nanos for outcome in refused} <= {50}
    assert book.run("show alice") == "balance 350 held 300"


def test_threads_that_hurry_never_pass_a_key_budget(database: str) -> None:
    book = play("user alice budget=350\ntop-up alice 100000")
    asks = [book.ask(f"q{number}", "alice", "100") for number in range(20)]
    outcomes = [outcome.outcome for outcome in together([lambda ask=ask: holds.place(ask) for ask in asks])]
    assert outcomes.count(Placement.PLACED) == 3
    assert outcomes.count(Placement.KEY_BUDGET_EXCEEDED) == 17
    assert book.run("show alice") == "balance 100000 held 300"


def test_threads_that_settle_the_same_hold_charge_once(database: str) -> None:
    book = play("user alice\ntop-up alice 1000\nplace q1 alice 500")
    row = book.row("q1", "200")
    outcomes = together([lambda: holds.settle(row)] * 10 + [lambda: holds.release(row)] * 10)
    closed = [outcome for outcome in outcomes if outcome is True or getattr(outcome, "closed", False)]
    assert len(closed) == 1
    assert book.run("verify") == "ok"
    assert book.run("show alice") == ("balance 1000 held 0" if closed == [True] else "balance 800 held 0")


def test_settlements_beyond_the_hold_never_overdraw(database: str) -> None:
    """All at once: each may take what is available, but only once."""
    book = play("user alice\ntop-up alice 1000\n" + "\n".join(f"place q{number} alice 50" for number in range(10)))
    rows = [book.row(f"q{number}", "400") for number in range(10)]
    settled = together([lambda row=row: holds.settle(row) for row in rows])
    assert sum(one.charged_nanos for one in settled) == 1000
    assert sum(one.absorbed_nanos for one in settled) == 3000
    assert book.run("show alice") == "balance 0 held 0"
    assert book.run("verify") == "ok"


def test_processes_that_recover_the_same_dead_one(database: str) -> None:
    """Two workers find the same process dead: each hold is closed by one of them."""
    book = play("user alice\ntop-up alice 5000\n" + "\n".join(f"place q{number} alice 50" for number in range(30)))
    for number in range(0, 30, 2):
        book.run(f"deliver q{number} 3")
    found = together([lambda: holds.recover(book.owners[0], estimate)] * 4)
    charged = [request for one in found for request in one.charged]
    expired = [request for one in found for request in one.expired]
    assert (len(charged), len(expired), len({*charged, *expired})) == (15, 15, 30)
    assert book.run("show alice") == f"balance {5000 - 15 * 30} held 0"
    assert book.run("verify") == "ok"


def test_processes_that_hurry_never_overspend(database: str) -> None:
    """Two processes, four users with money for seven holds each: twenty-eight, whoever places them."""
    names = [f"user-{number}" for number in range(4)]
    book = play("\n".join(f"user {name}\ntop-up {name} 750" for name in names))
    found = contend("place_many", database, processes=2, keys=[book.key_of(name) for name in names], amount=100, attempts=80)
    assert all(not one["errors"] for one in found), found
    assert sum(one.get("placed", 0) for one in found) == 28
    assert [book.run(f"show {name}") for name in names] == ["balance 750 held 700"] * 4
    assert book.run("verify") == "ok"


def test_a_hold_needs_a_key(database: str) -> None:
    book = play("user alice\ntop-up alice 100")
    with pytest.raises(IntegrityError):
        holds.place(replace(book.ask("q1", "alice", "1"), key_id=12345))
    assert book.run("show alice") == "balance 100 held 0"


STATEMENTS = hot_sql.statements(holds)


@pytest.mark.parametrize("name", STATEMENTS)
def test_hot_sql_fits_the_tables(name: str, database: str) -> None:
    hot_sql.check_columns(STATEMENTS[name])
    hot_sql.check_plan(STATEMENTS[name])


def test_open_holds_of_a_process_are_found_by_index(database: str) -> None:
    text, values = Hold.select(Hold.request_id).where((Hold.process_id == 1) & (Hold.state == "open")).sql()
    assert "holds_open" in hot_sql.plan(text, values)
