"""One row per request, with what it used, what it cost, and by which prices. Small columns stand first."""

from __future__ import annotations

from peewee import BigAutoField, BigIntegerField, IntegerField, TextField

from db.fields import added_json, amount, flag, instant, one_of
from db.models.base import Table

USAGE_STATUSES = ("ok", "error", "client_disconnected", "cached", "refused")


class UsageRecord(Table):
    """What happened to one request. Ids are plain numbers: a record outlives what it names."""

    id = BigAutoField()
    at = instant()
    user_id = BigIntegerField()
    key_id = BigIntegerField()
    model_id = BigIntegerField(null=True)
    provider_id = BigIntegerField(null=True)
    status = one_of("status", USAGE_STATUSES)
    http_status = IntegerField()
    cost_nanos = amount("cost_nanos", default=0)
    upstream_cost_nanos = amount("upstream_cost_nanos", default=0)
    charged_nanos = amount("charged_nanos", default=0)
    absorbed_nanos = amount("absorbed_nanos", default=0)
    input_tokens = BigIntegerField(default=0)
    output_tokens = BigIntegerField(default=0)
    stream = flag("stream", default=0)
    estimated = flag("estimated", default=0)
    cached = flag("cached", default=0)
    latency_ms = IntegerField(null=True)
    ttft_ms = IntegerField(null=True)
    request_id = TextField(unique=True)
    endpoint = TextField()
    error_code = TextField(null=True)
    requested_model = TextField()
    served_model = TextField(null=True)
    usage = TextField(default="{}")
    terms = TextField(default="{}")
    attempts = TextField(default="[]")
    amounts = added_json("{}")  # {meter: nano-USD}: the lines of the bill

    class Meta:
        table_name = "usage_records"
        indexes = ((("at",), False), (("user_id", "at"), False), (("key_id", "at"), False))
