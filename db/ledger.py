"""Append-only entries that explain every balance. This module and db.holds are the only writers of balances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peewee import SQL, fn

from db import audit, clock
from db.engine import for_update, long_statements, read_snapshot, sql, transaction
from db.errors import Conflict, Invalid, NotFound, Refused
from db.models import Hold, LedgerEntry, Process, User, database
from db.money import MAX_NANOS, format_usd

# Written out, because an index over some of the rows is used only when the text of a query says that it wants those.
_IS_CHARGE, _IS_REFUND = SQL("kind = 'charge'"), SQL("kind = 'refund'")


@dataclass(frozen=True, slots=True)
class Posted:
    """A ledger entry that was written, or found to be there already (`replayed`). Amounts in nano-USD."""

    entry_id: int
    user: str
    amount_nanos: int
    balance_nanos: int
    ref: str | None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class EntryView:
    """One entry as it is listed."""

    id: int
    user: str
    kind: str
    amount_nanos: int
    balance_after_nanos: int
    ref: str | None
    request_id: str | None
    at: int
    note: str | None


def _locked_user(name: str) -> tuple[int, int, int, int]:
    row = database.execute_sql(
        sql("SELECT id, balance_nanos, held_nanos, credit_limit_nanos FROM users WHERE name = ?" + for_update()),
        (name,),
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no user {name!r}", "See: gatewayctl users list")
    return row[0], row[1], row[2], row[3]


def _post(
    user_id: int,
    user: str,
    kind: str,
    amount: int,
    balance: int,
    ref: str | None,
    note: str | None,
    request_id: str | None = None,
) -> Posted:
    """Change the balance and write the entry; the caller holds the user's row."""
    after = balance + amount
    if abs(amount) > MAX_NANOS or abs(after) > MAX_NANOS:
        raise Invalid("The amount is out of range")
    User.update(balance_nanos=User.balance_nanos + amount).where(User.id == user_id).execute()
    entry_id = LedgerEntry.insert(
        user=user_id,
        kind=kind,
        amount_nanos=amount,
        balance_after_nanos=after,
        at=clock.now_ms(),
        ref=ref,
        note=note,
        request_id=request_id,
    ).execute()
    audit.record(
        f"ledger.{kind}",
        user,
        before={"balance": format_usd(balance)},
        after={"balance": format_usd(after), "amount": format_usd(amount), "ref": ref, "note": note},
    )
    return Posted(int(entry_id), user, amount, after, ref)


def _posted_before(
    user_id: int, user: str, kind: str, amount: int, balance: int, ref: str | None, request_id: str | None = None
) -> Posted | None:
    """The entry of that reference, if there is one; Conflict when it is another one. The caller holds the user's row."""
    if ref == "":
        raise Invalid("The reference is empty", "Leave --ref away, or give the payment's own id")
    earlier = None if ref is None else LedgerEntry.get_or_none((LedgerEntry.user == user_id) & (LedgerEntry.ref == ref))
    if earlier is None:
        return None
    if (earlier.kind, earlier.amount_nanos, earlier.request_id) != (kind, amount, request_id):
        raise Conflict(
            f"The reference {ref!r} was used before, for a {earlier.kind} of {format_usd(earlier.amount_nanos)} USD",
            "Use a new --ref for something else",
        )
    return Posted(earlier.id, user, amount, balance, ref, replayed=True)


@transaction
def top_up(user: str, amount_nanos: int, *, ref: str | None = None, note: str | None = None) -> Posted:
    """Credit a user. The same `ref` again changes nothing and says so; with another amount it is a Conflict."""
    if amount_nanos <= 0:
        raise Invalid("A top-up must be more than 0", "To take money away: gatewayctl balances adjust USER -AMOUNT")
    user_id, balance, _, _ = _locked_user(user)
    replayed = _posted_before(user_id, user, "topup", amount_nanos, balance, ref)
    return replayed or _post(user_id, user, "topup", amount_nanos, balance, ref, note)


@transaction
def adjust(user: str, amount_nanos: int, *, reason: str, ref: str | None = None) -> Posted:
    """Correct a balance by hand. It never passes below what is held, or the credit limit."""
    if amount_nanos == 0:
        raise Invalid("An adjustment of 0 changes nothing")
    user_id, balance, held, credit = _locked_user(user)
    replayed = _posted_before(user_id, user, "adjustment", amount_nanos, balance, ref)
    if replayed is not None:
        return replayed
    if amount_nanos < 0 and balance + amount_nanos + credit - held < 0:
        raise Refused(
            f"{user} has {format_usd(balance + credit - held)} USD available",
            "Take less, or raise the credit limit",
        )
    return _post(user_id, user, "adjustment", amount_nanos, balance, ref, reason)


@transaction
def refund(request_id: str, amount_nanos: int, *, ref: str, reason: str) -> Posted:
    """Give back a charge in whole or in part, as a new row: the sum of refunds never exceeds the charge."""
    if amount_nanos <= 0:
        raise Invalid("A refund must be more than 0")
    charge = charge_of(request_id)
    if charge is None:
        raise NotFound(f"There is no charge for request {request_id!r}", "See: gatewayctl ledger list")
    user = User.get_by_id(charge.user_id).name
    user_id, balance, _, _ = _locked_user(user)
    replayed = _posted_before(user_id, user, "refund", amount_nanos, balance, ref, request_id)
    if replayed is not None:
        return replayed
    # What pricing again gave back is not there any more; what it charged in addition is no part of this charge.
    left = -charge.amount_nanos - _refunded(request_id) - max(0, _rebilled(user_id, request_id)[0])
    if amount_nanos > left:
        raise Refused(f"Only {format_usd(left)} USD of this charge are left to refund")
    return _post(user_id, user, "refund", amount_nanos, balance, ref, reason, request_id)


@transaction
def rebill(request_id: str, due_nanos: int, *, reason: str) -> Posted | None:
    """Bring what a request has cost its user to `due_nanos`, as an adjustment; None when it has cost that already.

    Adjustments of earlier calls count, so doing it twice is doing it once. Refunds are a matter of their own: they are not
    asked back, and what they gave is not given again. Refused when the user's funds do not cover a charge.
    """
    if not 0 <= due_nanos <= MAX_NANOS:
        raise Invalid("The amount is out of range")
    charge = charge_of(request_id)
    if charge is None:
        raise NotFound(f"There is no charge for request {request_id!r}", "See: gatewayctl ledger list")
    user = User.get_by_id(charge.user_id).name
    user_id, balance, held, credit = _locked_user(user)
    earlier, number = _rebilled(user_id, request_id)
    paid = -charge.amount_nanos - earlier
    amount = min(paid - due_nanos, paid - _refunded(request_id)) if paid > due_nanos else paid - due_nanos
    if amount == 0 or (paid > due_nanos and amount < 0):
        return None
    if amount < 0 and balance + amount + credit - held < 0:
        raise Refused(f"{user} has {format_usd(balance + credit - held)} USD available, {format_usd(-amount)} are due")
    return _post(user_id, user, "adjustment", amount, balance, _rebill_ref(request_id, number + 1), reason, request_id)


def _rebill_ref(request_id: str, number: int) -> str:
    return f"recompute {request_id} {number}"


def _rebilled(user_id: int, request_id: str) -> tuple[int, int]:
    """(sum, number) of the adjustments that `rebill` booked for a request. By reference, which has an index."""
    total, number = 0, 0
    while (entry := LedgerEntry.get_or_none(
        (LedgerEntry.user == user_id) & (LedgerEntry.ref == _rebill_ref(request_id, number + 1))
    )) is not None and entry.request_id == request_id:  # fmt: skip
        total, number = total + int(entry.amount_nanos), number + 1
    return total, number


def _refunded(request_id: str) -> int:
    total = LedgerEntry.select(fn.COALESCE(fn.SUM(LedgerEntry.amount_nanos), 0))
    return int(total.where((LedgerEntry.request_id == request_id) & _IS_REFUND).scalar())


def charge_of(request_id: str) -> Any:
    """The LedgerEntry by which a request was charged, None when there is none. For the modules of this package."""
    return LedgerEntry.get_or_none((LedgerEntry.request_id == request_id) & _IS_CHARGE)


def list_entries(*, user: str | None = None, since: int | None = None, limit: int = 100) -> list[EntryView]:
    """The newest first, of one user or of all."""
    query = LedgerEntry.select(LedgerEntry, User.name).join(User).order_by(LedgerEntry.id.desc()).limit(limit)
    if user is not None:
        if not User.select().where(User.name == user).exists():
            raise NotFound(f"There is no user {user!r}", "See: gatewayctl users list")
        query = query.where(User.name == user)
    if since is not None:
        query = query.where(LedgerEntry.at >= since)
    return [
        EntryView(
            id=row.id,
            user=row.user.name,
            kind=row.kind,
            amount_nanos=row.amount_nanos,
            balance_after_nanos=row.balance_after_nanos,
            ref=row.ref,
            request_id=row.request_id,
            at=row.at,
            note=row.note,
        )
        for row in query
    ]


@dataclass(frozen=True, slots=True)
class Verification:
    """The ledger's invariants: `drift` has a sentence per violation, `stale_holds` the request ids without a live owner."""

    users: int
    entries: int
    drift: tuple[str, ...]
    stale_holds: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.drift and not self.stale_holds


_CHECKS = (
    (
        "balance of {0} is {1} nano-USD but its entries sum to {2}",
        "SELECT u.name, u.balance_nanos, COALESCE(e.total, 0) FROM users u LEFT JOIN "
        "(SELECT user_id, CAST(SUM(amount_nanos) AS BIGINT) AS total FROM ledger_entries GROUP BY user_id) e "
        "ON e.user_id = u.id WHERE u.balance_nanos <> COALESCE(e.total, 0)",
    ),
    (
        "{0} has {1} nano-USD held but its open holds sum to {2}",
        "SELECT u.name, u.held_nanos, COALESCE(h.total, 0) FROM users u LEFT JOIN "
        "(SELECT user_id, CAST(SUM(amount_nanos) AS BIGINT) AS total FROM holds WHERE state = 'open' GROUP BY user_id) h "
        "ON h.user_id = u.id WHERE u.held_nanos <> COALESCE(h.total, 0)",
    ),
    (
        "{0} is overdrawn: balance {1}, held {2} nano-USD",
        "SELECT name, balance_nanos, held_nanos FROM users WHERE balance_nanos + credit_limit_nanos < held_nanos",
    ),
    (
        "settled hold {0} has no charge",
        "SELECT h.request_id FROM holds h LEFT JOIN ledger_entries e ON e.request_id = h.request_id AND e.kind = 'charge' "
        "WHERE h.state = 'settled' AND e.id IS NULL",
    ),
    (
        "charge of {0} has no settled hold",
        "SELECT e.request_id FROM ledger_entries e LEFT JOIN holds h ON e.request_id = h.request_id AND h.state = 'settled' "
        "WHERE e.kind = 'charge' AND h.request_id IS NULL",
    ),
    (
        "request {0} was charged {1} nano-USD but its usage record says {2}",
        "SELECT e.request_id, -e.amount_nanos, r.charged_nanos FROM ledger_entries e JOIN usage_records r "
        "ON r.request_id = e.request_id WHERE e.kind = 'charge' AND r.charged_nanos <> -e.amount_nanos",
    ),
)


def verify(*, live_processes: frozenset[int] | None = None) -> Verification:
    """Check every invariant in one consistent look. Holds of `live_processes` (default: not ended) are not stale."""
    with read_snapshot():
        long_statements()  # a ledger of years is longer than what a request may take
        return _verify(live_processes)


def _verify(live_processes: frozenset[int] | None) -> Verification:
    drift = [
        sentence.format(*row)
        for sentence, statement in _CHECKS
        for row in database.execute_sql(statement + " LIMIT 100").fetchall()
    ]
    if live_processes is None:
        live_processes = frozenset(row[0] for row in Process.select(Process.id).where(Process.ended_at.is_null()).tuples())
    stale = [
        row[0]
        for row in Hold.select(Hold.request_id, Hold.process_id).where(Hold.state == "open").tuples()
        if row[1] not in live_processes
    ]
    return Verification(
        users=User.select().count(),
        entries=LedgerEntry.select().count(),
        drift=tuple(drift),
        stale_holds=tuple(stale),
    )
