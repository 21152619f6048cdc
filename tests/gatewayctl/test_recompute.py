"""Old requests are priced again: by today's prices, or by the terms they were charged by, and booked once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from db import catalog, clock, engine, holds, ledger, processes
from db.holds import HoldRequest, Placement
from db.models import CatalogModel, CatalogState, UsageRecord, User
from db.prices import NewPrice
from db.usage import UsageRow
from tests.support.cli import Gateway

TERMS = '{"input":[1000000,1000000,1000000,1000000],"output":[4000000,2000000,1000000,1000000]}'  # 1, and 4 doubled
RECOMPUTE = ("usage", "recompute")


@pytest.fixture
def charged(gateway: Gateway) -> Iterator[Gateway]:
    """alice was charged 100 x 1 + 50 x 4 x 2 = 500 nano-USD per request by those terms. Today the prices are the same."""
    gateway.ok("providers", "add", "openai")
    gateway.ok("models", "add", "gpt", "--provider", "openai", "--input-price", "0.001", "--output-price", "0.004")
    gateway.ok("users", "create", "alice")
    gateway.ok("multipliers", "set", "2", "--user", "alice", "--meter", "output")
    gateway.ok("topup", "alice", "1")
    gateway.ok("keys", "create", "--user", "alice", "--quiet")
    engine.open_database(str(gateway.url))
    processes.register()
    yield gateway
    engine.close_connection()


def request(
    request_id: str, *, usage: dict[str, Any] | None = None, cost: int = 500, held: int = 100_000, estimated: bool = False,
    terms: str = TERMS, at: int | None = None,
) -> None:  # fmt: skip
    """A request that was held and settled."""
    user, model = User.get(User.name == "alice"), CatalogModel.get()
    [version] = CatalogState.select(CatalogState.version).tuples().get()
    at = clock.now_ms() - 1000 if at is None else at
    placed = holds.place(
        HoldRequest(
            request_id=request_id, user_id=user.id, user_version=user.version, key_id=1, catalog_version=version,
            model_id=model.id, provider_id=1, amount_nanos=held, input_estimate=1, stream=False, requested_model="gpt",
            endpoint="/v1/chat/completions", terms=terms, process_id=1, budget_window_at=None,
        )
    )  # fmt: skip
    assert placed.outcome is Placement.PLACED
    holds.settle(
        UsageRow(
            request_id=request_id, at=at, user_id=user.id, key_id=1, endpoint="/v1/chat/completions", requested_model="gpt",
            status="ok", http_status=200, model_id=model.id, provider_id=1, cost_nanos=cost, estimated=estimated,
            usage=json.dumps(usage or {"input": 100, "output": 50}), terms=terms,
        )
    )  # fmt: skip


def balance() -> int:
    return int(User.get(User.name == "alice").balance_nanos)


def set_prices(**nanos: str) -> None:
    """Prices of one unit from now on, in nano-USD."""
    catalog.update("gpt", new_prices={key: NewPrice(int(Decimal(text) * 1_000_000)) for key, text in nanos.items()})


def test_nothing_changed_nothing_differs(charged: Gateway) -> None:
    request("q1")
    for options in ((), ("--stored-terms",), ("--dry-run",), ("--yes",)):
        found = charged.json(*RECOMPUTE, *options)
        assert found["records"] == []
        assert found["summary"] == {
            "records": 1, "differing": 0, "not_priced": 0, "cost": "0.0000005", "new_cost": "0.0000005", "credit": "0",
            "charge": "0", "booked": "0",
        }  # fmt: skip


def test_a_dry_run_prints_the_differences_and_changes_nothing(charged: Gateway) -> None:
    request("q1")
    request("q2", usage={"input": 400}, cost=400)
    set_prices(output="3")
    before = (balance(), len(ledger.list_entries()))
    found = charged.json(*RECOMPUTE, "--dry-run")
    [row] = found["records"]
    assert row["at"].endswith("Z")
    assert {name: value for name, value in row.items() if name not in ("at", "note")} == {
        "request_id": "q1", "user": "alice", "model": "gpt", "cost": "0.0000005", "charged": "0.0000005",
        "new_cost": "0.0000004", "difference": "-0.0000001", "booked": None,
    }  # fmt: skip
    assert (found["summary"]["records"], found["summary"]["credit"], found["summary"]["charge"]) == (2, "0.0000001", "0")
    assert (balance(), len(ledger.list_entries())) == before
    text = charged.ok(*RECOMPUTE, "--dry-run").out
    assert "q1" in text
    assert "-0.0000001" in text


def test_booking_needs_a_yes_and_happens_once(charged: Gateway) -> None:
    request("q1")
    request("q2")
    start = balance()
    set_prices(output="3", input="2")  # 200 + 300: no difference
    assert charged.json(*RECOMPUTE)["records"] == []
    set_prices(input="1")
    assert charged.run(*RECOMPUTE).code == 5
    assert balance() == start
    found = charged.json(*RECOMPUTE, "--yes")
    assert [row["booked"] for row in found["records"]] == ["0.0000001", "0.0000001"]
    assert (found["summary"]["booked"], balance()) == ("0.0000002", start + 200)
    again = charged.json(*RECOMPUTE, "--yes")
    assert [(row["booked"], row["note"]) for row in again["records"]] == [("0", "nothing left to book")] * 2
    assert balance() == start + 200
    set_prices(output="6")  # dearer than ever: 100 + 600
    dearer = charged.json(*RECOMPUTE, "--request-id", "q1", "--yes")
    assert ([row["booked"] for row in dearer["records"]], balance()) == (["-0.0000003"], start + 200 - 300)
    kinds = [(entry.kind, entry.request_id, entry.amount_nanos) for entry in ledger.list_entries()[:3]]
    assert kinds == [("adjustment", "q1", -300), ("adjustment", "q2", 100), ("adjustment", "q1", 100)]
    assert charged.json("ledger", "verify")["ok"]


def test_who_cannot_pay_more_is_told_of(charged: Gateway) -> None:
    request("q1")
    charged.ok("balances", "adjust", "alice", "-0.999999", "--reason", "test", "--yes")  # 0.0000005 are left
    start = balance()
    set_prices(output="10")  # 100 + 1000
    [row] = charged.json(*RECOMPUTE, "--yes")["records"]
    assert (row["difference"], row["booked"]) == ("0.0000006", "0")
    assert "available" in row["note"]
    assert balance() == start


def test_an_estimate_never_comes_to_more_than_its_hold(charged: Gateway) -> None:
    request("q1", estimated=True, held=400, cost=400)
    request("q2", estimated=False, held=400, cost=500)
    assert charged.json(*RECOMPUTE, "--stored-terms")["records"] == []
    set_prices(output="40")
    [row] = charged.json(*RECOMPUTE, "--dry-run")["records"]
    assert (row["request_id"], row["new_cost"]) == ("q2", "0.0000041")
    set_prices(output="0.5")
    found = {row["request_id"]: row["new_cost"] for row in charged.json(*RECOMPUTE, "--dry-run")["records"]}
    assert found == {"q1": "0.00000015", "q2": "0.00000015"}


def test_what_was_absorbed_is_not_asked_for_later(charged: Gateway) -> None:
    charged.ok("balances", "adjust", "alice", "-0.9999997", "--reason", "test", "--yes")  # 300 are left
    request("q1", held=300)  # cost 500, charged 300
    for price, due in (("3", "0"), ("1.5", "-0.00000005"), ("4.5", "0.00000005")):
        set_prices(output=price)
        [row] = charged.json(*RECOMPUTE, "--dry-run")["records"]
        assert row["difference"] == due, price


def test_stored_terms_reproduce_every_charge_or_say_which_not(charged: Gateway) -> None:
    tiered = TERMS[:-1] + ',"input@1000":[2000000,1000000,1000000,1000000],"tier:flex":500000}'
    request("long", usage={"input": 2000, "output": 50, "service_tier": "flex", "reasoning": 7}, cost=2200, terms=tiered)
    request("piece", usage={"image/1024x1024/high": 3}, cost=9, terms='{"image":[3000000,1000000,1000000,1000000]}')
    set_prices(input="7", output="7")
    assert charged.json(*RECOMPUTE, "--stored-terms", "--since", "all")["records"] == []
    request("odd", cost=501)
    request("unreadable", terms='{"input":5}', cost=1)
    done = charged.run(*RECOMPUTE, "--stored-terms", "--dry-run", "--json")
    assert done.code == 1
    assert {row["request_id"]: (row["new_cost"], bool(row["note"])) for row in done.json["records"]} == {
        "odd": ("0.0000005", False), "unreadable": (None, True),
    }  # fmt: skip
    assert (done.json["summary"]["differing"], done.json["summary"]["not_priced"]) == (1, 1)


def test_only_what_was_asked_for(charged: Gateway) -> None:
    request("old", at=clock.now_ms() - 40 * clock.DAY_MS)
    request("new")
    set_prices(output="1")

    def named(*options: str) -> list[str]:
        return [row["request_id"] for row in charged.json(*RECOMPUTE, "--dry-run", *options)["records"]]

    assert named() == ["new"]
    assert named("--since", "all") == ["old", "new"]
    assert named("--since", "all", "--until", "30d") == ["old"]
    assert named("--request-id", "old") == ["old"]
    assert named("--model", "gpt", "--user", "alice") == ["new"]
    assert charged.run(*RECOMPUTE, "--request-id", "none", "--dry-run").code == 3
    assert charged.run(*RECOMPUTE, "--user", "nobody", "--dry-run").code == 3
    assert charged.ok(*RECOMPUTE, "--since", "all", "--dry-run", "--quiet").lines == ["old", "new"]


def test_todays_multipliers_tiers_and_fixed_prices_count(charged: Gateway) -> None:
    asked = TERMS[:-1] + ',"tier:priority":2000000,"asked":"priority"}'
    request("q1", usage={"input": 100, "output": 50, "service_tier": "priority"}, cost=1000, terms=asked)
    catalog.update("gpt", service_tiers={"priority": 1_500_000})
    [row] = charged.json(*RECOMPUTE, "--dry-run")["records"]
    assert row["new_cost"] == "0.00000075"
    set_prices(request="100")
    [row] = charged.json(*RECOMPUTE, "--dry-run")["records"]
    assert row["new_cost"] == "0.00000085"  # a request is counted once, though nobody counted it then
    charged.ok("multipliers", "unset", "--user", "alice", "--meter", "output")
    [row] = charged.json(*RECOMPUTE, "--dry-run")["records"]
    assert row["new_cost"] == "0.00000055"


def test_a_model_that_is_gone_is_left_alone(charged: Gateway) -> None:
    request("q1")
    charged.ok("models", "delete", "gpt", "--yes")
    found = charged.json(*RECOMPUTE, "--yes")
    assert [(row["new_cost"], row["difference"], "gone" in row["note"]) for row in found["records"]] == [(None, "0", True)]
    assert found["summary"]["not_priced"] == 1
    assert charged.json(*RECOMPUTE, "--stored-terms")["records"] == []


def test_show_says_what_was_not_charged(charged: Gateway) -> None:
    charged.ok("balances", "adjust", "alice", "-0.9999993", "--reason", "test", "--yes")  # 700 are left
    request("capped", estimated=True, held=400, cost=400)
    request("absorbed", held=300)
    UsageRecord.update(amounts='{"input":100,"output":400}').execute()
    shown = charged.json("usage", "show", "capped")
    assert (shown["lines_cost"], shown["cost"], shown["capped"], shown["absorbed"]) == (
        "0.0000005",
        "0.0000004",
        "0.0000001",
        "0",
    )
    done = charged.ok("usage", "show", "capped")
    assert "0.0000001 USD less" in done.err
    assert done.lines[-1].split()[::5] == ["total", "0.0000005"]
    shown = charged.json("usage", "show", "absorbed")
    assert (shown["capped"], shown["charged"], shown["absorbed"]) == ("0", "0.0000003", "0.0000002")
    assert "0.0000002 were absorbed" in charged.ok("usage", "show", "absorbed").err


def test_show_prints_the_amounts_that_were_stored(charged: Gateway) -> None:
    request("q1")
    UsageRecord.update(amounts='{"input":101,"output":399}').execute()
    assert [line["amount"] for line in charged.json("usage", "show", "q1")["lines"]] == ["0.000000101", "0.000000399"]
