"""Who presents a key: one look-up that brings the key, its owner, groups and multipliers as a plain value."""

from __future__ import annotations

import json
from dataclasses import dataclass

from db import secrets
from db.engine import sql
from db.fair_use import FairUse, fair_use_of
from db.limits import Limits
from db.models import Group, Membership, Multiplier, database


@dataclass(frozen=True, slots=True)
class Identity:
    """A key and its owner, as of `user_version`. Times in ms; None means no limit."""

    key_id: int
    digest: bytes
    key_name: str
    key_status: str
    key_expires_at: int | None
    models: frozenset[str] | None
    budget_nanos: int | None
    budget_period: str | None
    rpm: int | None
    tpm: int | None
    max_parallel: int | None
    user_id: int
    user: str
    user_status: str
    user_version: int
    groups: frozenset[int]
    multipliers: dict[str, int]  # meter or '*' → parts per million
    user_rpm: int | None = None
    fair_use: FairUse | None = None
    endpoints: tuple[str, ...] | None = None
    ip_ranges: tuple[str, ...] | None = None
    limited: bool = False  # whether there is a limit per minute or of parallel requests

    def limits(self, tokens: int = 0, parallel: int = 0) -> Limits | None:
        """What a request of `tokens` at most counts against; None without any limit. `parallel`: 1 when it will run."""
        if not self.limited:
            return None
        return Limits(
            self.key_id, self.user_id, self.rpm, self.tpm, self.max_parallel, self.user_rpm, tokens=tokens, parallel=parallel
        )

    def __repr__(self) -> str:
        return f"Identity(key_id={self.key_id}, user={self.user!r})"


_FIND = (
    "SELECT u.version, k.id, s.digest, k.name, k.status, k.expires_at, s.expires_at, k.models, k.budget_nanos, "
    "k.budget_period, k.rpm, k.tpm, k.max_parallel, u.id, u.name, u.status, "
    "u.rpm, u.fair_use_limit, u.fair_use_throttle_s, k.endpoints, k.ip_ranges "
    "FROM key_secrets s JOIN keys k ON k.id = s.key_id JOIN users u ON u.id = k.user_id WHERE s.public_id = ?"
)


def find(public_id: str) -> Identity | None:
    """By the public id of a key. The version is read first, so that a change meanwhile makes the result stale, never wrong."""
    row = database.execute_sql(sql(_FIND), (public_id,)).fetchone()
    if row is None:
        return None
    version, key_id, digest, name, status, key_expires, secret_expires, models, budget, period = row[:10]
    rpm, tpm, max_parallel, user_id, user, user_status = row[10:16]
    user_rpm, allowance, throttle_s, endpoints, ip_ranges = row[16:]
    expiries = [at for at in (key_expires, secret_expires) if at is not None]
    columns = (Membership.group, Group.fair_use_limit, Group.fair_use_throttle_s)
    groups = list(Membership.select(*columns).join(Group).where(Membership.user == user_id).tuples())
    own = (
        Multiplier.select(Multiplier.meter, Multiplier.ppm)
        .where((Multiplier.scope == "user") & (Multiplier.subject_id == user_id))
        .tuples()
    )
    return Identity(
        key_id=key_id,
        digest=bytes(digest),
        key_name=name,
        key_status=status,
        key_expires_at=min(expiries) if expiries else None,
        models=None if models is None else frozenset(json.loads(models)),
        budget_nanos=budget,
        budget_period=period,
        rpm=rpm,
        tpm=tpm,
        max_parallel=max_parallel,
        user_id=user_id,
        user=user,
        user_status=user_status,
        user_version=version,
        groups=frozenset(group for group, _, _ in groups),
        multipliers=dict(own),
        user_rpm=user_rpm,
        fair_use=fair_use_of((allowance, throttle_s), [(limit, every_s) for _, limit, every_s in groups]),
        endpoints=None if endpoints is None else tuple(json.loads(endpoints)),
        ip_ranges=None if ip_ranges is None else tuple(json.loads(ip_ranges)),
        limited=not (rpm is tpm is max_parallel is user_rpm is None),
    )


def find_by_key_id(key_id: int) -> Identity | None:
    """By the number of a key: for explaining, not for authentication."""
    row = database.execute_sql(
        sql("SELECT public_id FROM key_secrets WHERE key_id = ? ORDER BY created_at DESC LIMIT 1"), (key_id,)
    ).fetchone()
    return find(row[0]) if row else None


def proves(identity: Identity, key: str) -> bool:
    """Whether `key` is the secret of this identity; constant time."""
    return secrets.digests_equal(identity.digest, secrets.digest_of(key))


@dataclass(frozen=True, slots=True)
class Funds:
    """A user's money and a key's spending right now, in nano-USD."""

    balance_nanos: int
    held_nanos: int
    credit_limit_nanos: int
    key_spent_nanos: int
    budget_window_at: int
    budget_spent_nanos: int
    budget_held_nanos: int

    @property
    def available_nanos(self) -> int:
        return self.balance_nanos + self.credit_limit_nanos - self.held_nanos


def funds(key_id: int) -> Funds:
    """What `/v1/key`, `/v1/credits` and a hold that is too large for the balance need to know."""
    row = database.execute_sql(
        sql(
            "SELECT u.balance_nanos, u.held_nanos, u.credit_limit_nanos, k.spent_nanos, k.budget_window_at, "
            "k.budget_spent_nanos, k.budget_held_nanos FROM keys k JOIN users u ON u.id = k.user_id WHERE k.id = ?"
        ),
        (key_id,),
    ).fetchone()
    return Funds(*row)
