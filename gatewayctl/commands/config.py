"""`config`: settings, their values and sources, and the file that keeps them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from db import settings
from db.backup import without_password
from db.errors import Invalid
from gatewayctl import context, output, parse
from gatewayctl.errors import Usage

app = typer.Typer()
NAME = typer.Argument(metavar="NAME", help="See: gatewayctl config show")


def _shown(row: settings.Row, value: Any) -> Any:
    """As it may be printed: no secret, no password."""
    if row.secret:
        return "…" if value else ""
    if row.name == "db":
        return without_password(value)
    return list(value) if isinstance(value, tuple) else value


def _row(name: str, loaded: settings.Loaded) -> dict[str, Any]:
    row = settings.row(name)
    return {
        "name": name,
        "value": _shown(row, getattr(loaded.values, name)),
        "source": loaded.sources[name],
        "default": _shown(row, row.default),
        "variable": row.variable,
        "help": row.help,
    }


@app.command("show")
def show(name: str | None = typer.Argument(None, metavar="[NAME]", help="One setting only.")) -> None:
    """Every setting, its value and where it came from: flag, environment, config.toml or default.

    Example: gatewayctl config show
    """
    loaded = context.loaded_settings()
    if name is not None:
        return output.record(_row(name, loaded), id="value")
    rows = [_row(one, loaded) for one in settings.TABLE]
    return output.rows(rows, ("name", "value", "source", "help"), id="name")


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_value(
    name: str = NAME,
    value: str | None = typer.Argument(None, metavar="VALUE", help="Not for secrets."),
    from_env: str | None = typer.Option(None, "--from-env", metavar="VAR", help="Take the value from a variable."),
    from_file: str | None = typer.Option(None, "--from-file", metavar="PATH", help="From a file; - is standard input."),
) -> None:
    """Write a setting to config.toml. A running gateway reads it when it starts next.

    Example: gatewayctl config set port 9000
    """
    row = settings.row(name)
    if value is not None and (from_env or from_file):
        raise Usage("The value is given twice", "Give VALUE, --from-env or --from-file")
    if value is None:
        value = parse.secret(from_env, from_file)
    elif row.secret or (name == "db" and without_password(value) != value):
        raise Usage(f"{name} holds a secret, which must not stand in arguments", "Use --from-env VAR or --from-file PATH")
    parsed = settings.parse(name, value)
    _write(name, list(parsed) if isinstance(parsed, tuple) else parsed)
    loaded = context.loaded_settings()
    output.record(_row(name, loaded), id="value")
    if loaded.sources[name] != "config.toml":
        output.warn(f"{row.variable} is set in the environment and stays stronger than config.toml")


@app.command("unset")
def unset(name: str = NAME) -> None:
    """Remove a setting from config.toml, so that the default holds again.

    Example: gatewayctl config unset port
    """
    settings.row(name)
    _write(name, None)
    output.record(_row(name, context.loaded_settings()), id="value")


def _write(name: str, value: Any) -> None:
    """Change one line of config.toml and keep the rest, comments included. The file is replaced whole, mode 0600."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    home = context.home()
    if not home.is_dir():
        raise Invalid(f"There is no directory {home}", "Run: gatewayctl init")
    path = home / settings.CONFIG_FILE
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}", "Correct the file, then try again") from error
    if value is None:
        if name not in document:
            return
        del document[name]
    else:
        document[name] = value
    _replace(path, tomlkit.dumps(document))


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
