"""Read-only checks of what is stored, each with its fix: the database's half of `doctor` and `db check`.

To add a check: 1. a function that returns Findings and changes nothing; 2. its line in CONTENT (or in the caller, when
it needs more than the database).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

import peewee
from peewee import fn

from db import ledger, meters, processes
from db.clock import DAY_MS
from db.credentials import PURPOSE, row_name
from db.engine import is_sqlite, long_statements, read_snapshot, translated_errors
from db.errors import StoreError
from db.models import (
    CatalogModel,
    Credential,
    Deployment,
    Grant,
    Group,
    Key,
    KeySecret,
    Price,
    Provider,
    User,
    database,
)
from db.secrets import MasterKeys

UNREADABLE = peewee.DatabaseError  # what a damaged file raises, beside StoreError
SAFE_SQLITE = (3, 51, 3)  # from 3.7.0 on, two writers at a WAL reset could lose a commit
SHOWN = 5


class Status(StrEnum):
    """OK; WARN: works, but look at it; FAIL: broken, or money is at risk."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw, and the next step (empty when all is well)."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def _listed(items: Iterable[object]) -> str:
    texts = [str(item) for item in items]
    more = f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def _finding(name: str, wrong: list[str], *, good: str, bad: str, fix: str, status: Status = Status.WARN) -> Finding:
    """OK and `good` when nothing is wrong, else `status` and `bad` with the first few of what is."""
    if not wrong:
        return Finding(name, Status.OK, good)
    return Finding(name, status, f"{bad}: {_listed(wrong)}", fix)


def engine() -> list[Finding]:
    """The server or library and its settings for durability."""
    with translated_errors():
        return _sqlite() if is_sqlite() else _postgresql()


def _pragma(name: str) -> str:
    return str(database.execute_sql(f"PRAGMA {name}").fetchone()[0])


def _sqlite() -> list[Finding]:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < SAFE_SQLITE:
        library = Finding(
            "sqlite version",
            Status.WARN,
            f"{version}: two processes that write at the same moment can, very rarely, lose a commit (WAL reset)",
            "Use a Python whose sqlite3 is 3.51.3 or newer, or PostgreSQL, when several workers run",
        )
    else:
        library = Finding("sqlite version", Status.OK, version)
    found = {name: _pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys")}
    wanted = {"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"}
    wrong = [f"{name} is {value}" for name, value in found.items() if value != wanted[name]]
    return [
        library,
        _finding(
            "durability",
            wrong,
            good="journal_mode wal, synchronous full, foreign keys on",
            bad="Not as this program sets it",
            fix="Another program changed the file's settings: stop it, then restart the gateway",
            status=Status.FAIL,
        ),
    ]


def _postgresql() -> list[Finding]:
    found = {
        name: str(database.execute_sql(f"SHOW {name}").fetchone()[0])
        for name in ("server_version", "synchronous_commit", "fsync", "full_page_writes")
    }
    version = found.pop("server_version")
    wrong = [f"{name} is off" for name, value in found.items() if value == "off"]
    return [
        Finding("postgresql version", Status.OK, version),
        _finding(
            "durability",
            wrong,
            good="synchronous_commit, fsync and full_page_writes are on",
            bad="A crash of the server may lose money that was acknowledged",
            fix="Set it to on in postgresql.conf",
            status=Status.FAIL,
        ),
    ]


def integrity() -> list[Finding]:
    """Every page and foreign key of an SQLite file; a server looks after its own."""
    if not is_sqlite():
        return [Finding("integrity", Status.OK, "checked by the server itself (data checksums, amcheck)")]
    with translated_errors():
        damage = [row[0] for row in database.execute_sql("PRAGMA quick_check(20)").fetchall() if row[0] != "ok"]
        orphans = [f"{row[0]} row {row[1]}" for row in database.execute_sql("PRAGMA foreign_key_check").fetchall()]
    fix = "Restore a backup: gatewayctl db restore FILE"
    return [
        _finding("integrity", damage, good="every page is sound", bad="Damaged", fix=fix, status=Status.FAIL),
        _finding("foreign keys", orphans, good="every reference is met", bad="Dangling", fix=fix, status=Status.FAIL),
    ]


def verify_ledger() -> ledger.Verification:
    """The ledger's invariants in one look that takes no write lock; holds of processes known dead are stale."""
    with read_snapshot():
        long_statements()
        live = frozenset(process.id for process in processes.running() if process.alive is not False)
        return ledger.verify(live_processes=live)


def money() -> list[Finding]:
    """Balances against entries, holds against processes."""
    found = verify_ledger()
    return [
        _finding(
            "ledger",
            list(found.drift),
            good=f"{found.entries} entries explain the balances of {found.users} users",
            bad="Drift",
            fix="See: gatewayctl ledger verify; then correct with: gatewayctl balances adjust",
            status=Status.FAIL,
        ),
        _finding(
            "stale holds",
            list(found.stale_holds),
            good="every open hold has a living owner",
            bad=f"{len(found.stale_holds)} open without one",
            fix="Start the gateway: it charges or releases them within seconds",
        ),
    ]


def providers() -> list[Finding]:
    """Providers that cannot be called."""
    active = Credential.select(Credential.provider).where(Credential.status == "active")
    lacking = Provider.select(Provider.slug).where(
        Provider.no_auth == 0, Provider.protocol != "demo", Provider.id.not_in(active)
    )
    paused = Provider.select(Provider.slug).where(Provider.status == "paused")
    benched = Credential.select(Provider.slug, Credential.name).join(Provider).where(Credential.status == "benched")
    return [
        _finding(
            "provider credentials",
            [row[0] for row in lacking.order_by(Provider.slug).tuples()],
            good="every provider has what it needs",
            bad="No active credential",
            fix="Run: gatewayctl credentials add PROVIDER --from-env VAR (or providers update PROVIDER --no-auth)",
        ),
        _finding(
            "paused providers",
            [row[0] for row in paused.order_by(Provider.slug).tuples()],
            good="none",
            bad="Paused",
            fix="Run: gatewayctl providers resume PROVIDER",
        ),
        _finding(
            "refused credentials",
            [f"{slug}/{name}" for slug, name in benched.order_by(Provider.slug).tuples()],
            good="none",
            bad="Refused by their provider",
            fix="Replace the secret, then run: gatewayctl credentials enable",
        ),
    ]


def models() -> list[Finding]:
    """Enabled models that nobody can be served by."""
    enabled = list(
        CatalogModel.select(CatalogModel.id, CatalogModel.public_id, CatalogModel.type)
        .where(CatalogModel.enabled == 1)
        .order_by(CatalogModel.public_id)
        .tuples()
    )
    priced: dict[int, set[str]] = {}
    for model_id, meter in Price.select(Price.model, Price.meter).where(Price.valid_to_at.is_null()).tuples():
        priced.setdefault(model_id, set()).add(meter)
    deployed = {row[0] for row in Deployment.select(Deployment.model).where(Deployment.enabled == 1).tuples()}
    granted = {row[0] for row in Grant.select(Grant.model).distinct().tuples()}
    return [
        _finding(
            "model prices",
            [name for model_id, name, kind in enabled if meters.missing(kind, priced.get(model_id, set()))],
            good=f"{len(enabled)} enabled models have one",
            bad="Refused for lack of a price",
            fix="Run: gatewayctl models update MODEL --input-price X --output-price X (0 is free)",
        ),
        _finding(
            "model deployments",
            [name for model_id, name, _ in enabled if model_id not in deployed],
            good="every enabled model has a provider",
            bad="No provider serves",
            fix="Run: gatewayctl models add MODEL --provider SLUG, or models disable MODEL",
        ),
        _finding(
            "model grants",
            [name for model_id, name, _ in enabled if model_id not in granted],
            good="every enabled model is granted to a group",
            bad="No group may call",
            fix="Run: gatewayctl groups allow GROUP MODEL",
        ),
    ]


def credentials(keys: MasterKeys) -> list[Finding]:
    """Credentials that the present master key does not open."""
    wrong, old = [], []
    for row in Credential.select(Credential, Provider.slug).join(Provider).order_by(Credential.id):
        name = f"{row.provider.slug}/{row.name}"
        ciphertext = bytes(row.secret)
        try:
            keys.decrypt(ciphertext, purpose=PURPOSE, row=row_name(row.id))
        except StoreError:
            wrong.append(name)
        else:
            if not keys.is_current(ciphertext):
                old.append(name)
    return [
        _finding(
            "credential encryption",
            wrong,
            good="every credential decrypts",
            bad="The master key does not open",
            fix="Put the former master key on a second line of master.key, or add the credentials again",
            status=Status.FAIL,
        ),
        _finding(
            "credential key age",
            old,
            good="all under the current master key",
            bad="Under a former master key",
            fix="Run: gatewayctl credentials reencrypt",
        ),
    ]


def keys(max_age_days: int, now_ms: int) -> list[Finding]:
    """Active keys whose newest secret is older than `max_age_days` (0: no limit)."""
    if max_age_days <= 0:
        return [Finding("old keys", Status.OK, "no limit is set")]
    newest = fn.MAX(KeySecret.created_at)
    rows = (
        Key.select(Key.id, Key.name, User.name, newest)
        .join(User)
        .switch(Key)
        .join(KeySecret)
        .where(Key.status == "active", User.status == "active")
        .group_by(Key.id, Key.name, User.name)
        .having(newest < now_ms - max_age_days * DAY_MS)
        .order_by(newest)
        .tuples()
    )
    return [
        _finding(
            "old keys",
            [f"{key_id} ({user}/{name or key_id}, {(now_ms - at) // DAY_MS} days)" for key_id, name, user, at in rows],
            good=f"no active key is older than {max_age_days} days",
            bad=f"Older than {max_age_days} days",
            fix="Run: gatewayctl keys rotate ID --grace 24h",
        )
    ]


def groups() -> list[Finding]:
    """A group that new users join."""
    names = [row[0] for row in Group.select(Group.name).where(Group.is_default == 1).order_by(Group.name).tuples()]
    if names:
        return [Finding("default group", Status.OK, _listed(names))]
    return [
        Finding(
            "default group",
            Status.WARN,
            "New users join no group, so they see no model",
            "Run: gatewayctl groups create everyone --default",
        )
    ]


CONTENT: tuple[Callable[[], list[Finding]], ...] = (money, providers, models, groups)


def content() -> list[Finding]:
    """All checks that need nothing but the open database."""
    with translated_errors():
        return [finding for check in CONTENT for finding in check()]
