"""gatewayctl catalog: models, prices, limits and features as one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from gatewayctl import context, output
from gatewayctl.errors import Usage

app = typer.Typer()
FILE = typer.Argument(..., metavar="FILE", help="model_catalog.json; - for standard input.")
MAX_BYTES = 32 * 1024 * 1024


def _read(file: str) -> str:
    import sys

    try:
        text = sys.stdin.read(MAX_BYTES + 1) if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file} cannot be read", "Give a JSON file, or - for standard input") from error
    if len(text) > MAX_BYTES:
        raise Usage(f"{file} is larger than {MAX_BYTES // 1024 // 1024} MiB", "Split it")
    return text


@app.command("import")
def import_catalog(
    file: str = FILE,
    prune: bool = typer.Option(False, "--prune", help="Delete models that the file does not name."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would change; change nothing."),
) -> None:
    """Add and update models from a file, all or nothing. What the file does not say of a model stays as it is.

    Example: gatewayctl catalog import model_catalog.json --dry-run
    """
    from db import catalog_file

    context.open_database()
    entries = catalog_file.parse(_read(file))
    changes = catalog_file.apply(entries, prune=prune, dry_run=dry_run)
    rows: list[dict[str, Any]] = [
        {"id": change.id, "action": change.action, "fields": list(change.fields)} for change in changes
    ]
    if not output.state.json:
        kept = sum(row["action"] == "keep" for row in rows)
        output.note(f"{len(rows) - kept} model(s) {'would change' if dry_run else 'changed'}, {kept} kept.")
        rows = [row for row in rows if row["action"] != "keep"]
    output.rows(rows, ("id", "action", "fields"), empty="Nothing to change.")


@app.command("export")
def export_catalog(
    file: str | None = typer.Argument(None, metavar="[FILE]", help="Where to; default: stdout."),
) -> None:
    """Write every model as a file that import reads: exporting and importing changes nothing.

    Example: gatewayctl catalog export > model_catalog.json
    """
    from db import catalog_file

    context.open_database()
    text = catalog_file.export()
    if file is None:
        output.text(text)
        return
    try:
        Path(file).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise Usage(f"{file} cannot be written: {error.strerror}", "Choose another place") from error
    output.note(f"Written to {file}.")


@app.command()
def validate(file: str = FILE) -> None:
    """Check a file without a database: form, names, meters, prices.

    Example: gatewayctl catalog validate model_catalog.json
    """
    from db import catalog_file

    entries = catalog_file.parse(_read(file))
    output.record({"ok": True, "models": len(entries)}, id="models")
