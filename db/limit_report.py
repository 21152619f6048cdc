"""What users and keys have used of their limits right now, for people; and the way to let them begin anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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

Look = Callable[[str, int], Window]  # by scope and id


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


def in_database(scope: str, subject_id: int) -> Window:
    """The window as of now."""
    standing = limits.look(Limits(subject_id, subject_id, None, None, None, 1))
    found = standing.key if scope == "key" else standing.user
    assert found is not None
    return found


def _of_user(view: UserView, window: Window, now: int) -> Used:
    today = counters.of_day("user", view.id, now)
    return Used("user", view.id, view.name, "", view.rpm, None, None, window, today, view.fair_use)


def _of_key(view: KeyView, window: Window, now: int) -> Used:
    """Parallel requests are the database's, whoever counts the windows."""
    window = replace(window, parallel=in_database("key", view.id).parallel)
    today = counters.of_day("key", view.id, now)
    return Used("key", view.id, view.user, view.name, view.rpm, view.tpm, view.max_parallel, window, today, None)


@reading
def show(*, user: str | None = None, key: str | None = None, windows: Look = in_database) -> list[Used]:
    """A key, or a user and its keys; with neither every user and key that has a limit or an allowance.

    `windows`: where they are counted.
    """
    now = clock.now_ms()
    if key is not None:
        view = keys.show(key)
        return [_of_key(view, windows("key", view.id), now)]
    if user is not None:
        owner, own = users.show(user), keys.list_all(user, statuses=("active", "disabled"))
        return [
            _of_user(owner, windows("user", owner.id), now),
            *(_of_key(view, windows("key", view.id), now) for view in own),
        ]
    people = [view for view in users.list_all() if view.rpm is not None or view.fair_use.limit is not None]
    limited = [
        view
        for view in keys.list_all(statuses=("active", "disabled"))
        if (view.rpm, view.tpm, view.max_parallel) != (None, None, None)
    ]
    return [
        *(_of_user(view, windows("user", view.id), now) for view in people),
        *(_of_key(view, windows("key", view.id), now) for view in limited),
    ]


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
