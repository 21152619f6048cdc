"""Users: who owns a balance, in which groups, with which limits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from db import audit, clock, fair_use, multipliers
from db.engine import for_update, sql, transaction
from db.errors import Conflict, Invalid, Refused
from db.meters import EVERY_METER
from db.models import Group, Key, Membership, User, database
from db.money import MAX_NANOS, PPM, format_multiplier, format_usd
from db.names import check_limit, check_name, group_row, insert, lock_user, user_row
from db.reading import reading
from db.versions import bump_user


@dataclass(frozen=True, slots=True)
class FairUse:
    """Requests a day that are free of charge. `limit` None: no allowance, purely prepaid. Instants in ms.

    `granted_by` is the group that gives it, None when it is the user's own. `throttled_until_at`: the allowance is used up,
    and so is the money; None otherwise.
    """

    limit: int | None
    throttle_s: int | None
    used_today: int
    throttled_until_at: int | None = None
    granted_by: str | None = None


@dataclass(frozen=True, slots=True)
class UserView:
    """A user as people see one. Money in nano-USD, multipliers in parts per million by meter ('*': every one)."""

    id: int
    name: str
    email: str | None
    status: str
    groups: tuple[str, ...]
    multipliers: dict[str, int]
    balance_nanos: int
    held_nanos: int
    credit_limit_nanos: int
    rpm: int | None
    fair_use: FairUse
    created_at: int

    @property
    def available_nanos(self) -> int:
        return self.balance_nanos + self.credit_limit_nanos - self.held_nanos

    @property
    def multiplier_ppm(self) -> int:
        return self.multipliers.get(EVERY_METER, PPM)


# Fields that `create` and `update` take, beside groups and the multiplier.
FIELDS = ("email", "credit_limit_nanos", "rpm", "fair_use_limit", "fair_use_throttle_s")


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    for name, value in fields.items():
        if name not in FIELDS:
            raise Invalid(f"A user has no field {name!r}")
        if name == "email" and value is not None and (len(value) > 320 or "@" not in value or " " in value):
            raise Invalid(f"{value[:80]!r} is not an e-mail address", "Example: alice@example.org")
        if name == "credit_limit_nanos" and not 0 <= value < MAX_NANOS:  # so that limit + balance stays below 2^63
            raise Invalid("A credit limit must not be negative" if value < 0 else "The credit limit is out of range")
        if name in {"rpm", "fair_use_limit", "fair_use_throttle_s"}:
            check_limit(name, value)
    return fields


def _logged(fields: dict[str, Any]) -> dict[str, Any]:
    shown = dict(fields)
    if "credit_limit_nanos" in shown:
        shown["credit_limit"] = format_usd(shown.pop("credit_limit_nanos"))
    return shown


@transaction
def create(name: str, *, groups: Iterable[str] = (), multiplier_ppm: int | None = None, **fields: Any) -> UserView:
    """A new user, in the given groups and in every default group. Conflict when the name is taken."""
    check_name("user", name)
    values = _checked(fields)
    chosen = {group_row(group).id for group in groups}
    chosen |= {group_id for (group_id,) in Group.select(Group.id).where(Group.is_default == 1).tuples()}
    user_id = insert(User, f"user {name!r}", {"name": name, "created_at": clock.now_ms(), **values})
    for group_id in sorted(chosen):
        Membership.insert(user=user_id, group=group_id).execute()
    if multiplier_ppm is not None:
        multipliers.store("user", user_id, EVERY_METER, multiplier_ppm)
    made = show(name)
    logged = {"groups": made.groups, "multiplier": format_multiplier(made.multiplier_ppm), **_logged(values)}
    audit.record("users.create", name, after=logged)
    return made


def _check_credit(user_id: int, name: str, limit: int) -> None:
    """Refused when more is owed and held than that: the ledger promises that no balance is below its limit."""
    balance, held = database.execute_sql(
        sql("SELECT balance_nanos, held_nanos FROM users WHERE id = ?" + for_update()), (user_id,)
    ).fetchone()
    if balance + limit < held:
        raise Refused(
            f"{name} owes {format_usd(held - balance)} USD (running requests included)",
            f"Give at least that, or: gatewayctl users suspend {name}",
        )


@transaction
def update(name: str, *, multiplier_ppm: int | None = None, **fields: Any) -> UserView:
    """Change the given fields (None removes a limit)."""
    row = user_row(name)
    values = _checked(fields)
    before = {field: getattr(row, field) for field in values}
    if "credit_limit_nanos" in values:
        _check_credit(row.id, name, values["credit_limit_nanos"])
    if values:
        User.update(**values).where(User.id == row.id).execute()
    if multiplier_ppm is not None:
        multipliers.set_for("user", name, multiplier_ppm)
    bump_user(row.id)
    audit.record("users.update", name, before=_logged(before), after=_logged(values))
    return show(name)


@transaction
def set_status(name: str, status: str) -> UserView:
    """'active' or 'suspended'; takes effect on every key's next request."""
    row = user_row(name)
    if row.status == "deleted":
        raise Conflict(f"The user {name!r} is deleted", "Create a new one")
    if row.status != status:
        User.update(status=status).where(User.id == row.id).execute()
        bump_user(row.id)
        verb = "suspend" if status == "suspended" else "activate"
        audit.record(f"users.{verb}", name, before={"status": row.status}, after={"status": status})
    return show(name)


@transaction
def delete(name: str) -> UserView:
    """Revoke every key, leave every group and free the name. Ledger and usage stay, under `deleted-<id>-<name>`."""
    row = user_row(name)
    if row.status == "deleted":
        raise Conflict(f"The user {name!r} is deleted already", "See: gatewayctl users list")
    lock_user(row.id)
    freed = f"deleted-{row.id}-{name}"[:120]
    revoked = Key.update(status="revoked").where((Key.user == row.id) & (Key.status != "revoked")).execute()
    Membership.delete().where(Membership.user == row.id).execute()
    multipliers.forget("user", row.id)
    User.update(status="deleted", name=freed).where(User.id == row.id).execute()
    bump_user(row.id)
    audit.record(
        "users.delete",
        name,
        before={"status": row.status, "balance": format_usd(row.balance_nanos)},
        after={"status": "deleted", "name": freed, "keys_revoked": revoked},
    )
    return show(freed)


def _views(rows: list[Any]) -> list[UserView]:
    groups: dict[int, list[Any]] = {}
    query = Membership.select(Membership.user, Group).join(Group).order_by(Group.name)
    if len(rows) == 1:
        query = query.where(Membership.user == rows[0].id)
    for membership in query:
        groups.setdefault(membership.user_id, []).append(membership.group)
    factors = multipliers.by_subject("user", rows[0].id if len(rows) == 1 else None)
    now = clock.now_ms()
    return [
        UserView(
            id=row.id,
            name=row.name,
            email=row.email,
            status=row.status,
            groups=tuple(group.name for group in groups.get(row.id, ())),
            multipliers=factors.get(row.id, {}),
            balance_nanos=row.balance_nanos,
            held_nanos=row.held_nanos,
            credit_limit_nanos=row.credit_limit_nanos,
            rpm=row.rpm,
            fair_use=_fair_use(row, groups.get(row.id, []), now),
            created_at=row.created_at,
        )
        for row in rows
    ]


def _fair_use(row: Any, groups: list[Any], now: int) -> FairUse:
    own = (row.fair_use_limit, row.fair_use_throttle_s)
    rule = fair_use.fair_use_of(own, [(group.fair_use_limit, group.fair_use_throttle_s) for group in groups])
    if rule is None:
        return FairUse(None, row.fair_use_throttle_s, 0)
    state = fair_use.as_of(rule, now, row.fair_use_day_at, row.fair_use_used, row.fair_use_last_at)
    granting = None
    if row.fair_use_limit is None:
        granting = next(group.name for group in groups if group.fair_use_limit == rule.limit)
    available = row.balance_nanos + row.credit_limit_nanos - row.held_nanos
    throttled = not state.remaining and available <= 0 and state.slot_at > now
    return FairUse(rule.limit, rule.throttle_s, state.used, state.slot_at if throttled else None, granting)


@reading
def show(name: str) -> UserView:
    """One user, with what was used today."""
    return _views([user_row(name)])[0]


@reading
def list_all(*, deleted: bool = False) -> list[UserView]:
    """Every user by name, deleted ones only on request."""
    query = User.select().order_by(User.name)
    if not deleted:
        query = query.where(User.status != "deleted")
    rows = list(query)
    return _views(rows) if rows else []
