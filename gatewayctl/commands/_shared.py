"""What several nouns share: --if-not-exists, --yes, and dropping options that were not given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer

from db.errors import Conflict, NotFound
from gatewayctl import output

T = TypeVar("T")

IF_NOT_EXISTS = typer.Option(False, "--if-not-exists", help="Accept that it exists; change nothing then.")
YES = typer.Option(False, "--yes", "-y", help="Do not ask.")


def create_or_existing(create: Callable[[], T], existing: Callable[[], T], *, if_not_exists: bool) -> tuple[T, bool]:
    """(the created thing, True), or with `if_not_exists` (the one that is there, False)."""
    try:
        return create(), True
    except Conflict as conflict:
        if not if_not_exists:
            raise
        try:
            found = existing()
        except NotFound:
            raise conflict from None  # another thing has the name
        output.note("It exists already; nothing was changed.")
        return found, False


def note_unenforced(**options: object) -> None:
    """Say of options that were given that nothing acts on them yet: a limit that does not limit must not look like one."""
    names = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if names:
        output.warn(f"{', '.join(names)}: stored, but this version does not enforce it yet.")


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}
