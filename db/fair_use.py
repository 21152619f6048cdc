"""Fair use: a user's requests a day that are not charged, and the slots of one who used them up and has no money.

State stands on the user's row and is changed in the transaction that places or closes a hold. A request inside the allowance
is free. Beyond it the balance pays, if it affords the request; else one request per `throttle_s` is free.
"""

from __future__ import annotations

from dataclasses import dataclass

from db import clock
from db.engine import for_update, sql
from db.models import database

DEFAULT_THROTTLE_S = 600
FREE, SLOT = 1, 2  # what a hold took: a request of the allowance, or a slot of a throttled user

_READ = "SELECT fair_use_day_at, fair_use_used, fair_use_last_at FROM users WHERE id = ?"
_TAKE = "UPDATE users SET fair_use_day_at = ?, fair_use_used = ?, fair_use_last_at = ? WHERE id = ?"
_GIVE_BACK = (
    "UPDATE users SET "
    "fair_use_used = fair_use_used - CASE WHEN ? = 1 AND fair_use_day_at = ? AND fair_use_used > 0 THEN 1 ELSE 0 END, "
    "fair_use_last_at = CASE WHEN fair_use_last_at = ? THEN ? ELSE fair_use_last_at END WHERE id = ?"
)


@dataclass(frozen=True, slots=True)
class FairUse:
    """An allowance: so many requests a UTC day, beyond them one per `throttle_s` seconds."""

    limit: int
    throttle_s: int


def fair_use_of(own: tuple[int | None, int | None], groups: list[tuple[int | None, int | None]]) -> FairUse | None:
    """The user's own allowance, else the largest of the groups'; (limit, throttle in seconds) each."""
    offered = [own] if own[0] is not None else groups
    found = [(limit, -(every_s or DEFAULT_THROTTLE_S)) for limit, every_s in offered if limit is not None]
    if not found:
        return None
    limit, every_s = max(found)
    return FairUse(limit, -every_s)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a user has used at `at` (ms): `used` in the day that began at `day_at`; the last request was at `last_at`, or 0."""

    rule: FairUse
    at: int
    day_at: int
    used: int
    last_at: int

    @property
    def remaining(self) -> int:
        return max(0, self.rule.limit - self.used)

    @property
    def resets_at(self) -> int:
        """The next UTC midnight."""
        return clock.day_of(self.at) * clock.DAY_MS + clock.DAY_MS

    @property
    def slot_at(self) -> int:
        """When a throttled user may call again: the next slot, or midnight if that is sooner; in the past: now."""
        return min(self.last_at + self.rule.throttle_s * 1000, self.resets_at)

    def taken(self, kind: int) -> Allowance:
        """After a request was admitted as FREE or SLOT, or (0) paid."""
        return Allowance(self.rule, self.at, self.day_at, self.used + (kind == FREE), self.at)


def as_of(rule: FairUse, at: int, day_at: int, used: int, last_at: int) -> Allowance:
    """The state as it counts at `at`: a new day begins at 0. A clock that went back by less than a day gives nothing."""
    today = clock.day_of(at) * clock.DAY_MS
    if not today <= day_at <= today + clock.DAY_MS:
        day_at, used = today, 0
    if last_at > at + clock.DAY_MS:
        last_at = 0
    return Allowance(rule, at, day_at, used, last_at)


def read(user_id: int, rule: FairUse, at: int, *, lock: bool = True) -> Allowance:
    """The user's state; with `lock` the row stays as it is until the transaction ends."""
    row = database.execute_sql(sql(_READ + (for_update() if lock else "")), (user_id,)).fetchone()
    return as_of(rule, at, *(row if row is not None else (0, 0, 0)))


def take(user_id: int, allowance: Allowance) -> None:
    """Write the state after a request (see `Allowance.taken`)."""
    database.execute_sql(sql(_TAKE), (allowance.day_at, allowance.used, allowance.last_at, user_id))


def give_back(user_id: int, kind: int, placed_at: int, before_at: int) -> None:
    """The request of `placed_at` came to nothing: as if it had not been, when no other one came since."""
    day_at = clock.day_of(placed_at) * clock.DAY_MS
    database.execute_sql(sql(_GIVE_BACK), (kind, day_at, placed_at, before_at, user_id))
