"""gatewayctl keys: API keys that clients present."""

from __future__ import annotations

from typing import Any

import typer

from db import clock, money
from gatewayctl import context, output, parse, shapes
from gatewayctl.commands._shared import YES, given
from gatewayctl.errors import Usage

app = typer.Typer()
COLUMNS = ("id", "user", "name", "prefix", "status", "age", "last_used_at", "expires_at", "spend", "models")
ID = typer.Argument(..., metavar="ID", help="Number, or prefix such as sk-gw-AbCd1234.")
DAY_MS = 86_400_000


def _show(view: Any) -> None:
    output.record(shapes.key(view))


def _issue(issued: Any) -> None:
    if output.state.quiet and not output.state.json:
        return output.text(issued.text)
    output.record(shapes.issued_key(issued))
    return output.note("The key is shown only now; the database keeps its hash.")


@app.command()
def create(
    user: str = typer.Option(..., "--user", metavar="NAME", help="Whose key it is."),
    name: str | None = typer.Option(None, help="What it is for."),
    model: list[str] = typer.Option([], help="A model it may call (id or alias); repeat. None: all of the user's."),
    expires: str | None = typer.Option(None, metavar="30d|DATE|never", help="Until when it is good."),
    rpm: int | None = typer.Option(None, help="Requests per minute; 0: no limit."),
    tpm: int | None = typer.Option(None, help="Tokens per minute; 0: no limit."),
    max_parallel: int | None = typer.Option(None, help="Requests at the same time; 0: no limit."),
    budget: str | None = typer.Option(None, metavar="USD", help="Most it may spend per period."),
    budget_period: str | None = typer.Option(None, metavar="day|week|month", help="Default: month."),
    metadata: list[str] = typer.Option([], metavar="K=V", help="Kept with the key; repeat."),
    if_not_exists: bool = typer.Option(
        False, "--if-not-exists", help="Accept a key of that user and name; its secret cannot be shown again."
    ),
) -> None:
    """Create a key and print it once. --quiet prints only the key.

    Example: KEY=$(gatewayctl keys create --user alice --name ci --quiet)
    """
    from db import keys

    context.open_database()
    if if_not_exists:
        if name is None:
            raise Usage("--if-not-exists needs --name", "Keys are compared by user and name")
        existing = [view for view in keys.list_all(user) if view.name == name and view.status != "revoked"]
        if existing:
            output.note("It exists already; nothing was changed, and its secret cannot be shown again.")
            return None if output.state.quiet and not output.state.json else _show(existing[0])
    fields = given(
        name=name,
        models=model or None,
        expires_at=parse.expiry_ms(expires, clock.now_ms()),
        rpm=rpm or None,
        tpm=tpm or None,
        max_parallel=max_parallel or None,
        budget_nanos=None if budget is None else money.parse_usd(budget),
        budget_period=budget_period,
        metadata=parse.pairs(metadata, "--metadata") or None,
    )
    return _issue(keys.create(user, **fields))


@app.command("list")
def list_keys(
    user: str | None = typer.Option(None, metavar="NAME", help="Only this user's."),
    all_keys: bool = typer.Option(False, "--all", help="Revoked ones too (JSON has them always)."),
) -> None:
    """List keys with age, last use and spend; never a secret.

    Example: gatewayctl keys list --user alice
    """
    from db import keys

    context.open_database()
    views = keys.list_all(user)
    if not all_keys and not output.state.json:
        views = [view for view in views if view.status != "revoked"]
    now = clock.now_ms()
    rows = [{**shapes.key(view), "age": f"{max(0, now - view.secret_at) // DAY_MS}d"} for view in views]
    output.rows(rows, COLUMNS, right=("id", "age", "spend"), empty="No keys yet. Try: gatewayctl keys create --user NAME")


@app.command()
def show(key: str = ID) -> None:
    """Show a key without its secret.

    Example: gatewayctl keys show 7
    """
    from db import keys

    context.open_database()
    _show(keys.show(key))


@app.command()
def update(
    key: str = ID,
    name: str | None = typer.Option(None, help="What it is for."),
    model: list[str] = typer.Option([], help="The models it may call from now on; 'all' lifts the restriction."),
    expires: str | None = typer.Option(None, metavar="30d|DATE|never", help="Until when it is good."),
    rpm: str | None = typer.Option(None, metavar="N|none", help="Requests per minute."),
    tpm: str | None = typer.Option(None, metavar="N|none", help="Tokens per minute."),
    max_parallel: str | None = typer.Option(None, metavar="N|none", help="Requests at the same time."),
    budget: str | None = typer.Option(None, metavar="USD|none", help="Most it may spend per period."),
    budget_period: str | None = typer.Option(None, metavar="day|week|month", help="The period of the budget."),
    metadata: list[str] = typer.Option([], metavar="K=V", help="Replaces what is kept with the key; repeat."),
) -> None:
    """Change a key's limits; effective on its next request.

    Example: gatewayctl keys update 7 --rpm 60 --budget 20 --budget-period month
    """
    from db import keys

    context.open_database()
    now = clock.now_ms()
    fields = parse.changes(
        name=(name, None),
        models=(model or None, lambda names: None if names == ["all"] else names),
        expires_at=(expires, lambda text: parse.expiry_ms(text, now)),
        rpm=(rpm, parse.optional_number),
        tpm=(tpm, parse.optional_number),
        max_parallel=(max_parallel, parse.optional_number),
        budget_nanos=(budget, parse.optional_usd),
        budget_period=(budget_period, None),
        metadata=(metadata or None, lambda items: parse.pairs(items, "--metadata")),
    )
    if not fields:
        raise Usage("Nothing to change", "See: gatewayctl keys update --help")
    _show(keys.update(key, **fields))


@app.command()
def rotate(
    key: str = ID,
    grace: str | None = typer.Option(None, metavar="24h", help="How long the old secret stays good. Default: 24h."),
    now: bool = typer.Option(False, "--now", help="End the old secret at once: it is known to others."),
) -> None:
    """Give a key a new secret and print it once; id, limits and counters stay.

    Example: gatewayctl keys rotate 7 --grace 24h
    """
    from db import keys

    if now and grace is not None:
        raise Usage("--now and --grace exclude each other", "Give one of them")
    context.open_database()
    _issue(keys.rotate(key, grace_ms=0 if now else parse.duration_s(grace or "24h") * 1000))


@app.command()
def disable(key: str = ID) -> None:
    """Refuse a key until it is enabled again.

    Example: gatewayctl keys disable 7
    """
    from db import keys

    context.open_database()
    _show(keys.set_status(key, "disabled"))


@app.command()
def enable(key: str = ID) -> None:
    """Accept a disabled key again.

    Example: gatewayctl keys enable 7
    """
    from db import keys

    context.open_database()
    _show(keys.set_status(key, "active"))


@app.command()
def revoke(key: str = ID, yes: bool = YES) -> None:
    """Refuse a key for good, from the next request on.

    Example: gatewayctl keys revoke 7 --yes
    """
    from db import keys

    context.open_database()
    view = keys.show(key)
    if view.status != "revoked":
        output.confirm(f"Revoke key {view.id} ({view.prefix}) of {view.user} for good?", yes=yes)
    _show(keys.set_status(key, "revoked"))
