"""What the ledger must do, without a database: sums over lists. Speaks the lines of tests.support.ledger_text."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.ledger_text import NANOS_PER_TOKEN, parse


@dataclass
class Account:
    """A user with one key."""

    number: int
    credit: int
    budget: int | None
    entries: list[int] = field(default_factory=list)
    refs: dict[str, tuple[str, int, str | None]] = field(default_factory=dict)
    window: int = 0  # the budget's
    spent_in_window: int = 0
    spent: int = 0

    @property
    def balance(self) -> int:
        return sum(self.entries)


@dataclass
class Request:
    """A hold and what became of it."""

    user: str
    amount: int
    owner: int
    budgeted: bool
    ticket: int
    state: str = "open"
    delivered: int = 0
    charged: int = 0
    refunded: int = 0


class Model:
    """Every action returns the outcome that the real one must have."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.requests: dict[str, Request] = {}
        self.owner = 0
        self.window = 0
        self.tickets: dict[str, int] = {}  # of the last attempt to place each request

    def run(self, line: str) -> str:
        action, words, options = parse(line)
        return str(getattr(self, action)(*words, **options))

    def open(self, user: str, *, budgeted: bool = False) -> int:
        """Σ open holds."""
        holds = (hold for hold in self.requests.values() if hold.user == user and hold.state == "open")
        return sum(hold.amount for hold in holds if hold.budgeted or not budgeted)

    def available(self, user: str) -> int:
        return self.accounts[user].balance + self.accounts[user].credit - self.open(user)

    def user(self, name: str, credit: str = "0", budget: str | None = None) -> str:
        self.accounts[name] = Account(len(self.accounts), int(credit), None if budget is None else int(budget))
        return "ok"

    def _post(self, name: str, kind: str, amount: int, ref: str | None, request: str | None = None) -> str:
        account = self.accounts[name]
        account.entries.append(amount)
        if ref is not None:
            account.refs[ref] = (kind, amount, request)
        return "ok"

    def _before(self, name: str, kind: str, amount: int, ref: str | None, request: str | None = None) -> str | None:
        if ref not in self.accounts[name].refs:
            return None
        return "replayed" if self.accounts[name].refs[ref] == (kind, amount, request) else "conflict"

    def top_up(self, name: str, amount: str, ref: str | None = None) -> str:
        return self._before(name, "topup", int(amount), ref) or self._post(name, "topup", int(amount), ref)

    def adjust(self, name: str, amount: str, ref: str | None = None) -> str:
        before = self._before(name, "adjustment", int(amount), ref)
        if before is None and int(amount) < 0 and self.available(name) + int(amount) < 0:
            return "refused"
        return before or self._post(name, "adjustment", int(amount), ref)

    def refund(self, request: str, amount: str, ref: str) -> str:
        hold = self.requests.get(request)
        if hold is None or hold.state != "settled":
            return "notfound"
        before = self._before(hold.user, "refund", int(amount), ref, request)
        if before is None and hold.refunded + int(amount) > hold.charged:
            return "refused"
        if before is None:
            hold.refunded += int(amount)
        return before or self._post(hold.user, "refund", int(amount), ref, request)

    def credit(self, name: str, amount: str) -> str:
        account = self.accounts[name]
        if account.balance + int(amount) < self.open(name):
            return "refused"
        account.credit = int(amount)
        return "ok"

    def budget(self, name: str, amount: str) -> str:
        self.accounts[name].budget = None if amount == "none" else int(amount)
        return "ok"

    def place(self, request: str, name: str, amount: str, again: str = "0", stale: str = "0") -> str:
        account, nanos, before = self.accounts[name], int(amount), self.requests.get(request)
        if again == "0":
            self.ask(request)
        elif before and (before.state, before.owner, before.ticket) == ("open", self.owner, self.tickets[request]):
            return "placed"
        if stale == "1":
            return "stale"
        if nanos and self.available(name) < nanos:
            return "insufficient_balance"
        if account.budget is not None:
            if account.window < self.window:
                account.window, account.spent_in_window = self.window, 0
            if account.spent_in_window + self.open(name, budgeted=True) + nanos > account.budget:
                return "key_budget_exceeded"
        if before is not None:
            return "duplicate"
        self.requests[request] = Request(name, nanos, self.owner, account.budget is not None, self.tickets[request])
        return "placed"

    def ask(self, request: str) -> None:
        """A new attempt to place the request."""
        self.tickets[request] = self.tickets.get(request, 0) + 1

    def next_window(self) -> str:
        self.window += 1
        return "ok"

    def deliver(self, request: str, tokens: str) -> str:
        hold = self.requests.get(request)
        if hold is None or hold.state != "open":
            return "closed before"
        hold.delivered = int(tokens)
        return "ok"

    def settle(self, request: str, cost: str) -> str:
        hold = self.requests.get(request)
        if hold is None or hold.state != "open":
            return "closed before"
        charged = min(int(cost), hold.amount + self.available(hold.user))
        hold.state, hold.charged = "settled", charged
        account = self.accounts[hold.user]
        account.entries.append(-charged)
        account.spent += charged
        account.spent_in_window += charged if hold.budgeted else 0
        return f"charged {charged} absorbed {int(cost) - charged}"

    def release(self, request: str, state: str = "released") -> str:
        hold = self.requests.get(request)
        if hold is None or hold.state != "open":
            return "closed before"
        hold.state = state
        return "released"

    def die(self) -> str:
        self.owner += 1
        return "ok"

    def recover(self, owner: str, limit: str = "500") -> str:
        lost = [name for name, hold in self.requests.items() if (hold.state, hold.owner) == ("open", int(owner))]
        lost = sorted(lost, key=lambda name: (self.accounts[self.requests[name].user].number, name))[: int(limit)]
        charged, expired = [], []
        for name in lost:
            hold = self.requests[name]
            if hold.delivered:
                charged.append(name)
                self.settle(name, str(min(hold.delivered * NANOS_PER_TOKEN, hold.amount)))
            else:
                expired.append(name)
                self.release(name, "expired")
        return f"charged {','.join(charged) or '-'} expired {','.join(expired) or '-'}"
