"""What users and keys have used of their limits right now, for people; and the way to let them begin anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from db import audit, clock, counters, keys, limits, users
from db.counters import Count
from db.engine import sql, transaction
from db.errors import Invalid
from db.keys import KeyView
from db.limits import Limits, Window
from db.models import User, database
from db.names import lock_user, user_row
from db.reading import reading
from db.users import FairUse, UserView


@dataclass(frozen=True, slots=True)
class Used:
    """A user's or a key's limits (None: none), what is used of the current window, and of the UTC day."""

    scope: str  # user or key
    id: int
    user: str
    name: str
    rpm: int | None
    tpm: int | None
    max_parallel: int | None
    window: Window
    today: Count
    fair_use: FairUse | None


def _window(scope: str, subject_id: int) -> Window:
    """As of now."""
    asked = Limits(subject_id, subject_id, None, None, None, 1)
    standing = limits.look(asked)
    found = standing.key if scope == "key" else standing.user
    assert found is not None
    return found


def _of_user(view: UserView, now: int) -> Used:
    return Used(
        "user", view.id, view.name, "", view.rpm, None, None,
        _window("user", view.id), counters.of_day("user", view.id, now), view.fair_use,
    )  # fmt: skip


def _of_key(view: KeyView, now: int) -> Used:
    return Used(
        "key", view.id, view.user, view.name, view.rpm, view.tpm, view.max_parallel,
        _window("key", view.id), counters.of_day("key", view.id, now), None,
    )  # fmt: skip


@reading
def show(*, user: str | None = None, key: str | None = None) -> list[Used]:
    """A key, or a user and its keys; with neither every user and key that has a limit or an allowance."""
    now = clock.now_ms()
    if key is not None:
        return [_of_key(keys.show(key), now)]
    if user is not None:
        own = keys.list_all(user, statuses=("active", "disabled"))
        return [_of_user(users.show(user), now), *(_of_key(view, now) for view in own)]
    people = [view for view in users.list_all() if view.rpm is not None or view.fair_use.limit is not None]
    limited = [
        view
        for view in keys.list_all(statuses=("active", "disabled"))
        if (view.rpm, view.tpm, view.max_parallel) != (None, None, None)
    ]
    return [*(_of_user(view, now) for view in people), *(_of_key(view, now) for view in limited)]


@transaction
def reset(*, user: str | None = None, key: str | None = None) -> list[Used]:
    """Let a key begin a new window; or a user, with all its keys and its allowance of the day. What runs goes on counting."""
    if (user is None) == (key is None):
        raise Invalid("Name a user or a key", "gatewayctl limits reset --user NAME, or --key ID")
    if key is not None:
        view = keys.show(key)
        lock_user(user_row(view.user).id)
        _forget_keys([view])
        audit.record("limits.reset", f"key {view.id} {view.prefix}")
    else:
        assert user is not None
        row = user_row(user)
        lock_user(row.id)
        limits.forget("user", row.id, running=0)
        _forget_keys(keys.list_all(user))
        User.update(fair_use_used=0, fair_use_last_at=0).where(User.id == row.id).execute()
        audit.record("limits.reset", f"user {user}")
    return show(user=user, key=key)


def _forget_keys(views: Sequence[KeyView]) -> None:
    for view in views:
        [running] = database.execute_sql(
            sql("SELECT COALESCE(SUM(limit_parallel), 0) FROM holds WHERE key_id = ? AND state = 'open'"), (view.id,)
        ).fetchone()
        limits.forget("key", view.id, running=int(running))
