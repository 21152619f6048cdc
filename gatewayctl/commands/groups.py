"""gatewayctl groups: which users may call which models."""

from __future__ import annotations

from typing import Any

import typer

from db import money
from gatewayctl import context, output, parse, shapes
from gatewayctl.commands._shared import IF_NOT_EXISTS, YES, create_or_existing
from gatewayctl.errors import Usage

app = typer.Typer()
GROUP = typer.Argument(..., metavar="GROUP")
USER = typer.Argument(..., metavar="USER")
MODELS = typer.Argument(..., metavar="MODEL…")


def _show(view: Any) -> None:
    output.record(shapes.group(view), id="name", hide=("id",))


@app.command()
def create(
    name: str = GROUP,
    multiplier: str | None = typer.Option(None, metavar="X", help="Factor on every price, such as 0.9."),
    default: bool = typer.Option(False, "--default", help="Every new user joins it."),
    fair_use: str | None = typer.Option(None, metavar="N/day", help="Requests a day of each member that are not charged."),
    throttle: str | None = typer.Option(None, metavar="TIME", help="One request per this time beyond them. Default: 10m."),
    if_not_exists: bool = IF_NOT_EXISTS,
) -> None:
    """Create a group.

    Example: gatewayctl groups create staff --multiplier 0.5
    """
    from db import groups

    context.open_database()
    ppm = None if multiplier is None else money.parse_multiplier(multiplier)
    view, _ = create_or_existing(
        lambda: groups.create(
            name, is_default=default, multiplier_ppm=ppm, **parse.allowance(fair_use, throttle, removable=False)
        ),
        lambda: groups.show(name),
        if_not_exists=if_not_exists,
    )
    _show(view)


@app.command()
def update(
    name: str = GROUP,
    fair_use: str | None = typer.Option(None, metavar="N/day|none", help="Requests a day of each member that are not charged."),
    throttle: str | None = typer.Option(None, metavar="TIME", help="One request per this time beyond them."),
) -> None:
    """Change a group's allowance; effective on each member's next request.

    Example: gatewayctl groups update everyone --fair-use 200/day --throttle 10m
    """
    from db import groups

    context.open_database()
    fields = parse.allowance(fair_use, throttle, removable=True)
    if not fields:
        raise Usage("Nothing to change", "See: gatewayctl groups update --help")
    _show(groups.update(name, **fields))


@app.command("list")
def list_groups() -> None:
    """List groups with their users and models.

    Example: gatewayctl groups list
    """
    from db import groups

    context.open_database()
    rows = [shapes.group(view) for view in groups.list_all()]
    output.rows(rows, ("name", "default", "multiplier", "users", "models"), id="name", right=("multiplier",))


@app.command()
def show(name: str = GROUP) -> None:
    """Show a group.

    Example: gatewayctl groups show everyone
    """
    from db import groups

    context.open_database()
    _show(groups.show(name))


@app.command()
def delete(name: str = GROUP, yes: bool = YES) -> None:
    """Delete a group: its members lose what only it allowed.

    Example: gatewayctl groups delete staff --yes
    """
    from db import groups

    context.open_database()
    view = groups.show(name)
    output.confirm(f"Delete group {name} with {len(view.users)} user(s)?", yes=yes)
    groups.delete(name)
    _show(view)


@app.command("add-user")
def add_user(group: str = GROUP, user: str = USER) -> None:
    """Put a user into a group.

    Example: gatewayctl groups add-user staff alice
    """
    from db import groups

    context.open_database()
    if not groups.add_user(group, user):
        output.note(f"{user} is in {group} already.")
    _show(groups.show(group))


@app.command("remove-user")
def remove_user(group: str = GROUP, user: str = USER) -> None:
    """Take a user out of a group.

    Example: gatewayctl groups remove-user staff alice
    """
    from db import groups

    context.open_database()
    groups.remove_user(group, user)
    _show(groups.show(group))


@app.command()
def allow(group: str = GROUP, models: list[str] = MODELS) -> None:
    """Let a group's members call models.

    Example: gatewayctl groups allow staff gpt-4o-mini claude-sonnet-4-5
    """
    from db import groups

    context.open_database()
    if not groups.allow(group, models):
        output.note(f"{group} may call them already.")
    _show(groups.show(group))


@app.command()
def deny(group: str = GROUP, models: list[str] = MODELS) -> None:
    """Take models from a group: the next call of one is a 404.

    Example: gatewayctl groups deny everyone gpt-4o-mini
    """
    from db import groups

    context.open_database()
    if not groups.deny(group, models):
        output.note(f"{group} had none of them.")
    _show(groups.show(group))
