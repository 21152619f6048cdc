"""`db`: schema, checks, backup and restore of the gateway's database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from db import backup as backups
from db import checks, engine, migrate
from db.backup import without_password
from gatewayctl import context, output
from gatewayctl.commands._shared import YES
from gatewayctl.findings import report

app = typer.Typer()


@app.command("status")
def status() -> None:
    """Which database this is, how large, and whether its schema is this program's.

    Example: gatewayctl db status
    """
    url = context.bind_database()
    found = migrate.status()
    output.record(
        {
            "url": without_password(url),
            "backend": "sqlite" if engine.is_sqlite() else "postgresql",
            "size_bytes": engine.size_bytes(url),
            "current": found.current,
            "applied": list(found.applied),
            "pending": list(found.pending),
            "unknown": list(found.unknown),
        },
        id="current",
    )


@app.command("migrate")
def run_migrations() -> None:
    """Bring the schema up to this program's. An SQLite file is copied beside itself before it is changed.

    Example: gatewayctl db migrate
    """
    context.bind_database()
    applied = migrate.migrate()
    if not applied:
        output.note("The schema is current; nothing was changed.")
    output.record({"applied": applied, "current": migrate.status().current}, id="current")


@app.command("check")
def check() -> None:
    """Read every page, reference, balance and hold. Changes nothing; exit code 1 when one fails.

    Example: gatewayctl db check
    """
    context.open_database()
    engine.long_statements()
    report([*checks.engine(), *checks.integrity(), *checks.money()])


@app.command("backup")
def backup(
    file: Path = typer.Argument(metavar="FILE"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace FILE when it exists."),
) -> None:
    """Write a consistent copy while the gateway runs (SQLite: a database file; PostgreSQL: a pg_dump archive).

    The master key is not in it: keep master.key too, elsewhere. Without it the stored credentials cannot be read.

    Example: gatewayctl db backup /backup/gateway-2026-11-20.db
    """
    url = context.open_database()
    with output.progress() as bar:
        task = bar.add_task("Copying", total=None) if bar else None

        def progress(done: int, total: int) -> None:
            if bar and task is not None:
                bar.update(task, completed=done, total=total)

        size = backups.write_backup(url, file, overwrite=overwrite, progress=progress)
    output.record({"file": str(file), "size_bytes": size}, id="file")
    output.note("The master key is not in it: keep master.key too, elsewhere.")


@app.command("restore")
def restore(file: Path = typer.Argument(metavar="FILE"), yes: bool = YES) -> None:
    """Replace the database by a backup. Refused while a gateway runs on it; what was there is kept.

    Example: gatewayctl db restore /backup/gateway-2026-11-20.db --yes
    """
    url = context.database_url()
    output.confirm(f"Replacing the database at {without_password(url)} by {file}", yes=yes)
    kept = backups.restore(url, file)
    context.state.opened = True
    result: dict[str, Any] = {"restored": str(file), "kept": None if kept is None else str(kept)}
    result["migrations_pending"] = list(migrate.status().pending)
    output.record(result, id="restored")
    if result["migrations_pending"]:
        output.note("The backup is of an older version. Run: gatewayctl db migrate")
