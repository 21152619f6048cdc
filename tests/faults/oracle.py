"""The oracle: what must be true of the books after any fault, looked up with SQL of its own.

O1 balance = top-ups - charges · O2 nothing held · O3 each request with output delivered has exactly one charge above 0 ·
O4 no charge without a request that the upstream saw · O5 no balance below 0 at any sampled instant · O6 no secret anywhere.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.fleet import Delivery

NANOS = 1_000_000_000
SAMPLE_S = 0.02
SHOWN = 10


@contextlib.contextmanager
def reading(url: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Run queries on a connection of their own, in one consistent look."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True, timeout=5)
        try:
            connection.execute("BEGIN")
            yield lambda text: connection.execute(text).fetchall()
        finally:
            connection.close()
        return
    with psycopg.connect(url) as server:
        server.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield lambda text: server.execute(text.encode()).fetchall()


@dataclass(frozen=True)
class Charge:
    """A charge of the ledger with its usage record. Amounts in nano-USD."""

    request_id: str
    user: str
    nanos: int
    recorded_nanos: int | None
    estimated: bool
    status: str


@dataclass(frozen=True)
class Books:
    """The books at one instant."""

    balances: dict[str, tuple[int, int]]  # user: (balance, held)
    topups: dict[str, int]
    charges: list[Charge]
    open_holds: list[str]
    states: dict[str, str]  # request id: state of its hold
    key_holds: int


def read_books(url: str) -> Books:
    """Everything that the oracle looks at."""
    with reading(url) as query:
        users = query("SELECT id, name, balance_nanos, held_nanos FROM users")
        names = {row[0]: row[1] for row in users}
        credits = query("SELECT user_id, SUM(amount_nanos) FROM ledger_entries WHERE kind <> 'charge' GROUP BY user_id")
        charges = query(
            "SELECT e.request_id, e.user_id, -e.amount_nanos, r.charged_nanos, r.estimated, r.status "
            "FROM ledger_entries e LEFT JOIN usage_records r ON r.request_id = e.request_id WHERE e.kind = 'charge'"
        )
        holds = query("SELECT request_id, state FROM holds")
        [(held_by_keys,)] = query("SELECT COALESCE(SUM(budget_held_nanos), 0) FROM keys")
    return Books(
        balances={row[1]: (row[2], row[3]) for row in users},
        topups={names[user]: int(total) for user, total in credits},
        charges=[Charge(r[0], names[r[1]], r[2], r[3], bool(r[4]), r[5] or "") for r in charges],
        open_holds=[row[0] for row in holds if row[1] == "open"],
        states={row[0]: row[1] for row in holds},
        key_holds=int(held_by_keys),
    )


def wait_for_quiet(url: str, timeout_s: float = 10.0) -> float:
    """Wait until no hold is open; returns how long that took. AssertionError when holds stay."""
    began = time.monotonic()
    while True:
        with reading(url) as query:
            [(left,)] = query("SELECT COUNT(*) FROM holds WHERE state = 'open'")
        waited = time.monotonic() - began
        if not left:
            return waited
        assert waited < timeout_s, f"{left} holds are still open after {timeout_s} s"
        time.sleep(0.02)


def violations(
    books: Books,
    topups: Mapping[str, Decimal],
    deliveries: Iterable[Delivery],
    seen: Collection[str],
    costs: Mapping[str, Decimal] | None = None,
) -> list[str]:
    """Sentences about O1 to O4. `topups`: what was acknowledged, per user. `costs`: USD that a whole reply must have cost."""
    found: list[str] = []
    by_request: dict[str, list[Charge]] = {}
    spent: dict[str, int] = {}
    for charge in books.charges:
        by_request.setdefault(charge.request_id, []).append(charge)
        spent[charge.user] = spent.get(charge.user, 0) + charge.nanos
        if charge.nanos != charge.recorded_nanos:
            found.append(f"O1 {charge.request_id}: charged {charge.nanos}, its usage record says {charge.recorded_nanos}")
        if charge.nanos > 0 and _origin(charge.request_id) not in seen:
            found.append(f"O4 {charge.request_id}: charged {charge.nanos} ({charge.status}), the upstream never saw it")
    for user, (balance, held) in books.balances.items():
        credit = books.topups.get(user, 0)
        if user in topups and credit != int(topups[user] * NANOS):
            found.append(f"O1 {user}: topped up {topups[user]}, the ledger says {credit} nano-USD")
        if balance != credit - spent.get(user, 0):
            found.append(f"O1 {user}: balance {balance}, top-ups less charges are {credit - spent.get(user, 0)}")
        if balance < 0:
            found.append(f"O5 {user}: balance {balance}")
        if held:
            found.append(f"O2 {user}: {held} nano-USD held")
    found += [f"O2 hold of {request} is open" for request in books.open_holds]
    if books.key_holds:
        found.append(f"O2 {books.key_holds} nano-USD of key budgets held")
    found += [f"O3 {request}: {len(many)} charges" for request, many in by_request.items() if len(many) > 1]
    for delivery in deliveries:
        mine = by_request.get(delivery.answered_id, [])
        if delivery.output_bytes and sum(charge.nanos > 0 for charge in mine) != 1:
            state = books.states.get(delivery.answered_id)
            found.append(f"O3 {delivery.answered_id}: {delivery.output_bytes} bytes delivered, {mine}, hold {state}")
        expected = (costs or {}).get(delivery.request_id)
        if expected is not None and delivery.done and mine and mine[0].nanos != int(expected * NANOS):
            found.append(f"O3 {delivery.answered_id}: delivered whole for {mine[0]}, the price is {expected} USD")
    return found


def _origin(request_id: str) -> str:
    """The client's own id: the gateway appends a suffix when an id was used before."""
    return request_id.partition(".")[0]


def shown(found: Sequence[str]) -> str:
    """The first of them, and how many there are."""
    return f"{len(found)} violations:\n" + "\n".join(found[:SHOWN])


@dataclass
class Sampler:
    """Looks at every balance many times a second (O5), on fresh connections, so that a crash finds none open."""

    url: str
    samples: int = 0
    lowest: int | None = None
    lowest_available: int | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            with contextlib.suppress(sqlite3.OperationalError, psycopg.OperationalError), reading(self.url) as query:
                [(balance, free)] = query(
                    "SELECT MIN(balance_nanos), MIN(balance_nanos + credit_limit_nanos - held_nanos) FROM users"
                )
                if balance is not None:
                    self.samples += 1
                    self.lowest = balance if self.lowest is None else min(self.lowest, balance)
                    self.lowest_available = free if self.lowest_available is None else min(self.lowest_available, free)

    def violations(self) -> list[str]:
        """O5, after the `with` block."""
        found = [] if self.samples else ["O5 nothing was sampled"]
        if (self.lowest or 0) < 0:
            found.append(f"O5 a balance stood at {self.lowest}")
        if (self.lowest_available or 0) < 0:
            found.append(f"O5 {self.lowest_available} were available: more was held than there was")
        return found


def canaries_in(places: Mapping[str, bytes], canaries: Mapping[str, bytes]) -> list[str]:
    """O6: which secret stands in which place."""
    pairs = ((place, data, name, canary) for place, data in places.items() for name, canary in canaries.items())
    return [f"O6 {name} stands in {place}" for place, data, name, canary in pairs if canary in data]


def database_bytes(url: str) -> dict[str, bytes]:
    """The database with everything beside it: files for SQLite, every row as text for PostgreSQL."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        return {file.name: file.read_bytes() for file in path.parent.glob(f"{path.name}*")}
    with reading(url) as query:
        tables = [row[0] for row in query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return {table: "\n".join(row[0] for row in query(f"SELECT t::text FROM {table} t")).encode() for table in tables}
