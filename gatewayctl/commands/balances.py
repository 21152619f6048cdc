"""`balances`: what users have, hold and may spend; corrections by hand."""

from __future__ import annotations

from typing import Any

import typer

from db import ledger, users
from db.money import format_usd, parse_usd
from db.users import UserView
from gatewayctl import context, output
from gatewayctl.commands._shared import YES

app = typer.Typer()
COLUMNS = ("user", "balance", "held", "available")


def _row(view: UserView) -> dict[str, Any]:
    return {
        "user": view.name,
        "balance": format_usd(view.balance_nanos),
        "held": format_usd(view.held_nanos),
        "available": format_usd(view.available_nanos),
        "currency": "USD",
    }


@app.command("list")
def list_balances() -> None:
    """Every user's balance, what running requests hold of it, and what may still be spent (credit limit included).

    Example: gatewayctl balances list
    """
    context.open_database()
    rows = [_row(view) for view in users.list_all()]
    output.rows(rows, COLUMNS, id="user", right=COLUMNS[1:], empty="No users yet. Run: gatewayctl users create NAME")


@app.command("show")
def show(user: str = typer.Argument(metavar="USER")) -> None:
    """One user's balance.

    Example: gatewayctl balances show alice --json
    """
    context.open_database()
    output.record(_row(users.show(user)), id="balance")


@app.command("adjust", context_settings={"ignore_unknown_options": True})
def adjust(
    user: str = typer.Argument(metavar="USER"),
    amount: str = typer.Argument(metavar="±AMOUNT", help="USD to add, or with a minus to take away."),
    reason: str = typer.Option(..., "--reason", help="Why; it stands in the ledger."),
    yes: bool = YES,
) -> None:
    """Correct a balance by hand. It never passes below what is held or the credit limit.

    Example: gatewayctl balances adjust alice -2.50 --reason "double payment" --yes
    """
    nanos = parse_usd(amount)
    context.open_database()
    before = users.show(user)
    output.confirm(
        f"Changing the balance of {user} from {format_usd(before.balance_nanos)} by {format_usd(nanos)} USD", yes=yes
    )
    posted = ledger.adjust(user, nanos, reason=reason)
    output.record(
        {
            "user": posted.user,
            "amount": format_usd(posted.amount_nanos),
            "balance": format_usd(posted.balance_nanos),
            "entry_id": str(posted.entry_id),
        },
        id="entry_id",
    )
