"""gatewayctl init: create what a gateway needs."""

from __future__ import annotations

import typer

from gatewayctl import output


def command(
    demo: bool = typer.Option(False, "--demo", help="Also a demo provider and the model demo-chat."),
) -> None:
    """Create the home, the database, the master key and the default group. Again: changes nothing.

    Example: gatewayctl init --demo
    """
    from db.backup import without_password
    from gatewayctl.setup import initialise

    done = initialise(demo=demo)
    shape = {
        "home": str(done.home),
        "database": without_password(done.database_url),
        "created": done.made,
    }
    output.record(shape, id="home")
    if done.made:
        output.note("Next: gatewayctl providers add openai, or: gatewayctl quickstart")
    else:
        output.note("Everything was there; nothing was changed.")
