"""gatewayctl limits: what users and keys have used of their limits."""

from __future__ import annotations

from typing import Any

import typer

from gatewayctl import context, output, shapes
from gatewayctl.commands._shared import YES

app = typer.Typer()
COLUMNS = ("scope", "user", "id", "requests", "rpm", "tokens", "tpm", "parallel", "max_parallel", "resets_at", "fair_use")
NUMBERS = ("requests", "rpm", "tokens", "tpm", "parallel", "max_parallel")
USER = typer.Option(None, "--user", metavar="NAME", help="A user and its keys.")
KEY = typer.Option(None, "--key", metavar="ID", help="A key: number or prefix.")


def _rows(found: list[Any]) -> None:
    output.rows([shapes.limits(one) for one in found], COLUMNS, right=NUMBERS, empty="Nobody has a limit.")


def _redis() -> Any:
    """The windows in Redis, None when the database counts."""
    url = context.settings().redis_url
    if not url:
        return None
    from db.redis_keys import Windows

    return Windows(url)


@app.command()
def show(user: str | None = USER, key: str | None = KEY) -> None:
    """Show what is used of limits per minute, of parallel requests and of fair use, and when it begins anew.

    Example: gatewayctl limits show --user alice
    """
    from db import limit_report

    context.open_database()
    redis = _redis()
    _rows(limit_report.show(user=user, key=key, windows=redis or limit_report.in_database))


@app.command()
def reset(user: str | None = USER, key: str | None = KEY, yes: bool = YES) -> None:
    """Let a key, or a user with all its keys and its allowance of today, begin anew.

    Example: gatewayctl limits reset --user alice --yes
    """
    from db import limit_report

    context.open_database()
    if user is not None:
        output.confirm(f"Begin the limits and the allowance of {user} anew?", yes=yes)
    found = limit_report.reset(user=user, key=key)
    redis = _redis()
    if redis is not None:
        for one in found:
            redis.forget(one.scope, one.id)
    _rows(found)
