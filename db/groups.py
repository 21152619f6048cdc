"""Groups: which users may call which models. A user may call the union of what its groups allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db import audit, clock, multipliers
from db.engine import transaction
from db.errors import NotFound
from db.meters import EVERY_METER
from db.models import CatalogModel, Grant, Group, Membership, User
from db.money import PPM, format_multiplier
from db.names import check_limit, check_name, group_row, insert, model_row, user_row
from db.reading import reading
from db.versions import bump_catalog, bump_user

DEFAULT_GROUP = "everyone"


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group with its members and models by name; multipliers in parts per million by meter."""

    id: int
    name: str
    is_default: bool
    users: tuple[str, ...]
    models: tuple[str, ...]
    multipliers: dict[str, int]
    created_at: int
    fair_use_limit: int | None = None
    fair_use_throttle_s: int | None = None

    @property
    def multiplier_ppm(self) -> int:
        return self.multipliers.get(EVERY_METER, PPM)


@transaction
def create(
    name: str,
    *,
    is_default: bool = False,
    multiplier_ppm: int | None = None,
    fair_use_limit: int | None = None,
    fair_use_throttle_s: int | None = None,
) -> GroupView:
    """A new group. A default one receives every user created from now on. Fair use: for each member, see db.fair_use."""
    check_name("group", name)
    allowance = _allowance({"fair_use_limit": fair_use_limit, "fair_use_throttle_s": fair_use_throttle_s})
    values: dict[str, Any] = {"name": name, "is_default": int(is_default), "created_at": clock.now_ms(), **allowance}
    group_id = insert(Group, f"group {name!r}", values)
    if multiplier_ppm is not None:
        multipliers.store("group", group_id, EVERY_METER, multiplier_ppm)
    bump_catalog()
    after: dict[str, Any] = {"default": is_default}
    if multiplier_ppm is not None:
        after["multiplier"] = format_multiplier(multiplier_ppm)
    audit.record("groups.create", name, after=after | {key: value for key, value in allowance.items() if value is not None})
    return show(name)


def _allowance(fields: dict[str, int | None]) -> dict[str, int | None]:
    return {name: check_limit(name, value) for name, value in fields.items()}


@transaction
def update(name: str, **fields: int | None) -> GroupView:
    """Change the members' allowance: fair_use_limit (None: none), fair_use_throttle_s."""
    row = group_row(name)
    values = _allowance(fields)
    before = {field: getattr(row, field) for field in values}
    Group.update(**values).where(Group.id == row.id).execute()
    members = [user for (user,) in Membership.select(Membership.user).where(Membership.group == row.id).tuples()]
    for user_id in sorted(members):
        bump_user(user_id)
    audit.record("groups.update", name, before=before, after=values)
    return show(name)


@transaction
def delete(name: str) -> None:
    """Remove a group: its members lose what only it allowed, at once."""
    row = group_row(name)
    before = _views([row])[0]
    members = [user for (user,) in Membership.select(Membership.user).where(Membership.group == row.id).tuples()]
    Membership.delete().where(Membership.group == row.id).execute()
    Grant.delete().where(Grant.group == row.id).execute()
    multipliers.forget("group", row.id)
    Group.delete().where(Group.id == row.id).execute()
    for user_id in sorted(members):
        bump_user(user_id)
    bump_catalog()
    audit.record("groups.delete", name, before={"users": len(before.users), "models": before.models})


@transaction
def add_user(group: str, user: str) -> bool:
    """Put a user into a group; False when it was in it."""
    group_id, user_id = group_row(group).id, user_row(user).id
    if Membership.get_or_none((Membership.user == user_id) & (Membership.group == group_id)):
        return False
    Membership.insert(user=user_id, group=group_id).on_conflict_ignore().execute()
    bump_user(user_id)
    audit.record("groups.add-user", group, after={"user": user})
    return True


@transaction
def remove_user(group: str, user: str) -> None:
    """Take a user out of a group; NotFound when it was not in it."""
    group_id, user_id = group_row(group).id, user_row(user).id
    gone = Membership.delete().where((Membership.user == user_id) & (Membership.group == group_id)).execute()
    if not gone:
        raise NotFound(f"The user {user!r} is not in group {group!r}", f"See: gatewayctl groups show {group}")
    bump_user(user_id)
    audit.record("groups.remove-user", group, before={"user": user})


@transaction
def allow(group: str, models: Sequence[str]) -> tuple[str, ...]:
    """Grant models (ids or aliases) to a group; the ids that are new to it."""
    group_id = group_row(group).id
    added = []
    for row in [model_row(name) for name in models]:
        if Grant.get_or_none((Grant.group == group_id) & (Grant.model == row.id)) is None:
            Grant.insert(group=group_id, model=row.id).on_conflict_ignore().execute()
            added.append(row.public_id)
    if added:
        bump_catalog()
        audit.record("groups.allow", group, after={"models": added})
    return tuple(added)


@transaction
def deny(group: str, models: Sequence[str]) -> tuple[str, ...]:
    """Take models (ids or aliases) from a group; the ids that it had."""
    group_id = group_row(group).id
    removed = []
    for row in [model_row(name) for name in models]:
        if Grant.delete().where((Grant.group == group_id) & (Grant.model == row.id)).execute():
            removed.append(row.public_id)
    if removed:
        bump_catalog()
        audit.record("groups.deny", group, before={"models": removed})
    return tuple(removed)


def _views(rows: list[Any]) -> list[GroupView]:
    users: dict[int, list[str]] = {}
    members = Membership.select(Membership.group, User.name).join(User).order_by(User.name)
    for group_id, name in members.tuples():
        users.setdefault(group_id, []).append(name)
    models: dict[int, list[str]] = {}
    grants = Grant.select(Grant.group, CatalogModel.public_id).join(CatalogModel)
    for group_id, public_id in grants.order_by(CatalogModel.public_id).tuples():
        models.setdefault(group_id, []).append(public_id)
    factors = multipliers.by_subject("group")
    return [
        GroupView(
            id=row.id,
            name=row.name,
            is_default=bool(row.is_default),
            users=tuple(users.get(row.id, ())),
            models=tuple(models.get(row.id, ())),
            multipliers=factors.get(row.id, {}),
            created_at=row.created_at,
            fair_use_limit=row.fair_use_limit,
            fair_use_throttle_s=row.fair_use_throttle_s,
        )
        for row in rows
    ]


@reading
def show(name: str) -> GroupView:
    """One group."""
    return _views([group_row(name)])[0]


@reading
def list_all() -> list[GroupView]:
    """Every group by name."""
    return _views(list(Group.select().order_by(Group.name)))


@reading
def default_names() -> tuple[str, ...]:
    """The groups that new users and new public models join."""
    return tuple(name for (name,) in Group.select(Group.name).where(Group.is_default == 1).order_by(Group.name).tuples())
