"""Usage as rows for tables, JSON and exports: one place for the names of the keys."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from db.clock import iso
from db.meters import METERS, format_price, price_key
from db.money import format_usd
from db.reports import Totals
from db.request_log import UsageDetail, UsageView

if TYPE_CHECKING:  # what brings the daemon along is imported by who prices
    from db.ledger import Posted
    from gatewayctl.recompute import Again

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


def price_lines(detail: UsageDetail) -> tuple[list[PriceLine], int]:
    """The lines of a bill by the terms that stand on the record, with the amounts that do, and their sum in nano-USD."""
    from daemon.domain.pricing import Terms, price
    from daemon.domain.usage import Usage

    bill = price(Usage(detail.view.usage, tier=detail.view.service_tier), Terms.from_json(json.dumps(detail.terms)))
    amounts = detail.amounts or {line.meter: line.amount_nanos for line in bill.lines}
    lines = [
        PriceLine(
            meter=line.meter,
            count=line.count,
            price=format_price(line.key, line.price_nanos),
            unit=price_unit(line.key),
            multiplier=format((Decimal(line.multiplier).scaleb(-18) * Decimal(line.tier_ppm).scaleb(-6)).normalize(), "f"),
            amount=format_usd(amounts.get(line.meter, 0)),
        )
        for line in bill.lines
    ]
    return lines, sum(amounts.values())


def price_unit(key: str) -> str:
    """'per 1M tokens', 'per image', 'per 1M tokens above 200000 input tokens', 'per image 1024x1024/high'."""
    found = price_key(key)
    unit = f"per 1M {found.meter.unit}s" if found.meter.per_million else f"per {found.meter.unit}"
    if found.above:
        return f"{unit} above {found.above} input tokens"
    return f"{unit} {found.variant}" if found.variant else unit


def detail_row(detail: UsageDetail) -> dict[str, Any]:
    """One request with its price lines, attempts and ledger entry."""
    lines, priced = price_lines(detail) if detail.terms else ([], 0)
    return log_row(detail.view) | {
        "lines": [line.row() for line in lines],
        "lines_cost": format_usd(priced),
        "capped": format_usd(max(0, priced - detail.view.cost_nanos)) if detail.view.estimated else "0",
        "attempts": detail.attempts,
        "ledger_entry_id": None if detail.ledger_entry_id is None else str(detail.ledger_entry_id),
    }


class Recomputed:
    """What pricing again found: rows of what differs or cannot be priced, and sums over everything looked at."""

    def __init__(self) -> None:
        self.records = 0
        self.rows: list[dict[str, Any]] = []
        self.differing: list[Again] = []
        self._row_of: dict[str, dict[str, Any]] = {}
        self._cost = self._new_cost = self._credit = self._charge = self._booked = 0

    def add(self, again: Again) -> None:
        """Look at one request."""
        record, new = again.record, again.cost_nanos
        self.records += 1
        self._cost += record.cost_nanos
        self._new_cost += record.cost_nanos if new is None else new
        if not again.differs and not again.problem:
            return
        due = again.due_nanos - record.charged_nanos
        self._credit += max(0, -due)
        self._charge += max(0, due)
        row = {
            "at": iso(record.at),
            "request_id": record.request_id,
            "user": record.user,
            "model": record.model,
            "cost": format_usd(record.cost_nanos),
            "charged": format_usd(record.charged_nanos),
            "new_cost": None if new is None else format_usd(new),
            "difference": format_usd(due),
            "booked": None,
            "note": again.problem or None,
        }
        self.rows.append(row)
        self._row_of[record.request_id] = row
        if again.differs:
            self.differing.append(again)

    def booked(self, again: Again, posted: Posted | None, problem: str) -> None:
        """What became of one of them."""
        row = self._row_of[again.record.request_id]
        row["booked"] = format_usd(posted.amount_nanos) if posted is not None else "0"
        row["note"] = problem or (None if posted is not None else "nothing left to book")
        self._booked += posted.amount_nanos if posted is not None else 0

    def summary(self) -> dict[str, Any]:
        """The sums. `credit` and `charge` are what users get and pay; `booked` what changed on balances just now."""
        return {
            "records": self.records,
            "differing": len(self.differing),
            "not_priced": len(self.rows) - len(self.differing),
            "cost": format_usd(self._cost),
            "new_cost": format_usd(self._new_cost),
            "credit": format_usd(self._credit),
            "charge": format_usd(self._charge),
            "booked": format_usd(self._booked),
        }
