"""The ledger and the holds: the only tables that say what somebody owes."""

from __future__ import annotations

from peewee import SQL, BigAutoField, BigIntegerField, ForeignKeyField, TextField

from db.fields import added_number, amount, flag, instant, one_of, short_text
from db.models.access import Key, User
from db.models.base import Table

LEDGER_KINDS = ("topup", "charge", "adjustment", "refund")
HOLD_STATES = ("open", "settled", "released", "expired")


class LedgerEntry(Table):
    """Append-only: triggers refuse UPDATE and DELETE. `ref` is unique per user, `request_id` over all charges."""

    id = BigAutoField()
    user = ForeignKeyField(User, column_name="user_id", index=False)
    kind = one_of("kind", LEDGER_KINDS)
    amount_nanos = BigIntegerField()
    balance_after_nanos = BigIntegerField()
    at = instant()
    request_id = short_text("request_id", 160, null=True)
    ref = short_text("ref", 200, null=True)
    note = short_text("note", 1000, null=True)

    class Meta:
        table_name = "ledger_entries"
        indexes = ((("user", "at"), False),)


LedgerEntry.add_index(
    LedgerEntry.index(
        LedgerEntry.request_id,
        unique=True,
        where=SQL("kind = 'charge'"),
        name="ledger_one_charge_per_request",
    )
)
LedgerEntry.add_index(LedgerEntry.index(LedgerEntry.request_id, where=SQL("kind = 'refund'"), name="ledger_refunds"))
LedgerEntry.add_index(
    LedgerEntry.index(
        LedgerEntry.user,
        LedgerEntry.ref,
        unique=True,
        where=SQL("ref IS NOT NULL"),
        name="ledger_one_entry_per_ref",
    )
)


class Hold(Table):
    """Money set aside for one request: open, then once settled, released or expired.

    `delivered` is the watermark: 0 until the first output byte may reach the client, then at least 1 and about the tokens
    delivered. `terms` is the price list and the multipliers that this request is charged by. `ticket` numbers the holds that
    a process asked for. `limit_…` is what it took of the key's window and of its parallel requests; `fair_use` is 0, or 1 when
    it took a request of the day's allowance, 2 the slot of a throttled user, whose last request was at `fair_use_before_at`.
    Model and provider are plain numbers: a reference would have to be checked for every request, and every hold there ever
    was be looked through to delete a model.
    """

    request_id = TextField(primary_key=True)
    user = ForeignKeyField(User, column_name="user_id", index=False)
    key = ForeignKeyField(Key, column_name="key_id", index=False)
    model_id = BigIntegerField(null=True)
    provider_id = BigIntegerField(null=True)
    state = one_of("state", HOLD_STATES, default="open")
    amount_nanos = amount("amount_nanos")
    budgeted = flag("budgeted", default=0)
    input_estimate = BigIntegerField(default=0)
    delivered = BigIntegerField(default=0)
    stream = flag("stream", default=0)
    placed_at = instant()
    closed_at = instant(null=True)
    process_id = BigIntegerField()
    ticket = BigIntegerField(default=0)
    requested_model = TextField()
    endpoint = TextField()
    terms = TextField()
    limit_window_at = instant(null=True)
    limit_tokens = added_number(0)
    limit_parallel = added_number(0)
    fair_use = added_number(0, "fair_use IN (0, 1, 2)")
    fair_use_before_at = added_number(0)

    class Meta:
        table_name = "holds"


Hold.add_index(Hold.index(Hold.process_id, where=SQL("state = 'open'"), name="holds_open"))
