"""`ledger`: the entries behind every balance, their verification, and refunds of charges."""

from __future__ import annotations

from typing import Any

import typer

from db import checks, clock, ledger
from db.ledger import EntryView
from db.money import format_usd, parse_usd
from gatewayctl import context, output, parse
from gatewayctl.commands._shared import YES
from gatewayctl.errors import FAILED

app = typer.Typer()
COLUMNS = ("id", "at", "user", "kind", "amount", "balance_after", "ref", "request_id", "note")


def _row(entry: EntryView) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "user": entry.user,
        "kind": entry.kind,
        "amount": format_usd(entry.amount_nanos),
        "balance_after": format_usd(entry.balance_after_nanos),
        "ref": entry.ref,
        "request_id": entry.request_id,
        "at": clock.iso(entry.at),
        "note": entry.note,
    }


@app.command("list")
def list_entries(
    user: str | None = typer.Option(None, "--user", help="Of one user only."),
    since: str | None = typer.Option(None, "--since", metavar="T", help="7d, 24h, 2026-11-01 or an ISO 8601 instant."),
    limit: int = typer.Option(100, "--limit", min=1, max=1_000_000, help="How many."),
) -> None:
    """Top-ups, charges, adjustments and refunds, the newest first.

    Example: gatewayctl ledger list --user alice --since 7d
    """
    start = None if since is None else parse.instant_ms(since, clock.now_ms(), past=True)
    context.open_database()
    rows = [_row(entry) for entry in ledger.list_entries(user=user, since=start, limit=limit)]
    output.rows(rows, COLUMNS, right=("amount", "balance_after"), empty="No entries.")


@app.command("verify")
def verify() -> None:
    """Check that the entries explain every balance and that every open hold has a living owner. Exit code 1 when not.

    Example: gatewayctl ledger verify --json
    """
    context.open_database()
    found = checks.verify_ledger()
    output.record(
        {
            "ok": found.ok,
            "users": found.users,
            "entries": found.entries,
            "drift": list(found.drift),
            "stale_holds": list(found.stale_holds),
        },
        id="ok",
    )
    if found.stale_holds:
        output.note("Stale holds are charged or released within seconds when the gateway starts.")
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command("refund")
def refund(
    request_id: str = typer.Argument(metavar="REQUEST_ID", help="The request whose charge is given back."),
    amount: str = typer.Argument(metavar="AMOUNT", help="USD, at most what is left of the charge."),
    reason: str = typer.Option(..., "--reason", help="Why; it stands in the ledger."),
    ref: str | None = typer.Option(None, "--ref", help="An id of your own; default: one refund per request."),
    yes: bool = YES,
) -> None:
    """Give back a charge in whole or in part, as a new entry. Safe to repeat with the same --ref.

    Example: gatewayctl ledger refund req_01h0000000 0.25 --reason "empty answer" --yes
    """
    nanos = parse_usd(amount)
    context.open_database()
    output.confirm(f"Refunding {format_usd(nanos)} USD of request {request_id}", yes=yes)
    posted = ledger.refund(request_id, nanos, ref=ref or f"refund {request_id}", reason=reason)
    if posted.replayed:
        output.note("This refund was booked before; nothing was added.")
    output.record(
        {
            "user": posted.user,
            "amount": format_usd(posted.amount_nanos),
            "balance": format_usd(posted.balance_nanos),
            "entry_id": str(posted.entry_id),
            "ref": posted.ref,
            "replayed": posted.replayed,
        },
        id="entry_id",
    )
