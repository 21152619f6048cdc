"""Usage as rows for tables, JSON and exports: one place for the names of the keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from db.clock import iso
from db.meters import METERS, format_price, price_key
from db.money import format_usd
from db.reports import Totals
from db.request_log import UsageDetail, UsageView

LOG_KEYS = (
    "request_id", "at", "user", "key_id", "provider", "model", "served_model", "endpoint", "stream", "status",
    "http_status", "usage", "cost", "upstream_cost", "charged", "estimated", "cached", "latency_ms", "ttft_ms",
    "error_code", "absorbed", "service_tier",
)  # fmt: skip
USAGE_COLUMNS = tuple(f"usage_{meter}" for meter in METERS)
FLAT_COLUMNS = (*(name for name in LOG_KEYS if name != "usage"), *USAGE_COLUMNS)


def totals_row(totals: Totals) -> dict[str, Any]:
    """The sums under the names that all of `usage` shares."""
    return {
        "requests": totals.requests,
        "errors": totals.errors,
        "refused": totals.refused,
        "disconnected": totals.disconnected,
        "cached": totals.cached,
        "estimated": totals.estimated,
        "input_tokens": totals.input_tokens,
        "output_tokens": totals.output_tokens,
        "cost": format_usd(totals.cost_nanos),
        "upstream_cost": format_usd(totals.upstream_cost_nanos),
        "charged": format_usd(totals.charged_nanos),
        "absorbed": format_usd(totals.absorbed_nanos),
    }


def log_row(view: UsageView) -> dict[str, Any]:
    """One request; the contract's keys in the contract's order, then what is more."""
    texts = {
        "at": iso(view.at),
        "key_id": str(view.key_id),
        "cost": format_usd(view.cost_nanos),
        "upstream_cost": format_usd(view.upstream_cost_nanos),
        "charged": format_usd(view.charged_nanos),
        "absorbed": format_usd(view.absorbed_nanos),
    }
    return {name: texts[name] if name in texts else getattr(view, name) for name in LOG_KEYS}


def flat_row(view: UsageView) -> dict[str, Any]:
    """The same for CSV and Parquet: one column per meter instead of `usage`."""
    row = log_row(view)
    counts = dict.fromkeys(METERS, 0)
    for key, count in view.usage.items():
        meter = key.partition("/")[0]  # a column has no room for variants
        if meter in counts:
            counts[meter] += count
    return row | {f"usage_{meter}": count for meter, count in counts.items()}


@dataclass(frozen=True, slots=True)
class PriceLine:
    """How one meter made up the cost: count x price x multiplier; the amounts sum to the cost exactly."""

    meter: str
    count: int
    price: str
    unit: str
    multiplier: str
    amount: str

    def row(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("meter", "count", "price", "unit", "multiplier", "amount")}


def price_lines(usage: dict[str, int], tier: str | None, terms: dict[str, Any]) -> tuple[list[PriceLine], int]:
    """The lines of a bill by the terms that stand on the record, and their sum in nano-USD."""
    from daemon.domain.pricing import Terms, price
    from daemon.domain.usage import Usage

    bill = price(Usage(usage, tier=tier), Terms.from_json(json.dumps(terms)))
    lines = [
        PriceLine(
            meter=line.meter,
            count=line.count,
            price=format_price(line.key, line.price_nanos),
            unit=price_unit(line.key),
            multiplier=format((Decimal(line.multiplier).scaleb(-18) * Decimal(line.tier_ppm).scaleb(-6)).normalize(), "f"),
            amount=format_usd(line.amount_nanos),
        )
        for line in bill.lines
    ]
    return lines, bill.cost_nanos


def price_unit(key: str) -> str:
    """'per 1M tokens', 'per image', 'per 1M tokens above 200000 input tokens', 'per image 1024x1024/high'."""
    found = price_key(key)
    unit = f"per 1M {found.meter.unit}s" if found.meter.per_million else f"per {found.meter.unit}"
    if found.above:
        return f"{unit} above {found.above} input tokens"
    return f"{unit} {found.variant}" if found.variant else unit


def detail_row(detail: UsageDetail) -> dict[str, Any]:
    """One request with its price lines, attempts and ledger entry."""
    lines, priced = price_lines(detail.view.usage, detail.view.service_tier, detail.terms) if detail.terms else ([], 0)
    return log_row(detail.view) | {
        "lines": [line.row() for line in lines],
        "lines_cost": format_usd(priced),
        "attempts": detail.attempts,
        "ledger_entry_id": None if detail.ledger_entry_id is None else str(detail.ledger_entry_id),
    }
