"""Rows for tests of reports: users, keys, models, providers and usage records, by name."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from db.models import CatalogModel, Key, KeySecret, Price, Provider, User
from db.usage import UsageRow, insert

HOUR = 3_600_000
DAY = 86_400_000
NOON = 20_777 * DAY + 12 * HOUR  # 2026-11-20T12:00:00Z
TERMS = {"input": [600_000_000, 1_000_000, 1_000_000, 1_000_000], "output": [2_400_000_000, 1_000_000, 1_000_000, 1_000_000]}

_numbers = count(1)


def user(name: str, **columns: Any) -> int:
    """A user; returns its id."""
    return int(User.insert(name=name, created_at=NOON - 30 * DAY, **columns).execute())


def key(user_id: int, name: str = "", **columns: Any) -> int:
    """A key whose secret nobody knows; returns its id."""
    made = int(Key.insert(user=user_id, name=name, created_at=NOON - 30 * DAY, **columns).execute())
    KeySecret.insert(public_id=f"{made:08}", key=made, digest=b"-", created_at=NOON - 30 * DAY).execute()
    return made


def provider(slug: str, **columns: Any) -> int:
    """A provider; returns its id."""
    row = {"slug": slug, "name": slug.title(), "protocol": "openai", "created_at": NOON, **columns}
    return int(Provider.insert(**row).execute())


def model(public_id: str, **prices: int) -> int:
    """A model with prices in nano-USD per million; returns its id."""
    found = int(CatalogModel.insert(public_id=public_id, display_name=public_id, created_at=NOON).execute())
    for meter, nanos in prices.items():
        Price.insert(model=found, meter=meter, price_nanos=nanos, valid_from_at=0, source="test").execute()
    return found


def usage(
    at: int = NOON, *, user_id: int = 1, key_id: int = 1, cost: int = 0, charged: int | None = None, **columns: Any
) -> str:
    """A usage record; returns its request id. `cost` is in nano-USD and charged whole unless told otherwise."""
    row: dict[str, Any] = {
        "request_id": f"req-{next(_numbers)}",
        "endpoint": "/v1/chat/completions",
        "requested_model": "gpt-4o-mini",
        "served_model": "gpt-4o-mini",
        "status": "ok",
        "http_status": 200,
        "input_tokens": 10,
        "output_tokens": 5,
        "upstream_cost_nanos": cost,
        "usage": json.dumps({"input": 10, "output": 5}),
        "terms": json.dumps(TERMS),
        **columns,
    }
    charged = cost if charged is None else charged
    insert(
        UsageRow(at=at, user_id=user_id, key_id=key_id, cost_nanos=cost, **row),
        charged_nanos=charged,
        absorbed_nanos=cost - charged,
    )
    return str(row["request_id"])
