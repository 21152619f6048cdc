"""`audit`: who changed what, when, from what to what."""

from __future__ import annotations

import typer

from db import audit, clock
from gatewayctl import context, output

app = typer.Typer()


@app.command("list")
def list_entries(
    limit: int = typer.Option(100, "--limit", min=1, max=1_000_000, help="How many."),
) -> None:
    """Changes by commands and by the gateway itself, the newest first. No secret stands in them.

    Example: gatewayctl audit list --limit 20
    """
    context.open_database()
    rows = [
        {
            "at": clock.iso(entry.at),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "before": entry.before,
            "after": entry.after,
        }
        for entry in audit.entries(limit)
    ]
    output.rows(rows, ("at", "actor", "action", "subject", "before", "after"), id="at", empty="No changes yet.")
