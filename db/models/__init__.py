"""Peewee tables only: no behaviour. `TABLES` is every one of them, parents first."""

from __future__ import annotations

from db.models.access import Grant, Group, Key, KeySecret, Membership, User
from db.models.base import Table, database
from db.models.catalog import Alias, CatalogModel, Credential, Deployment, Multiplier, Price, Provider
from db.models.money import Hold, LedgerEntry
from db.models.system import AuditEntry, CatalogState, Counter, LimitWindow, Process, Setting
from db.models.usage import UsageRecord

TABLES: tuple[type[Table], ...] = (
    User,
    Group,
    Membership,
    Key,
    KeySecret,
    Provider,
    Credential,
    CatalogModel,
    Alias,
    Deployment,
    Price,
    Multiplier,
    Grant,
    Process,
    Hold,
    LedgerEntry,
    UsageRecord,
    Counter,
    LimitWindow,
    Setting,
    AuditEntry,
    CatalogState,
)

__all__ = [
    "TABLES",
    "Alias",
    "AuditEntry",
    "CatalogModel",
    "CatalogState",
    "Counter",
    "Credential",
    "Deployment",
    "Grant",
    "Group",
    "Hold",
    "Key",
    "KeySecret",
    "LedgerEntry",
    "LimitWindow",
    "Membership",
    "Multiplier",
    "Price",
    "Process",
    "Provider",
    "Setting",
    "Table",
    "UsageRecord",
    "User",
    "database",
]
