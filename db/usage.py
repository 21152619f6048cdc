"""The usage record: one row per request, written in the transaction that closes its hold (or alone, when refused)."""

from __future__ import annotations

from dataclasses import dataclass

from db.engine import sql, transaction
from db.models import database

_COLUMNS = (
    "at", "user_id", "key_id", "model_id", "provider_id", "status", "http_status", "cost_nanos",
    "upstream_cost_nanos", "charged_nanos", "absorbed_nanos", "input_tokens", "output_tokens", "stream",
    "estimated", "cached", "latency_ms", "ttft_ms", "request_id", "endpoint", "error_code", "requested_model",
    "served_model", "usage", "terms", "attempts", "amounts",
)  # fmt: skip
_INSERT = (
    f"INSERT INTO usage_records ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (request_id) DO "
)
# Clients may choose request ids: a refused request must not stand in the way of the record of one that was charged.
_OF_A_HOLD = f"{_INSERT}UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
_OF_A_REFUSAL = f"{_INSERT}NOTHING"


@dataclass(slots=True)  # not frozen: that would cost microseconds on every request; nobody changes one
class UsageRow:
    """What is known of a request when it ends. `usage`, `terms`, `amounts` are JSON texts; costs are nano-USD."""

    request_id: str
    at: int
    user_id: int
    key_id: int
    endpoint: str
    requested_model: str
    status: str
    http_status: int
    model_id: int | None = None
    provider_id: int | None = None
    served_model: str | None = None
    stream: bool = False
    estimated: bool = False
    cached: bool = False
    cost_nanos: int = 0
    upstream_cost_nanos: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms: int | None = None
    ttft_ms: int | None = None
    error_code: str | None = None
    usage: str = "{}"
    terms: str = "{}"
    attempts: str = "[]"
    amounts: str = "{}"


def insert(row: UsageRow, *, charged_nanos: int, absorbed_nanos: int) -> None:
    """Write the row inside the transaction that closes a hold; it takes the place of a refusal with the same id."""
    database.execute_sql(sql(_OF_A_HOLD), _values(row, charged_nanos, absorbed_nanos))


@transaction
def record(row: UsageRow) -> None:
    """Write the row of a request that was refused before any money was held. Ignored when its id has a row already."""
    database.execute_sql(sql(_OF_A_REFUSAL), _values(row, 0, 0))


def _values(row: UsageRow, charged_nanos: int, absorbed_nanos: int) -> tuple[object, ...]:
    return (
        row.at, row.user_id, row.key_id, row.model_id, row.provider_id, row.status, row.http_status,
        row.cost_nanos, row.upstream_cost_nanos, charged_nanos, absorbed_nanos, row.input_tokens,
        row.output_tokens, int(row.stream), int(row.estimated), int(row.cached), row.latency_ms, row.ttft_ms,
        row.request_id, row.endpoint, row.error_code, row.requested_model, row.served_model, row.usage,
        row.terms, row.attempts, row.amounts,
    )  # fmt: skip
