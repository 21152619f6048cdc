"""gatewayctl users: people and programs that own a balance."""

from __future__ import annotations

from typing import Any

import typer

from db import money
from gatewayctl import context, output, parse, shapes
from gatewayctl.commands._shared import IF_NOT_EXISTS, YES, create_or_existing, given

app = typer.Typer()
COLUMNS = ("name", "status", "groups", "multiplier", "balance", "held", "available", "email")
MONEY = ("multiplier", "balance", "held", "available")

NAME = typer.Argument(..., metavar="NAME")


def _show(view: Any) -> None:
    shape = shapes.user(view)
    if view.fair_use.limit is None and not output.state.json:
        shape["fair_use"] = None  # no allowance: purely prepaid
    output.record(shape, id="name", hide=("id",))


@app.command()
def create(
    name: str = NAME,
    email: str | None = typer.Option(None, help="Where to reach the owner."),
    group: list[str] = typer.Option([], help="A group to join beside the default ones; repeat."),
    multiplier: str | None = typer.Option(None, metavar="X", help="Factor on every price, such as 1.2."),
    fair_use: str | None = typer.Option(
        None, metavar="N/day|none", help="Requests a day that are not charged. Default: the setting default_fair_use."
    ),
    throttle: str | None = typer.Option(None, metavar="TIME", help="One request per this time beyond them."),
    credit_limit: str | None = typer.Option(None, metavar="USD", help="How far the balance may go below 0."),
    rpm: int | None = typer.Option(None, help="Requests per minute, all keys together."),
    if_not_exists: bool = IF_NOT_EXISTS,
) -> None:
    """Create a user. New users join every default group.

    Example: gatewayctl users create alice --email alice@example.org --group staff
    """
    from db import users

    context.open_database()
    fields = given(
        email=email,
        rpm=rpm or None,
        credit_limit_nanos=None if credit_limit is None else money.parse_usd(credit_limit),
        multiplier_ppm=None if multiplier is None else money.parse_multiplier(multiplier),
    )
    fields |= parse.allowance(fair_use or context.settings().default_fair_use or None, throttle, removable=True)
    view, _ = create_or_existing(
        lambda: users.create(name, groups=group, **fields),
        lambda: users.show(name),
        if_not_exists=if_not_exists,
    )
    _show(view)


@app.command("list")
def list_users(
    deleted: bool = typer.Option(False, "--deleted", help="Deleted users too."),
) -> None:
    """List users.

    Example: gatewayctl users list --json
    """
    from db import users

    context.open_database()
    rows = [shapes.user(view) for view in users.list_all(deleted=deleted)]
    output.rows(rows, COLUMNS, id="name", right=MONEY, empty="No users yet. Try: gatewayctl users create alice")


@app.command()
def show(name: str = NAME) -> None:
    """Show a user: groups, money, limits, fair use.

    Example: gatewayctl users show alice
    """
    from db import users

    context.open_database()
    _show(users.show(name))


@app.command()
def update(
    name: str = NAME,
    email: str | None = typer.Option(None, help="'none' removes it."),
    multiplier: str | None = typer.Option(None, metavar="X", help="Factor on every price."),
    fair_use: str | None = typer.Option(None, metavar="N/day|none", help="Requests a day that are not charged."),
    throttle: str | None = typer.Option(None, metavar="TIME", help="One request per this time beyond them."),
    credit_limit: str | None = typer.Option(None, metavar="USD", help="How far the balance may go below 0."),
    rpm: str | None = typer.Option(None, metavar="N|none", help="Requests per minute, all keys together."),
) -> None:
    """Change a user; effective on the next request.

    Example: gatewayctl users update alice --fair-use 200/day --throttle 10m
    """
    from db import users

    context.open_database()
    fields = parse.changes(
        email=(email, lambda text: None if text.lower() == "none" else text),
        rpm=(rpm, parse.optional_number),
        credit_limit_nanos=(credit_limit, money.parse_usd),
        multiplier_ppm=(multiplier, money.parse_multiplier),
    )
    fields |= parse.allowance(fair_use, throttle, removable=True)
    _show(users.update(name, **fields))


@app.command()
def suspend(name: str = NAME) -> None:
    """Refuse every request of a user (403) from now on; running ones finish.

    Example: gatewayctl users suspend alice
    """
    from db import users

    context.open_database()
    _show(users.set_status(name, "suspended"))


@app.command()
def activate(name: str = NAME) -> None:
    """Let a suspended user call again.

    Example: gatewayctl users activate alice
    """
    from db import users

    context.open_database()
    _show(users.set_status(name, "active"))


@app.command()
def delete(name: str = NAME, yes: bool = YES) -> None:
    """Delete a user: keys are revoked, groups left, the name is free; ledger and usage stay.

    Example: gatewayctl users delete alice --yes
    """
    from db import users

    context.open_database()
    view = users.show(name)
    output.confirm(f"Delete {name} with a balance of {money.format_usd(view.balance_nanos)} USD?", yes=yes)
    _show(users.delete(name))
