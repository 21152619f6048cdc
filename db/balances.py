"""What users have, hold and may spend. Read only: db.ledger and db.holds are the writers of balances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from db.engine import translated_errors
from db.errors import NotFound
from db.models import User


@dataclass(frozen=True, slots=True)
class Balance:
    """A user's money in nano-USD. `available` counts the credit limit in: it is what a request may take now."""

    user: str
    status: str
    balance_nanos: int
    held_nanos: int
    credit_limit_nanos: int

    @property
    def available_nanos(self) -> int:
        return self.balance_nanos + self.credit_limit_nanos - self.held_nanos


def _select() -> Any:
    columns = (User.name, User.status, User.balance_nanos, User.held_nanos, User.credit_limit_nanos)
    return User.select(*columns).tuples()


def list_all() -> list[Balance]:
    """Every user that is not deleted, by name."""
    with translated_errors():
        return [Balance(*row) for row in _select().where(User.status != "deleted").order_by(User.name)]


def show(user: str) -> Balance:
    """One user's. Raises NotFound."""
    with translated_errors():
        row = _select().where(User.name == user).first()
    if row is None:
        raise NotFound(f"There is no user {user[:120]!r}", "See: gatewayctl users list")
    return Balance(*row)
