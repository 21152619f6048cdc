"""API keys: what a client presents. A key is one row with its limits and counters, and one row per secret, so that a
rotation changes the secret and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from db import audit, clock, secrets
from db.engine import for_update, sql, transaction
from db.errors import Conflict, Invalid, NotFound
from db.models import Key, KeySecret, User, database
from db.models.access import PERIODS
from db.money import format_usd
from db.names import check_label, check_limit, insert, lock_user, model_row, user_row
from db.reading import reading
from db.versions import bump_user

DEFAULT_PERIOD = "month"
MAX_METADATA = 4000


@dataclass(frozen=True, slots=True)
class SecretView:
    """One secret of a key: its public id, and until when it is good (ms, None: no end of its own)."""

    public_id: str
    created_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class KeyView:
    """A key without any secret. Money in nano-USD, instants in ms, `models` None: every model of the owner's groups."""

    id: int
    user: str
    name: str
    status: str  # active, disabled, revoked, or expired by the clock
    secrets: tuple[SecretView, ...]  # the newest first
    created_at: int
    expires_at: int | None
    models: tuple[str, ...] | None
    rpm: int | None
    tpm: int | None
    max_parallel: int | None
    budget_nanos: int | None
    budget_period: str | None
    spent_nanos: int
    last_used_at: int | None
    metadata: dict[str, str]

    @property
    def prefix(self) -> str:
        """'sk-gw-' and the public id of the newest secret."""
        return f"{secrets.KEY_PREFIX}{self.secrets[0].public_id}"

    @property
    def secret_at(self) -> int:
        """When the newest secret was made: the key's age for rotation."""
        return self.secrets[0].created_at


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key and its new secret in clear, which exists only here."""

    view: KeyView
    text: str = field(repr=False)


FIELDS = (
    "name", "expires_at", "models", "rpm", "tpm", "max_parallel", "budget_nanos", "budget_period", "metadata",
)  # fmt: skip


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """The given fields as column values; model names become canonical ids."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise Invalid(f"A key has no field {name!r}")
        if name in {"rpm", "tpm", "max_parallel"}:
            value = check_limit(name, value)
        elif name == "name":
            value = check_label("name of the key", value)
        elif name == "models":
            value = None if value is None else json.dumps(sorted({model_row(model).public_id for model in value}))
        elif name == "metadata":
            value = json.dumps(value, sort_keys=True)
            if len(value) > MAX_METADATA:
                raise Invalid(f"The metadata is longer than {MAX_METADATA} characters")
        elif name == "budget_nanos" and value is not None and value < 0:
            raise Invalid("A budget must not be negative")
        elif name == "budget_period" and value is not None and value not in PERIODS:
            raise Invalid(f"{value!r} is not a period", f"Periods: {', '.join(PERIODS)}")
        elif name == "expires_at" and value is not None and value <= clock.now_ms():
            raise Invalid("The expiry is in the past", "Give a later date, or never")
        values[name] = value
    return values


def _with_period(values: dict[str, Any], budget: int | None, period: str | None) -> None:
    """A budget has a period, and a period a budget."""
    if budget is None:
        if values.get("budget_period") is not None:
            raise Invalid("A budget period needs a budget", "Add --budget USD")
        values["budget_period"] = None
    elif period is None:
        values["budget_period"] = DEFAULT_PERIOD


def _logged(values: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in values.items() if name != "budget_nanos"}
    if "budget_nanos" in values:
        budget = values["budget_nanos"]
        shown["budget"] = None if budget is None else format_usd(budget)
    return shown


def _add_secret(key_id: int, now: int) -> secrets.NewKey:
    made = secrets.make_key()
    KeySecret.insert(public_id=made.public_id, key=key_id, digest=made.digest, created_at=now).execute()
    return made


@transaction
def create(user: str, **fields: Any) -> IssuedKey:
    """A new key of a user. Fields: FIELDS; the secret is in the result and nowhere else."""
    owner = user_row(user)
    if owner.status == "deleted":
        raise Conflict(f"The user {user!r} is deleted", "Create a new one")
    values = _checked(fields)
    _with_period(values, values.get("budget_nanos"), values.get("budget_period"))
    now = clock.now_ms()
    key_id = insert(Key, "key", {"user": owner.id, "created_at": now, **values})
    made = _add_secret(key_id, now)
    bump_user(owner.id)
    view = show(str(key_id))
    audit.record("keys.create", f"{view.id} {view.prefix}", after={"user": user, **_logged(values)})
    return IssuedKey(view=view, text=made.text)


def _key_id(reference: str) -> int:
    """The number of a key by number, public id, prefix or whole key; NotFound otherwise."""
    text = reference.strip()
    public_id = text.removeprefix(secrets.KEY_PREFIX).split("_", 1)[0]
    secret = KeySecret.get_or_none(KeySecret.public_id == public_id)
    if secret is not None:
        return int(secret.key_id)
    if text.isdecimal() and len(text) < 19 and Key.get_or_none(Key.id == int(text)) is not None:
        return int(text)
    shown = text if len(text) <= 20 else f"{text[:14]}…"
    raise NotFound(f"There is no key {shown!r}", "See: gatewayctl keys list")


def _locked(reference: str) -> tuple[int, int, str]:
    """(id, user id, status), the row locked against a second command at the same time.

    The owner's row first, as everywhere: who placed a hold has it and waits for the key's.
    """
    key_id = _key_id(reference)
    [user_id] = database.execute_sql(sql("SELECT user_id FROM keys WHERE id = ?"), (key_id,)).fetchone()
    lock_user(int(user_id))
    found = database.execute_sql(sql("SELECT status FROM keys WHERE id = ?" + for_update()), (key_id,)).fetchone()
    return key_id, int(user_id), str(found[0])


@transaction
def rotate(reference: str, *, grace_ms: int) -> IssuedKey:
    """A new secret for the same key: id, limits and counters stay. Earlier ones end after `grace_ms` (0: now)."""
    key_id, user_id, status = _locked(reference)
    if status == "revoked":
        raise Conflict(f"The key {key_id} is revoked", "Create a new one: gatewayctl keys create --user NAME")
    before = show(str(key_id))
    now = clock.now_ms()
    end = now + grace_ms
    KeySecret.update(expires_at=end).where(
        (KeySecret.key == key_id) & (KeySecret.expires_at.is_null() | (KeySecret.expires_at > end))
    ).execute()
    made = _add_secret(key_id, now)
    bump_user(user_id)
    view = show(str(key_id))
    audit.record(
        "keys.rotate",
        f"{view.id} {view.prefix}",
        before={"prefix": before.prefix},
        after={"prefix": view.prefix, "old_valid_until": clock.iso(end)},
    )
    return IssuedKey(view=view, text=made.text)


@transaction
def update(reference: str, **fields: Any) -> KeyView:
    """Change the given fields (None removes a limit)."""
    key_id, user_id, status = _locked(reference)
    if status == "revoked":
        raise Conflict(f"The key {key_id} is revoked", "Create a new one: gatewayctl keys create --user NAME")
    values = _checked(fields)
    row = Key.get_by_id(key_id)
    budget = values.get("budget_nanos", row.budget_nanos)
    _with_period(values, budget, values.get("budget_period", row.budget_period))
    before = {name: getattr(row, name) for name in values}
    Key.update(**values).where(Key.id == key_id).execute()
    bump_user(user_id)
    view = show(str(key_id))
    audit.record("keys.update", f"{view.id} {view.prefix}", before=_logged(before), after=_logged(values))
    return view


_VERBS = {"active": "enable", "disabled": "disable", "revoked": "revoke"}


@transaction
def set_status(reference: str, status: str) -> KeyView:
    """'active', 'disabled' or, for good, 'revoked'; effective on the next request."""
    key_id, user_id, earlier = _locked(reference)
    if earlier == "revoked" and status != "revoked":
        raise Conflict(f"The key {key_id} is revoked for good", "Create a new one: gatewayctl keys create --user NAME")
    if earlier != status:
        Key.update(status=status).where(Key.id == key_id).execute()
        bump_user(user_id)
    view = show(str(key_id))
    if earlier != status:
        subject = f"{view.id} {view.prefix}"
        audit.record(f"keys.{_VERBS[status]}", subject, before={"status": earlier}, after={"status": status})
    return view


def _views(query: Any) -> list[KeyView]:
    rows = list(query.order_by(Key.id))
    found: dict[int, list[SecretView]] = {}
    kept = KeySecret.select(KeySecret.key, KeySecret.public_id, KeySecret.created_at, KeySecret.expires_at)
    if len(rows) == 1:
        kept = kept.where(KeySecret.key == rows[0].id)
    # A rotation in the same millisecond: the one without an end is the newer.
    newest_first = (KeySecret.created_at.desc(), KeySecret.expires_at.is_null(False))
    for key_id, public_id, created_at, expires_at in kept.order_by(*newest_first).tuples():
        found.setdefault(key_id, []).append(SecretView(public_id, created_at, expires_at))
    now = clock.now_ms()
    return [
        KeyView(
            id=row.id,
            user=row.user.name,
            name=row.name,
            status="expired" if row.status == "active" and row.expires_at and row.expires_at <= now else row.status,
            secrets=tuple(found[row.id]),
            created_at=row.created_at,
            expires_at=row.expires_at,
            models=None if row.models is None else tuple(json.loads(row.models)),
            rpm=row.rpm,
            tpm=row.tpm,
            max_parallel=row.max_parallel,
            budget_nanos=row.budget_nanos,
            budget_period=row.budget_period,
            spent_nanos=row.spent_nanos,
            last_used_at=row.last_used_at,
            metadata=json.loads(row.metadata),
        )
        for row in rows
    ]


@reading
def show(reference: str) -> KeyView:
    """One key by number, public id or prefix."""
    return _views(Key.select(Key, User).join(User).where(Key.id == _key_id(reference)))[0]


@reading
def list_all(user: str | None = None, *, statuses: Sequence[str] | None = None) -> list[KeyView]:
    """Every key, or one user's."""
    query = Key.select(Key, User).join(User)
    if user is not None:
        query = query.where(Key.user == user_row(user).id)
    views = _views(query)
    return [view for view in views if statuses is None or view.status in statuses]
