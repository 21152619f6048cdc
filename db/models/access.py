"""Who may call: users, groups, memberships, grants of models to groups, keys and their secrets."""

from __future__ import annotations

from peewee import (
    BigAutoField,
    BigIntegerField,
    BlobField,
    CompositeKey,
    ForeignKeyField,
    IntegerField,
    TextField,
)

from db.fields import NumberedField, added_number, amount, flag, instant, one_of, short_text
from db.models.base import Table
from db.models.catalog import CatalogModel

USER_STATUSES = ("active", "suspended", "deleted")
KEY_STATUSES = ("active", "disabled", "revoked")
PERIODS = ("day", "week", "month")


class User(Table):
    """Owns a balance. `version` rises with every change that a running daemon must notice."""

    id = BigAutoField()
    name = short_text("name", 120, unique=True)
    status = one_of("status", USER_STATUSES, default="active")
    version = BigIntegerField(default=1)
    balance_nanos = BigIntegerField(default=0)
    held_nanos = amount("held_nanos", default=0)
    credit_limit_nanos = amount("credit_limit_nanos", default=0)
    rpm = IntegerField(null=True)
    fair_use_limit = IntegerField(null=True)
    fair_use_throttle_s = IntegerField(null=True)
    created_at = instant()
    email = short_text("email", 320, null=True)
    fair_use_day_at = added_number(0)  # the UTC day that `fair_use_used` counts
    fair_use_used = added_number(0)
    fair_use_last_at = added_number(0)  # when the last request was admitted

    class Meta:
        table_name = "users"


class Group(Table):
    """Grants models to its members; `is_default` groups receive new users."""

    id = NumberedField()
    name = short_text("name", 120, unique=True)
    is_default = flag("is_default", default=0)
    created_at = instant()
    fair_use_limit = IntegerField(null=True)
    fair_use_throttle_s = IntegerField(null=True)

    class Meta:
        table_name = "groups"


class Membership(Table):
    """A user in a group."""

    user = ForeignKeyField(User, column_name="user_id", on_delete="CASCADE", index=False)
    group = ForeignKeyField(Group, column_name="group_id", on_delete="CASCADE")

    class Meta:
        table_name = "memberships"
        primary_key = CompositeKey("user", "group")


class Grant(Table):
    """A model that a group's members may use."""

    group = ForeignKeyField(Group, column_name="group_id", on_delete="CASCADE", index=False)
    model = ForeignKeyField(CatalogModel, column_name="model_id", on_delete="CASCADE")

    class Meta:
        table_name = "grants"
        primary_key = CompositeKey("group", "model")


class Key(Table):
    """What a client presents: limits, allow-list and counters.

    Its secrets are rows of their own, so that a rotation keeps all this.
    """

    id = BigAutoField()
    user = ForeignKeyField(User, column_name="user_id")
    status = one_of("status", KEY_STATUSES, default="active")
    expires_at = instant(null=True)
    rpm = IntegerField(null=True)
    tpm = IntegerField(null=True)
    max_parallel = IntegerField(null=True)
    budget_nanos = amount("budget_nanos", null=True)
    budget_period = one_of("budget_period", PERIODS, null=True)
    budget_window_at = instant(default=0)
    budget_spent_nanos = amount("budget_spent_nanos", default=0)
    budget_held_nanos = amount("budget_held_nanos", default=0)
    spent_nanos = amount("spent_nanos", default=0)
    last_used_at = instant(null=True)
    created_at = instant()
    name = short_text("name", 120, default="")
    models = TextField(null=True)  # JSON array of model ids; NULL: every model of the owner's groups
    metadata = TextField(default="{}")
    endpoints = TextField(null=True)  # JSON array of paths; NULL: every one
    ip_ranges = TextField(null=True)  # JSON array of networks; NULL: from everywhere

    class Meta:
        table_name = "keys"


class KeySecret(Table):
    """One secret of a key: the public id finds it, the SHA-256 of the whole key proves it."""

    public_id = TextField(primary_key=True)
    key = ForeignKeyField(Key, column_name="key_id", backref="secrets")
    digest = BlobField()
    expires_at = instant(null=True)
    created_at = instant()

    class Meta:
        table_name = "key_secrets"
