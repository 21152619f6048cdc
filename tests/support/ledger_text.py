"""The ledger as text: every line is an action and what must come of it.

    user alice credit=500            -> ok
    top-up alice 1000 ref=r1         -> ok
    place q1 alice 600               -> placed
    settle q1 250                    -> charged 250 absorbed 0
    show alice                       -> balance 750 held 0

Amounts are nano-USD; each user has one key. Holds belong to the present process; `die` kills it and starts the next one,
`recover N` closes the holds of process N (the first is 0). `place … again=1` repeats the last attempt, `stale=1` asks by
old knowledge. Errors are named by their class: conflict, refused, notfound …
"""

from __future__ import annotations

from dataclasses import replace

from db import clock, holds, keys, ledger, processes, users
from db.errors import StoreError
from db.holds import Estimate, HoldRequest, Placement
from db.models import CatalogState, Hold, Key, User
from db.usage import UsageRow
from tests.support import records

PROVIDER = 1  # a number is enough: usage records and counters name providers by number
NANOS_PER_TOKEN = 10  # what `recover` charges


def parse(line: str) -> tuple[str, list[str], dict[str, str]]:
    """'place q1 alice 600 again=1' → ('place', ['q1', 'alice', '600'], {'again': '1'})."""
    action, *words = line.split()
    options = dict(word.split("=", 1) for word in words if "=" in word)
    return action.replace("-", "_"), [word for word in words if "=" not in word], options


def estimate(terms: str, input_tokens: int, output_tokens: int) -> Estimate:
    """What a dead process's request is charged: by the tokens delivered."""
    return Estimate(output_tokens * NANOS_PER_TOKEN, output_tokens, input_tokens, output_tokens, "{}")


class Book:
    """The real ledger behind the lines. Every action returns its outcome as text."""

    def __init__(self) -> None:
        self.window = 0
        self.owners = [processes.register()]
        self._asked: dict[str, HoldRequest] = {}  # the last one of each request
        self._users: dict[str, tuple[int, int]] = {}  # name → user id, key id

    def run(self, line: str) -> str:
        """Do what the line says."""
        name, words, options = parse(line)
        try:
            return str(getattr(self, name)(*words, **options))
        except StoreError as error:
            return type(error).__name__.lower()

    def user(self, name: str, credit: str = "0", budget: str | None = None) -> str:
        user_id = records.user(name, credit_limit_nanos=int(credit))
        limits = {} if budget is None else {"budget_nanos": int(budget), "budget_period": "day"}
        self._users[name] = (user_id, records.key(user_id, **limits))
        return "ok"

    def id_of(self, name: str) -> int:
        """The user's number, by which a batch is ordered."""
        return self._users[name][0]

    def key_of(self, name: str) -> int:
        """The number of the user's key."""
        return self._users[name][1]

    def top_up(self, name: str, amount: str, ref: str | None = None) -> str:
        return "replayed" if ledger.top_up(name, int(amount), ref=ref).replayed else "ok"

    def adjust(self, name: str, amount: str, ref: str | None = None) -> str:
        return "replayed" if ledger.adjust(name, int(amount), reason="test", ref=ref).replayed else "ok"

    def refund(self, request: str, amount: str, ref: str) -> str:
        return "replayed" if ledger.refund(request, int(amount), ref=ref, reason="test").replayed else "ok"

    def rebill(self, request: str, due: str) -> str:
        posted = ledger.rebill(request, int(due), reason="priced again")
        return "nothing" if posted is None else f"booked {posted.amount_nanos}"

    def credit(self, name: str, amount: str) -> str:
        users.update(name, credit_limit_nanos=int(amount))
        return "ok"

    def budget(self, name: str, amount: str) -> str:
        keys.update(str(self.key_of(name)), budget_nanos=None if amount == "none" else int(amount))
        return "ok"

    def ask(self, request: str, name: str, amount: str) -> HoldRequest:
        """What a daemon that knows everything would ask for."""
        user_id, key_id = self._users[name]
        [version] = User.select(User.version).where(User.id == user_id).tuples().get()
        [budget] = Key.select(Key.budget_nanos).where(Key.id == key_id).tuples().get()
        [catalog] = CatalogState.select(CatalogState.version).tuples().get()
        self._asked[request] = HoldRequest(
            request_id=request, user_id=user_id, user_version=version, key_id=key_id, catalog_version=catalog,
            model_id=1, provider_id=PROVIDER, amount_nanos=int(amount), input_estimate=7, stream=True,
            requested_model="demo", endpoint="/v1/chat/completions", terms="{}", process_id=self.owners[-1],
            budget_window_at=None if budget is None else self.window * clock.DAY_MS,
        )  # fmt: skip
        return self._asked[request]

    def place(self, request: str, name: str, amount: str, again: str = "0", stale: str = "0") -> str:
        if again == "1":
            return holds.place(self._asked[request], again=True).outcome.value
        ask = self.ask(request, name, amount)
        return holds.place(replace(ask, user_version=ask.user_version - int(stale))).outcome.value

    def change(self, request: str, name: str, amount: str, stale: str = "0") -> str:
        """The hold is for another model, at another amount."""
        ask = self.ask(request, name, amount)
        found = holds.change(replace(ask, user_version=ask.user_version - int(stale)))
        if found.outcome is Placement.INSUFFICIENT_BALANCE:
            return f"{found.outcome.value} available {found.available_nanos}"
        if found.outcome is Placement.KEY_BUDGET_EXCEEDED:
            return f"{found.outcome.value} left {found.budget_left_nanos}"
        return str(found.outcome.value)

    def next_window(self) -> str:
        self.window += 1
        return "ok"

    def deliver(self, request: str, tokens: str) -> str:
        return "ok" if holds.mark_delivered(request, int(tokens)) else "closed before"

    def row(self, request: str, cost: str = "0") -> UsageRow:
        """The usage record of a request as the daemon would write it."""
        hold = Hold.get_or_none(Hold.request_id == request)
        return UsageRow(
            request_id=request, at=clock.now_ms(), user_id=hold.user_id if hold else 0,
            key_id=hold.key_id if hold else 0, endpoint="/v1/chat/completions", requested_model="demo", status="ok",
            http_status=200, provider_id=PROVIDER, cost_nanos=int(cost), upstream_cost_nanos=int(cost) // 2,
            input_tokens=7, output_tokens=5,
        )  # fmt: skip

    def settle(self, request: str, cost: str) -> str:
        settled = holds.settle(self.row(request, cost))
        if not settled.closed:
            return "closed before"
        return f"charged {settled.charged_nanos} absorbed {settled.absorbed_nanos}"

    def release(self, request: str) -> str:
        return "released" if holds.release(self.row(request)) else "closed before"

    def die(self) -> str:
        self.owners.append(processes.register())
        return "ok"

    def recover(self, owner: str, limit: str = "500") -> str:
        found = holds.recover(self.owners[int(owner)], estimate, limit=int(limit))
        return f"charged {','.join(found.charged) or '-'} expired {','.join(found.expired) or '-'}"

    def show(self, name: str) -> str:
        row = User.get(User.name == name)
        return f"balance {row.balance_nanos} held {row.held_nanos}"

    def key(self, name: str) -> str:
        row = Key.get_by_id(self.key_of(name))
        budget = f"{row.budget_spent_nanos}+{row.budget_held_nanos}/{row.budget_nanos}"
        return f"spent {row.spent_nanos} budget {budget}"

    def verify(self) -> str:
        return "; ".join(ledger.verify().drift) or "ok"


def play(table: str) -> Book:
    """Run every line against the open database; the first outcome that differs fails, with the lines up to it."""
    book, done = Book(), []
    for raw in table.strip().splitlines():
        line, arrow, expected = (part.strip() for part in raw.partition("->"))
        if not line:
            continue
        outcome = book.run(line)
        done.append(f"{line:<40} -> {outcome}")
        assert not arrow or outcome == expected, "\n".join([*done, f"expected: {expected}"])
    assert (found := ledger.verify().drift) == (), "\n".join([*done, *found])
    return book
