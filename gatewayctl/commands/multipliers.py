"""gatewayctl multipliers: price factors for a model, user or group."""

from __future__ import annotations

import typer

from db import money
from gatewayctl import context, output, shapes
from gatewayctl.errors import Usage

app = typer.Typer()
MODEL = typer.Option(None, metavar="M", help="A model, by id or alias.")
USER = typer.Option(None, metavar="U", help="A user.")
GROUP = typer.Option(None, metavar="G", help="A group.")
METER = typer.Option("*", metavar="METER", help="Only this meter, such as output; default: every one.")


def _subject(model: str | None, user: str | None, group: str | None) -> tuple[str, str]:
    named = [(scope, name) for scope, name in (("model", model), ("user", user), ("group", group)) if name]
    if len(named) != 1:
        raise Usage("Give exactly one of --model, --user and --group", "Example: --user alice")
    return named[0]


@app.command("list")
def list_multipliers() -> None:
    """List every factor that was set; all others are 1.

    Example: gatewayctl multipliers list
    """
    from db import multipliers

    context.open_database()
    rows = [shapes.multiplier(view) for view in multipliers.list_all()]
    columns = ("scope", "subject", "meter", "multiplier")
    output.rows(rows, columns, id="subject", right=("multiplier",), empty="Every multiplier is 1.")


@app.command("set")
def set_multiplier(
    value: str = typer.Argument(..., metavar="X", help="1.25 adds a quarter; 0 makes it free."),
    model: str | None = MODEL,
    user: str | None = USER,
    group: str | None = GROUP,
    meter: str = METER,
) -> None:
    """Set a factor; effective on the next request. A price is multiplied by the user's, group's and model's factor.

    Example: gatewayctl multipliers set --user alice 1.25

    Example: gatewayctl multipliers set --model gpt-4o-mini 2 --meter output
    """
    from db import multipliers

    scope, subject = _subject(model, user, group)
    ppm = money.parse_multiplier(value)
    context.open_database()
    output.record(shapes.multiplier(multipliers.set_for(scope, subject, ppm, meter)), id="multiplier")


@app.command()
def unset(
    model: str | None = MODEL,
    user: str | None = USER,
    group: str | None = GROUP,
    meter: str = METER,
) -> None:
    """Remove a factor: it is 1 again.

    Example: gatewayctl multipliers unset --user alice
    """
    from db import multipliers

    scope, subject = _subject(model, user, group)
    context.open_database()
    output.record(shapes.multiplier(multipliers.unset(scope, subject, meter)), id="multiplier")
