"""Usage records: one row per request id, and the row of a hold outranks that of a refusal."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from db import ledger, usage
from db.models import UsageRecord
from db.usage import UsageRow
from tests.support import hot_sql
from tests.support.ledger_text import play
from tests.support.records import NOON

STATEMENTS = hot_sql.statements(usage)
ROW = UsageRow(
    request_id="q1", at=NOON, user_id=1, key_id=2, endpoint="/v1/chat/completions", requested_model="gpt", status="refused",
    http_status=402, error_code="insufficient_balance",
)  # fmt: skip
FULL = replace(
    ROW, model_id=3, provider_id=4, served_model="gpt-1", stream=True, estimated=True, cached=True, cost_nanos=5,
    upstream_cost_nanos=6, input_tokens=7, output_tokens=8, latency_ms=9, ttft_ms=10, usage='{"input":7}', terms='{"a":1}',
    attempts="[1]",
)  # fmt: skip


def _stored() -> list[dict[str, object]]:
    return list(UsageRecord.select().order_by(UsageRecord.id).dicts())


def test_every_field_lands_in_its_own_column(database: str) -> None:
    """Each field has a value of its own here, so a wrong order of columns cannot hide."""
    usage.insert(FULL, charged_nanos=11, absorbed_nanos=12)
    [row] = _stored()
    del row["id"]
    expected = {field.name: getattr(FULL, field.name) for field in fields(UsageRow)}
    assert row == {**expected, "charged_nanos": 11, "absorbed_nanos": 12}
    values = [value for value in row.values() if not isinstance(value, bool | str) and value != 1]
    assert len(set(values)) == len(values)


def test_a_refusal_is_recorded_once_and_without_a_charge(database: str) -> None:
    usage.record(replace(ROW, cost_nanos=0))
    usage.record(replace(ROW, status="error"))
    [row] = _stored()
    assert (row["status"], row["charged_nanos"], row["absorbed_nanos"], row["usage"], row["attempts"]) == (
        "refused", 0, 0, "{}", "[]",
    )  # fmt: skip


@pytest.mark.parametrize("order", ["refused first", "refused meanwhile", "refused afterwards"])
def test_a_refusal_with_the_id_of_a_charged_request_hides_nothing(database: str, order: str) -> None:
    """Clients may choose request ids: whoever sends one twice must not keep a charge out of the usage log."""
    book = play("user alice\ntop-up alice 1000")
    refusal = replace(ROW, user_id=book.id_of("alice"), key_id=book.key_of("alice"))
    if order == "refused first":
        usage.record(refusal)
    book.run("place q1 alice 500")
    if order == "refused meanwhile":
        usage.record(refusal)
    book.run("settle q1 300")
    if order == "refused afterwards":
        usage.record(refusal)
    [row] = _stored()
    assert (row["status"], row["charged_nanos"], row["error_code"], row["input_tokens"]) == ("ok", 300, None, 7)
    assert ledger.verify().drift == ()


@pytest.mark.parametrize("name", STATEMENTS)
def test_hot_sql_fits_the_tables(name: str, database: str) -> None:
    hot_sql.check_columns(STATEMENTS[name])
    hot_sql.check_plan(STATEMENTS[name])
