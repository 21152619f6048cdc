"""The audit log: who changed what, when, from what to what. Written in the transaction of the change."""

from __future__ import annotations

import json
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from db import clock
from db.models import AuditEntry

actor: ContextVar[str] = ContextVar("actor", default="gateway")


def _text(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, default=str)


def record(action: str, subject: str, *, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None) -> None:
    """Add a row. `action` is 'noun.verb' such as 'keys.revoke'; values must hold no secret."""
    AuditEntry.insert(
        at=clock.now_ms(),
        actor=actor.get()[:200],
        action=action,
        subject=subject[:300],
        before=_text(before),
        after=_text(after),
    ).execute()


@dataclass(frozen=True, slots=True)
class AuditView:
    """One row as a person reads it."""

    at: int
    actor: str
    action: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def entries(limit: int = 100) -> list[AuditView]:
    """The newest first."""
    rows = AuditEntry.select().order_by(AuditEntry.id.desc()).limit(limit)
    return [
        AuditView(
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            before=json.loads(row.before) if row.before else None,
            after=json.loads(row.after) if row.after else None,
        )
        for row in rows
    ]
