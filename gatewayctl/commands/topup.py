"""`topup`: money for a user's balance, booked once per reference."""

from __future__ import annotations

import typer

from db import ledger
from db.money import format_usd, parse_usd
from gatewayctl import context, output

CONTEXT_SETTINGS = {"ignore_unknown_options": True}  # so that -5 arrives as an amount, and is refused as one


def command(
    user: str = typer.Argument(metavar="USER", help="Whose balance."),
    amount: str = typer.Argument(metavar="AMOUNT", help="USD, more than 0, such as 5.00."),
    ref: str | None = typer.Option(None, "--ref", help="The payment's own id: the same again is booked once."),
    note: str | None = typer.Option(None, "--note", help="A remark for the ledger."),
) -> None:
    """Add money to a user's balance. Safe to repeat with the same --ref.

    Example: gatewayctl topup alice 5.00 --ref invoice-2026-11
    """
    nanos = parse_usd(amount)
    context.open_database()
    posted = ledger.top_up(user, nanos, ref=ref, note=note)
    if posted.replayed:
        output.note(f"The reference {ref!r} was booked before; nothing was added.")
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
