"""What the gateway keeps for itself: processes, counters, settings, the audit log, the catalogue's version."""

from __future__ import annotations

from peewee import BigAutoField, BigIntegerField, CompositeKey, IntegerField, TextField

from db.fields import amount, instant, one_of, short_text
from db.models.base import Table


class Process(Table):
    """A daemon process that owns holds. It is dead when its machine says so, or when `beat` stands still for long."""

    id = BigAutoField()
    host = short_text("host", 255)
    boot_id = short_text("boot_id", 64)
    pid = BigIntegerField()
    pid_started = BigIntegerField()
    beat = BigIntegerField(default=0)
    started_at = instant()
    ended_at = instant(null=True)

    class Meta:
        table_name = "processes"


class Counter(Table):
    """Requests, tokens and cost per subject and UTC day."""

    scope = one_of("scope", ("user", "key", "provider"))
    subject_id = BigIntegerField()
    window_at = instant()
    requests = BigIntegerField(default=0)
    tokens = BigIntegerField(default=0)
    cost_nanos = amount("cost_nanos", default=0)

    class Meta:
        table_name = "counters"
        primary_key = CompositeKey("scope", "subject_id", "window_at")


class LimitWindow(Table):
    """What a key, or all keys of a user, used of their limits per minute, and how many requests run now."""

    scope = one_of("scope", ("user", "key"))
    subject_id = BigIntegerField()
    window_at = instant()
    requests = BigIntegerField(default=0)
    tokens = BigIntegerField(default=0)
    parallel = BigIntegerField(default=0)

    class Meta:
        table_name = "limit_windows"
        primary_key = CompositeKey("scope", "subject_id")


class Setting(Table):
    """A setting that is shared by all processes over one database."""

    name = TextField(primary_key=True)
    value = TextField()

    class Meta:
        table_name = "settings"


class AuditEntry(Table):
    """Who changed what, when, from what to what."""

    id = BigAutoField()
    at = instant()
    actor = short_text("actor", 200)
    action = short_text("action", 80)
    subject = short_text("subject", 300)
    before = TextField(null=True)
    after = TextField(null=True)

    class Meta:
        table_name = "audit_log"
        indexes = ((("at",), False),)


class CatalogState(Table):
    """One row whose version rises with every change of providers, credentials, models, prices, groups and their multipliers."""

    id = IntegerField(primary_key=True)
    version = BigIntegerField(default=1)

    class Meta:
        table_name = "catalog_state"
